// SEAM 3: talking to other ranks. Collectives are non-blocking: they return a Request that is
// polled until done or until its deadline passes, which throws with the names of the ranks that
// stayed silent; it counts from the last beat of another rank of the node (core/heartbeat.h). What
// MPI itself reports is thrown, too. Every reduction folds the ranks' parts in rank order, in fp32
// or fp64, so its result does not depend on timing and is bitwise equal on all ranks. Called from
// the main thread only.
#pragma once

#include "core/device.h"
#include "core/tensor.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ft {

// What a backend has under way.
class Pending {
 public:
  virtual ~Pending() = default;
  virtual bool test() = 0;          // progress without waiting; true when done
  virtual void wait() = 0;          // until done, or throws ft::Error at the deadline
  virtual bool broken() const = 0;  // something has failed: nothing is to be waited for any more
};

// A handle of it. The destructor of an unfinished request of a living world waits for it.
class Request {
 public:
  Request() = default;  // done
  explicit Request(std::unique_ptr<Pending> pending);
  Request(Request&&) noexcept;
  Request& operator=(Request&&) noexcept;
  ~Request();
  bool test();
  void wait();

 private:
  std::unique_ptr<Pending> pending_;
};

enum class Reduce : uint8_t { Sum, Max, Min };

// One of several data that are reduced at once.
struct ReducePart {
  Tensor data;
  Reduce reduce;
};

// A set of ranks that talk together. A group of one makes every operation the identity.
class Group {
 public:
  virtual ~Group() = default;
  virtual int rank() const = 0;  // mine, within the group
  virtual int size() const = 0;

  // Sum of fp32/fp64, or Max/Min of fp32/fp64/int32/int64, in place, on all ranks.
  virtual Request all_reduce(const Tensor& data, Reduce reduce) = 0;
  // The same for each part, in one exchange. For few numbers: every rank is sent all of every
  // other.
  virtual Request all_reduce(const std::vector<ReducePart>& parts) = 0;
  // out [size * n] = the ranks' in [n], in rank order; any dtype.
  virtual Request all_gather(const Tensor& out, const Tensor& in) = 0;
  // out [n] = sum over ranks of their in[rank * n ...]; in [size * n] fp32.
  virtual Request reduce_scatter(const Tensor& out, const Tensor& in) = 0;
  virtual Request broadcast(const Tensor& data, int root) = 0;
  virtual Request send(const Tensor& data, int to, int tag) = 0;
  virtual Request receive(const Tensor& data, int from, int tag) = 0;
  virtual Request barrier() = 0;
};

// Small host-side helpers built on the above (blocking).
double all_sum(Group& group, double value);
int64_t all_sum(Group& group, int64_t value);
double all_max(Group& group, double value);
int64_t all_max(Group& group, int64_t value);
std::string broadcast_text(Group& group, const std::string& text,
                           int root);  // root's text on all ranks
std::vector<std::string> gather_text(Group& group,
                                     const std::string& text);  // every rank's text, on all ranks

// The whole job. Starts MPI where a launcher started us, else a world of one; ends it orderly.
// Starting, splitting and ending cannot be polled: where they hang, the process ends with a message.
class World {
 public:
  static std::unique_ptr<World> open(int* argc, char*** argv);
  virtual ~World() = default;
  virtual Group& all() = 0;  // every rank
  virtual std::unique_ptr<Group> split(
      int color, int key) = 0;         // collective; ranks of equal color, ordered by key
  virtual int local_rank() const = 0;  // among the ranks of this node
  virtual int local_size() const = 0;
  virtual void set_timeout(double seconds) = 0;  // deadline of every wait from now on (run.timeout)
  virtual void set_exit_code(int code) = 0;      // what this process ends with, where ending hangs
  [[noreturn]] virtual void abort(int exit_code) = 0;  // ends all ranks at once
};

std::string mpi_library();  // name and version

}  // namespace ft

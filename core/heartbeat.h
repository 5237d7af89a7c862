// Signs of life, and an end for what gives none. Long local work (reading, hashing, saving, the ops
// of a step) beats; ranks that wait go on waiting for as long as another rank of their node beats.
// One call that may never return, to storage or to MPI, is marked by a scope: a thread of its own
// looks at these and ends the process with a message when one of them has taken too long. That
// thread beats for storage that is merely slow. Time in which the process itself was stopped does
// not count.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace ft {

// This rank got on with its work. Cheap, from any thread.
void beat() noexcept;

// How long a wait has gone on. Time in which this process was stopped does not count.
class Patience {
 public:
  double spent();            // seconds
  double spent_on_others();  // seconds since the last beat of another rank of this node

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  int64_t seen_ = 0;
  double spent_ = 0;
};

// A call that some thread is in. Marks may be nested and come from several threads at once.
class MarkedCall {
 public:
  MarkedCall(const MarkedCall&) = delete;
  MarkedCall& operator=(const MarkedCall&) = delete;
  struct Watch;  // who looks at them

 protected:
  MarkedCall(const char* what, const std::string* path, double at_least, int exit_code);
  ~MarkedCall();

 private:
  const char* what_;
  const std::string* path_;  // of storage; null: ranks
  double at_least_;
  int exit_code_;
  Patience patience_;
  MarkedCall *before_ = nullptr, *after_ = nullptr;
};

// `what` to `path` (open, write, fsync, ...): may take max(run.timeout, 30 s). Not for terminals
// and pipes, whose other end may well pause.
class StorageCall : MarkedCall {
 public:
  StorageCall(const char* what, const std::string& path) : MarkedCall(what, &path, 0, 1) {}
  StorageCall(const char* what, std::string&& path) = delete;  // it is not copied
};

// A call to MPI that waits for other ranks and cannot be polled: run.timeout, or at_least, seconds
// after the last beat of another rank. exit_code is what the process ends with.
class RankCall : MarkedCall {
 public:
  explicit RankCall(const char* what, double at_least = 0, int exit_code = 1)
      : MarkedCall(what, nullptr, at_least, exit_code) {}
};

// The state of a rank in memory that the ranks of a node share.
struct Stamp {
  std::atomic<int64_t> worked{0};  // last beat; CLOCK_MONOTONIC, one clock for a node
  std::atomic<int64_t> waited{0};  // last time it was seen to wait for others
  std::atomic<int64_t> rank{0};
};

namespace heartbeat {

void set_timeout(double seconds);  // run.timeout
double timeout();
double start_timeout();  // for the start of all ranks: run.timeout, but 15 s at least

// Ranks of one job on one node know one another by `job`; empty: this process is alone.
void join(const std::string& job);
void set_rank(int rank);
// The stamps of the ranks of this node, which stay where they are until the process ends.
void share(Stamp* mine, std::vector<Stamp*> all);
void wait_on() noexcept;  // this rank is alive and waits
// " Silent on this node: rank 1, 2.": who neither worked nor waited for half of the timeout.
std::string silent();
std::string no_answer(const std::string& what, double seconds);  // what is said of such an end
// What only one rank of the node should tell: true for the first that asks, and in one that is
// alone. It may be asked in a signal handler.
bool claim_word() noexcept;
bool is_alone() noexcept;
// Says `text`, unless another rank of the node is speaking, and ends the process.
[[noreturn]] void end_process(const std::string& text, int exit_code);

}  // namespace heartbeat

}  // namespace ft

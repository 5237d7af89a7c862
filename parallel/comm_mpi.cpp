// Groups over MPI. Reductions: every rank receives the others' parts of its slice, folds them in rank order, and
// the folded slices are gathered; so the result is bitwise equal everywhere and does not depend on timing.
#include "parallel/comm.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>

namespace ft {

// A chain of non-blocking stages: each starts after the one before is done.
class Request::Impl {
 public:
  using Stage = std::function<std::vector<MPI_Request>()>;
  Impl(std::vector<Stage> stages, const double* timeout, std::string what)
      : stages_(std::move(stages)), timeout_(timeout), what_(std::move(what)) {}

  bool test() {
    while (true) {
      if (!pending_.empty()) {
        int done = 0;
        MPI_Testall(static_cast<int>(pending_.size()), pending_.data(), &done, MPI_STATUSES_IGNORE);
        if (!done) return false;
        pending_.clear();
      }
      if (next_ == stages_.size()) return true;
      pending_ = stages_[next_++]();
    }
  }

  void wait() {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t polls = 0; !test(); ++polls) {
      if (polls < 2000) continue;
      ::usleep(polls < 4000 ? 1 : 50);
      const double waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      FT_CHECK(waited < *timeout_, "{}: no answer from other ranks within {} s (run.timeout). A rank has stopped or "
               "hangs; look at the last line of each rank's output", what_, *timeout_);
    }
  }

 private:
  std::vector<Stage> stages_;
  size_t next_ = 0;
  std::vector<MPI_Request> pending_;
  const double* timeout_;
  std::string what_;
};

Request::Request() = default;
Request::Request(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Request::Request(Request&&) noexcept = default;
Request& Request::operator=(Request&&) noexcept = default;
Request::~Request() = default;
bool Request::test() { return !impl_ || impl_->test(); }
void Request::wait() {
  if (impl_) impl_->wait();
  impl_.reset();
}

namespace {

constexpr int64_t kMessageBytes = 1 << 30;   // MPI counts are int: longer messages go in parts
constexpr int kTagReduce = 7001, kTagGather = 7002, kTagBroadcast = 7003, kTagUser = 8000;

// The part of `count` elements that `rank` of `size` folds.
std::pair<int64_t, int64_t> slice(int64_t count, int size, int rank) {
  const int64_t per = (count + size - 1) / size;
  return {std::min(count, per * rank), std::min(count, per * (rank + 1))};
}

template <class E>
void fold_into(E* to, const E* from, int64_t n, Reduce reduce) {
  for (int64_t i = 0; i < n; ++i) {
    if (reduce == Reduce::Sum) to[i] += from[i];
    else if (reduce == Reduce::Max) to[i] = from[i] > to[i] || from[i] != from[i] ? from[i] : to[i];   // NaN wins
    else to[i] = from[i] < to[i] || from[i] != from[i] ? from[i] : to[i];
  }
}

void fold(Dtype dtype, void* to, const void* from, int64_t n, Reduce reduce) {
  switch (dtype) {
    case Dtype::F32: return fold_into(static_cast<float*>(to), static_cast<const float*>(from), n, reduce);
    case Dtype::F64: return fold_into(static_cast<double*>(to), static_cast<const double*>(from), n, reduce);
    case Dtype::I32: return fold_into(static_cast<int32_t*>(to), static_cast<const int32_t*>(from), n, reduce);
    case Dtype::I64: return fold_into(static_cast<int64_t*>(to), static_cast<const int64_t*>(from), n, reduce);
    default: throw Error(fmt::format("no reduction over {}", name_of(dtype)));
  }
}

class MpiGroup : public Group {
 public:
  MpiGroup(MPI_Comm comm, const double* timeout) : comm_(comm), timeout_(timeout) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiGroup() override {
    if (comm_ != MPI_COMM_WORLD) MPI_Comm_free(&comm_);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Request all_reduce(const Tensor& data, Reduce reduce) override {
    if (size_ == 1) return {};
    auto* base = static_cast<char*>(data.data);
    const int64_t count = data.size(), element = size_of(data.dtype);
    const Dtype dtype = data.dtype;
    const auto [begin, end] = slice(count, size_, rank_);
    return request("all_reduce",
                   {[=, this] { return exchange(base, count, element); },
                    [=, this, begin = begin, end = end] {
                      fold_parts(base + begin * element, begin, end, dtype, reduce);
                      return share(base, count, element);
                    }});
  }

  Request all_gather(const Tensor& out, const Tensor& in) override {
    const int64_t bytes = in.bytes();
    auto* to = static_cast<char*>(out.data);
    std::memmove(to + rank_ * bytes, in.data, static_cast<size_t>(bytes));
    if (size_ == 1) return {};
    return request("all_gather", {[=, this] { return share(to, out.bytes(), 1, bytes); }});
  }

  Request reduce_scatter(const Tensor& out, const Tensor& in) override {
    const int64_t n = out.size();
    auto* base = static_cast<char*>(in.data);
    if (size_ == 1) {
      std::memmove(out.data, in.data, static_cast<size_t>(out.bytes()));
      return {};
    }
    return request("reduce_scatter", {[=, this] { return exchange(base, n * size_, 4); },
                                      [=, this] {
                                        std::memmove(out.data, base + rank_ * n * 4, static_cast<size_t>(n) * 4);
                                        fold_parts(static_cast<char*>(out.data), rank_ * n, (rank_ + 1) * n, Dtype::F32,
                                                   Reduce::Sum);
                                        return std::vector<MPI_Request>{};
                                      }});
  }

  Request broadcast(const Tensor& data, int root) override {
    if (size_ == 1) return {};
    return request("broadcast", {[=, this] {
                     std::vector<MPI_Request> all;
                     if (rank_ != root) receive_into(all, data.data, data.bytes(), root, kTagBroadcast);
                     for (int r = 0; rank_ == root && r < size_; ++r)
                       if (r != root) send_from(all, data.data, data.bytes(), r, kTagBroadcast);
                     return all;
                   }});
  }

  Request send(const Tensor& data, int to, int tag) override {
    return request("send", {[=, this] {
                     std::vector<MPI_Request> all;
                     send_from(all, data.data, data.bytes(), to, kTagUser + tag);
                     return all;
                   }});
  }
  Request receive(const Tensor& data, int from, int tag) override {
    return request("receive", {[=, this] {
                     std::vector<MPI_Request> all;
                     receive_into(all, data.data, data.bytes(), from, kTagUser + tag);
                     return all;
                   }});
  }
  Request barrier() override {
    if (size_ == 1) return {};
    return request("barrier", {[this] {
                     std::vector<MPI_Request> one(1);
                     MPI_Ibarrier(comm_, one.data());
                     return one;
                   }});
  }

 private:
  Request request(const char* what, std::vector<Request::Impl::Stage> stages) {
    auto impl = std::make_unique<Request::Impl>(std::move(stages), timeout_, fmt::format("rank {}: {}", rank_, what));
    impl->test();   // the first stage starts now
    return Request(std::move(impl));
  }

  void send_from(std::vector<MPI_Request>& all, const void* data, int64_t bytes, int to, int tag) {
    for (int64_t at = 0; at < bytes; at += kMessageBytes) {
      all.emplace_back();
      MPI_Isend(static_cast<const char*>(data) + at, static_cast<int>(std::min(kMessageBytes, bytes - at)), MPI_BYTE, to,
                tag, comm_, &all.back());
    }
  }
  void receive_into(std::vector<MPI_Request>& all, void* data, int64_t bytes, int from, int tag) {
    for (int64_t at = 0; at < bytes; at += kMessageBytes) {
      all.emplace_back();
      MPI_Irecv(static_cast<char*>(data) + at, static_cast<int>(std::min(kMessageBytes, bytes - at)), MPI_BYTE, from,
                tag, comm_, &all.back());
    }
  }

  // Everybody's parts of my slice into parts_, one after another in rank order (mine stays where it is).
  std::vector<MPI_Request> exchange(char* base, int64_t count, int64_t element) {
    const auto [begin, end] = slice(count, size_, rank_);
    const int64_t mine = (end - begin) * element;
    if (static_cast<int64_t>(parts_.size()) < mine * size_) parts_.resize(static_cast<size_t>(mine * size_));
    std::vector<MPI_Request> all;
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      receive_into(all, parts_.data() + r * mine, mine, r, kTagReduce);
      const auto [b, e] = slice(count, size_, r);
      send_from(all, base + b * element, (e - b) * element, r, kTagReduce);
    }
    return all;
  }

  // `mine` becomes the fold of all ranks' parts, rank 0 first.
  void fold_parts(char* mine, int64_t begin, int64_t end, Dtype dtype, Reduce reduce) {
    const int64_t n = end - begin, bytes = n * size_of(dtype);
    std::memcpy(parts_.data() + rank_ * bytes, mine, static_cast<size_t>(bytes));
    std::memcpy(mine, parts_.data(), static_cast<size_t>(bytes));
    for (int r = 1; r < size_; ++r) fold(dtype, mine, parts_.data() + r * bytes, n, reduce);
  }

  // My slice to everybody, theirs to me. per: bytes of a slice, where they are equal.
  std::vector<MPI_Request> share(char* base, int64_t count, int64_t element, int64_t per = -1) {
    const auto range = [&](int r) {
      return per >= 0 ? std::pair<int64_t, int64_t>(r * per, (r + 1) * per) : slice(count, size_, r);
    };
    const int64_t unit = per >= 0 ? 1 : element;
    std::vector<MPI_Request> all;
    const auto [begin, end] = range(rank_);
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      const auto [b, e] = range(r);
      receive_into(all, base + b * unit, (e - b) * unit, r, kTagGather);
      send_from(all, base + begin * unit, (end - begin) * unit, r, kTagGather);
    }
    return all;
  }

  MPI_Comm comm_;
  const double* timeout_;
  int rank_ = 0, size_ = 1;
  std::vector<char> parts_;
};

bool launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"})
    if (std::getenv(name)) return true;
  return false;
}

// A process that no launcher started: a world of one, without MPI.
class LoneGroup : public Group {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Request all_reduce(const Tensor&, Reduce) override { return {}; }
  Request all_gather(const Tensor& out, const Tensor& in) override { return copy(out, in); }
  Request reduce_scatter(const Tensor& out, const Tensor& in) override { return copy(out, in); }
  Request broadcast(const Tensor&, int) override { return {}; }
  Request send(const Tensor&, int to, int) override { throw Error(fmt::format("send to rank {} of 1", to)); }
  Request receive(const Tensor&, int from, int) override { throw Error(fmt::format("receive from rank {} of 1", from)); }
  Request barrier() override { return {}; }

 private:
  static Request copy(const Tensor& out, const Tensor& in) {
    std::memmove(out.data, in.data, static_cast<size_t>(in.bytes()));
    return {};
  }
};

class LoneWorld : public World {
 public:
  Group& all() override { return group_; }
  std::unique_ptr<Group> split(int, int) override { return std::make_unique<LoneGroup>(); }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  void set_timeout(double) override {}
  void abort(int exit_code) override { std::_Exit(exit_code); }

 private:
  LoneGroup group_;
};

class MpiWorld : public World {
 public:
  MpiWorld(int* argc, char*** argv) {
    int provided = 0;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    group_ = std::make_unique<MpiGroup>(MPI_COMM_WORLD, &timeout_);
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, group_->rank(), MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &local_rank_);
    MPI_Comm_size(node, &local_size_);
    MPI_Comm_free(&node);
  }
  ~MpiWorld() override {
    group_.reset();
    MPI_Finalize();
  }
  Group& all() override { return *group_; }
  std::unique_ptr<Group> split(int color, int key) override {
    MPI_Comm comm;
    MPI_Comm_split(MPI_COMM_WORLD, color, key, &comm);
    return std::make_unique<MpiGroup>(comm, &timeout_);
  }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  void set_timeout(double seconds) override { timeout_ = seconds; }
  void abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  double timeout_ = 600;   // seconds; outlives the groups that point at it
  std::unique_ptr<MpiGroup> group_;
  int local_rank_ = 0, local_size_ = 1;
};

}  // namespace

std::unique_ptr<World> World::open(int* argc, char*** argv) {
  if (launched()) return std::make_unique<MpiWorld>(argc, argv);
  return std::make_unique<LoneWorld>();
}

}  // namespace ft

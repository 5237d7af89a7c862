// Groups over MPI. Reductions: every rank receives the others' parts of its slice, folds them in
// rank order, and the folded slices are gathered; so the result is bitwise equal everywhere and
// does not depend on timing.
#include "parallel/comm/mpi_group.h"

#include "parallel/comm/mpi_request.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ft {

namespace {

constexpr int64_t kMessageBytes = 1 << 30;  // MPI counts are int: longer messages go in parts
// Collectives are started in the same order on all ranks of a group; their number in that order is
// their tag, so that several can be under way and be finished in any order.
constexpr int kStages = 2, kTagsOfCollectives = 4096 * kStages, kTagUser = kTagsOfCollectives;

// Memory that one request needs while it runs; kept by its group for later requests.
struct Scratch {
  std::vector<char> parts;
  bool free = true;
};
struct Lease {
  Scratch* scratch;
  explicit Lease(Scratch* s) : scratch(s) { s->free = false; }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() { scratch->free = true; }
};

// The part of `count` elements that `rank` of `size` folds.
std::pair<int64_t, int64_t> slice(int64_t count, int size, int rank) {
  const int64_t per = (count + size - 1) / size;
  return {std::min(count, per * rank), std::min(count, per * (rank + 1))};
}

template <class E>
bool is_nan(E value) {
  if constexpr (std::is_floating_point_v<E>) return std::isnan(value);
  else return false;
}

template <class E>
void fold_into(E* to, const E* from, int64_t n, Reduce reduce) {
  for (int64_t i = 0; i < n; ++i) {
    if (reduce == Reduce::Sum) to[i] += from[i];
    else if (reduce == Reduce::Max)
      to[i] = from[i] > to[i] || is_nan(from[i]) ? from[i] : to[i];  // NaN wins
    else to[i] = from[i] < to[i] || is_nan(from[i]) ? from[i] : to[i];
  }
}

void fold(Dtype dtype, void* to, const void* from, int64_t n, Reduce reduce) {
  switch (dtype) {
    case Dtype::F32:
      return fold_into(static_cast<float*>(to), static_cast<const float*>(from), n, reduce);
    case Dtype::F64:
      return fold_into(static_cast<double*>(to), static_cast<const double*>(from), n, reduce);
    case Dtype::I32:
      return fold_into(static_cast<int32_t*>(to), static_cast<const int32_t*>(from), n, reduce);
    case Dtype::I64:
      return fold_into(static_cast<int64_t*>(to), static_cast<const int64_t*>(from), n, reduce);
    default:
      throw Error(fmt::format("no reduction over {}", name_of(dtype)));
  }
}

class MpiGroup : public Group {
 public:
  MpiGroup(MPI_Comm comm, bool* broken) : comm_(comm), broken_(broken) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  // Freeing asks for the others; where something has failed, they may not come.
  ~MpiGroup() override {
    if (comm_ == MPI_COMM_WORLD || *broken_ || std::uncaught_exceptions() > 0) return;
    const RankCall call("MPI_Comm_free");
    MPI_Comm_free(&comm_);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Request all_reduce(const Tensor& data, Reduce reduce) override {
    if (size_ == 1) return {};
    auto* base = static_cast<char*>(data.data);
    const int64_t count = data.size(), element = size_of(data.dtype);
    const Dtype dtype = data.dtype;
    const auto [begin, end] = slice(count, size_, rank_);
    const int tag = next_tag();
    const auto lease = borrow();
    return request("all_reduce",
                   {[=, this] { return exchange(*lease->scratch, base, count, element, tag); },
                    [=, this, begin = begin, end = end] {
                      fold_parts(*lease->scratch, base + begin * element, begin, end, dtype,
                                 reduce);
                      return share(base, count, element, tag + 1);
                    }});
  }

  Request all_reduce(const std::vector<ReducePart>& parts) override {
    if (size_ == 1) return {};
    int64_t bytes = 0;  // of a rank's parts, each where any number may begin
    for (const ReducePart& p : parts) bytes += padded_bytes(p.data);
    const int tag = next_tag();
    const auto lease = borrow();
    return request("all_reduce",
                   {[=, this] {
                      std::vector<char>& all = lease->scratch->parts;
                      all.resize(std::max(all.size(), static_cast<size_t>(bytes * size_)));
                      char* at = all.data() + rank_ * bytes;
                      for (const ReducePart& p : parts) {
                        std::memcpy(at, p.data.data, static_cast<size_t>(p.data.bytes()));
                        at += padded_bytes(p.data);
                      }
                      return share(all.data(), bytes * size_, 1, tag, bytes);
                    },
                    [=, this] {
                      const char* at = lease->scratch->parts.data();
                      for (const ReducePart& p : parts) {
                        fold_ranks(p, at, bytes);
                        at += padded_bytes(p.data);
                      }
                      return std::vector<MPI_Request>{};
                    }});
  }

  Request all_gather(const Tensor& out, const Tensor& in) override {
    const int64_t bytes = in.bytes();
    auto* to = static_cast<char*>(out.data);
    std::memmove(to + rank_ * bytes, in.data, static_cast<size_t>(bytes));
    if (size_ == 1) return {};
    const int tag = next_tag();
    return request("all_gather", {[=, this] { return share(to, out.bytes(), 1, tag, bytes); }});
  }

  Request reduce_scatter(const Tensor& out, const Tensor& in) override {
    const int64_t n = out.size();
    auto* base = static_cast<char*>(in.data);
    if (size_ == 1) {
      std::memmove(out.data, in.data, static_cast<size_t>(out.bytes()));
      return {};
    }
    const int tag = next_tag();
    const auto lease = borrow();
    return request("reduce_scatter",
                   {[=, this] { return exchange(*lease->scratch, base, n * size_, 4, tag); },
                    [=, this] {
                      std::memmove(out.data, base + rank_ * n * 4, static_cast<size_t>(n) * 4);
                      fold_parts(*lease->scratch, static_cast<char*>(out.data), rank_ * n,
                                 (rank_ + 1) * n, Dtype::F32, Reduce::Sum);
                      return std::vector<MPI_Request>{};
                    }});
  }

  Request broadcast(const Tensor& data, int root) override {
    if (size_ == 1) return {};
    const int tag = next_tag();
    return request("broadcast", {[=, this] {
                     std::vector<MPI_Request> all;
                     if (rank_ != root) receive_into(all, data.data, data.bytes(), root, tag);
                     for (int r = 0; rank_ == root && r < size_; ++r)
                       if (r != root) send_from(all, data.data, data.bytes(), r, tag);
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
                     detail::check_mpi(MPI_Ibarrier(comm_, one.data()), "barrier");
                     return one;
                   }});
  }

 private:
  Request request(const char* what, std::vector<MpiChain::Stage> stages) {
    auto chain = std::make_unique<MpiChain>(std::move(stages), broken_,
                                            fmt::format("rank {}: {}", rank_, what));
    chain->test();  // the first stage starts now
    return Request(std::move(chain));
  }

  int next_tag() { return static_cast<int>(started_++ % (kTagsOfCollectives / kStages)) * kStages; }

  std::shared_ptr<Lease> borrow() {
    for (const auto& s : scratch_)
      if (s->free) return std::make_shared<Lease>(s.get());
    scratch_.push_back(std::make_unique<Scratch>());
    return std::make_shared<Lease>(scratch_.back().get());
  }

  void send_from(std::vector<MPI_Request>& all, const void* data, int64_t bytes, int to, int tag) {
    for (int64_t at = 0; at < bytes; at += kMessageBytes) {
      all.emplace_back();
      const int n = static_cast<int>(std::min(kMessageBytes, bytes - at));
      detail::check_mpi(
          MPI_Isend(static_cast<const char*>(data) + at, n, MPI_BYTE, to, tag, comm_, &all.back()),
          fmt::format("rank {}: send to rank {}", rank_, to));
    }
  }
  void receive_into(std::vector<MPI_Request>& all, void* data, int64_t bytes, int from, int tag) {
    for (int64_t at = 0; at < bytes; at += kMessageBytes) {
      all.emplace_back();
      const int n = static_cast<int>(std::min(kMessageBytes, bytes - at));
      detail::check_mpi(
          MPI_Irecv(static_cast<char*>(data) + at, n, MPI_BYTE, from, tag, comm_, &all.back()),
          fmt::format("rank {}: receive from rank {}", rank_, from));
    }
  }

  // Everybody's parts of my slice into the scratch, one after another in rank order (mine stays
  // where it is).
  std::vector<MPI_Request> exchange(Scratch& scratch, char* base, int64_t count, int64_t element,
                                    int tag) {
    const auto [begin, end] = slice(count, size_, rank_);
    const int64_t mine = (end - begin) * element;
    std::vector<char>& parts = scratch.parts;
    if (static_cast<int64_t>(parts.size()) < mine * size_)
      parts.resize(static_cast<size_t>(mine * size_));
    std::vector<MPI_Request> all;
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      receive_into(all, parts.data() + r * mine, mine, r, tag);
      const auto [b, e] = slice(count, size_, r);
      send_from(all, base + b * element, (e - b) * element, r, tag);
    }
    return all;
  }

  // `mine` becomes the fold of all ranks' parts, rank 0 first.
  void fold_parts(Scratch& scratch, char* mine, int64_t begin, int64_t end, Dtype dtype,
                  Reduce reduce) {
    std::vector<char>& parts = scratch.parts;
    const int64_t n = end - begin, bytes = n * size_of(dtype);
    if (n == 0) return;
    std::memcpy(parts.data() + rank_ * bytes, mine, static_cast<size_t>(bytes));
    std::memcpy(mine, parts.data(), static_cast<size_t>(bytes));
    for (int r = 1; r < size_; ++r) fold(dtype, mine, parts.data() + r * bytes, n, reduce);
  }

  static int64_t padded_bytes(const Tensor& t) { return (t.bytes() + 7) / 8 * 8; }

  // The fold of all ranks' parts, rank 0 first; they lie `pitch` bytes apart.
  void fold_ranks(const ReducePart& p, const char* from, int64_t pitch) const {
    std::memcpy(p.data.data, from, static_cast<size_t>(p.data.bytes()));
    for (int r = 1; r < size_; ++r)
      fold(p.data.dtype, p.data.data, from + r * pitch, p.data.size(), p.reduce);
  }

  // My slice to everybody, theirs to me. per: bytes of a slice, where they are equal.
  std::vector<MPI_Request> share(char* base, int64_t count, int64_t element, int tag,
                                 int64_t per = -1) {
    const auto range = [&](int r) {
      return per >= 0 ? std::pair<int64_t, int64_t>(r * per, (r + 1) * per)
                      : slice(count, size_, r);
    };
    const int64_t unit = per >= 0 ? 1 : element;
    std::vector<MPI_Request> all;
    const auto [begin, end] = range(rank_);
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      const auto [b, e] = range(r);
      receive_into(all, base + b * unit, (e - b) * unit, r, tag);
      send_from(all, base + begin * unit, (end - begin) * unit, r, tag);
    }
    return all;
  }

  MPI_Comm comm_;
  bool* broken_;
  int rank_ = 0, size_ = 1;
  uint64_t started_ = 0;                           // collectives
  std::vector<std::unique_ptr<Scratch>> scratch_;  // as many as were under way at once
};

}  // namespace

std::unique_ptr<Group> mpi_group(MPI_Comm comm, bool* broken) {
  return std::make_unique<MpiGroup>(comm, broken);
}

}  // namespace ft

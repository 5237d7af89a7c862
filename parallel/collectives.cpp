#include "parallel/collectives.h"

#include "core/check.h"

#include <algorithm>
#include <utility>

namespace ft {

namespace ops {

// Each rank sends its part of everybody's slice, then its folded slice to everybody.
double AllReduce::link_bytes() const {
  const double ranks = group.size();
  return 2 * static_cast<double>(data.bytes()) * (ranks - 1) / ranks;
}

void AllReduce::run(Stream) const {
  const int64_t n = data.size();
  Request before;
  for (int64_t begin = 0; begin < n; begin += kBucket) {
    Request next = group.all_reduce(data.row_range(begin, std::min(n, begin + kBucket)), reduce);
    before.wait();
    before = std::move(next);
  }
  before.wait();
}

// Of the two buckets under way, the ranks' parts of this rank's slice.
int64_t AllReduce::workspace(int64_t n, Dtype dtype, int ranks) {
  if (ranks == 1) return 0;
  const int64_t first = std::min(n, kBucket), second = std::min(n - first, kBucket);
  const auto parts = [&](int64_t count) { return (count + ranks - 1) / ranks * ranks; };
  return (parts(first) + parts(second)) * size_of(dtype);
}

void AllReduceParts::check() const {
  for (const Part& p : parts) check_dense(p.name, p.data, kF32 | kF64, {kAny});
}

double AllReduceParts::link_bytes() const {
  double bytes = 0;
  for (const Part& p : parts) bytes += static_cast<double>(p.data.bytes());
  return bytes * (group.size() - 1);
}

void AllReduceParts::run(Stream) const {
  std::vector<ReducePart> all;
  for (const Part& p : parts) all.push_back({p.data, p.reduce});
  group.all_reduce(all).wait();
}

}  // namespace ops

namespace {

class CountedGroup : public Group {
 public:
  explicit CountedGroup(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  Request all_reduce(const Tensor&, Reduce) override { refuse(); }
  Request all_reduce(const std::vector<ReducePart>&) override { refuse(); }
  Request all_gather(const Tensor&, const Tensor&) override { refuse(); }
  Request reduce_scatter(const Tensor&, const Tensor&) override { refuse(); }
  Request broadcast(const Tensor&, int) override { refuse(); }
  Request send(const Tensor&, int, int) override { refuse(); }
  Request receive(const Tensor&, int, int) override { refuse(); }
  Request barrier() override { refuse(); }

 private:
  [[noreturn]] static void refuse() { throw Error("a group that is only counted cannot talk"); }
  int size_;
};

}  // namespace

std::unique_ptr<Group> counted_group(int size) { return std::make_unique<CountedGroup>(size); }

}  // namespace ft

// Collectives as ops of the gateway.
#include "parallel/collectives.h"

#include "core/context.h"
#include "core/memory.h"
#include "cpu/device.h"
#include "tests/catch.h"
#include "tests/world.h"

#include <vector>

using namespace ft;
using namespace ft::test;

namespace {

struct Names : Observer {
  std::vector<std::string> seen;
  void before(const std::string& where, const char* op) override {
    seen.push_back(where + ": " + op);
  }
  void after(const std::string&, const char*, const std::vector<Seen>&, double, double) override {}
};

}  // namespace

TEST_CASE("an all_reduce of several buckets is the fold in rank order, seen and counted", "[mpi]") {
  Group& all = world().all();
  const auto device = cpu::open_device(1);
  Scratch scratch;
  Ctx c(*device, scratch, true);
  Names names;
  c.observer = &names, c.where = "gradients";
  const int64_t n = ops::AllReduce::kBucket + 5;
  std::vector<float> values(static_cast<size_t>(n)), wanted(values.size());
  const auto value = [](int rank, int64_t i) {
    return 1.0f / static_cast<float>(1 + rank + i % 1000);
  };
  for (int64_t i = 0; i < n; ++i) {
    values[static_cast<size_t>(i)] = value(all.rank(), i);
    for (int r = 0; r < all.size(); ++r) wanted[static_cast<size_t>(i)] += value(r, i);
  }
  c(ops::AllReduce{.data = Tensor(values.data(), Dtype::F32, {n}), .group = all});
  CHECK(values == wanted);
  CHECK(names.seen == std::vector<std::string>{"gradients: all_reduce"});
  const double bytes = 4.0 * static_cast<double>(n), ranks = all.size();
  CHECK(c.tally.link_bytes == 2 * bytes * (ranks - 1) / ranks);
}

TEST_CASE("parts that are reduced at once are one op with names", "[mpi]") {
  Group& all = world().all();
  const auto device = cpu::open_device(1);
  Scratch scratch;
  Ctx c(*device, scratch, true);
  Names names;
  c.observer = &names, c.where = "word";
  double sum = 1;
  float peak = static_cast<float>(all.rank());
  const auto word = [&](Dtype dtype) {
    return ops::AllReduceParts{.parts = {{"sum", Tensor(&sum, Dtype::F64, {1})},
                                         {"peak", Tensor(&peak, dtype, {1}), Reduce::Max}},
                               .group = all};
  };
  c(word(Dtype::F32));
  CHECK(sum == all.size());
  CHECK(peak == static_cast<float>(all.size() - 1));
  CHECK(names.seen == std::vector<std::string>{"word: all_reduce_parts"});
  CHECK(c.tally.link_bytes == 12.0 * (all.size() - 1));
  CHECK_THROWS_WITH(c(word(Dtype::I32)),
                    "word: all_reduce_parts: peak is int32 [1], wanted fp32 or fp64 [any]");
}

TEST_CASE("a group that is only counted sends nothing and says what would be sent") {
  const auto device = cpu::open_device(1);
  Scratch scratch;
  Ctx c(*device, scratch, false);
  const auto group = counted_group(8);
  float value = 3;
  const Tensor data(&value, Dtype::F32, {1});
  c(ops::AllReduce{.data = data, .group = *group});
  CHECK(value == 3);
  CHECK(c.tally.link_bytes == 7);
  CHECK_THROWS_AS(group->all_reduce(data, Reduce::Sum), Error);
  CHECK_THROWS_AS(group->all_reduce({{data, Reduce::Sum}}), Error);
  c.where = "gradients";
  CHECK_THROWS_WITH(c(ops::AllReduce{.data = Tensor(&value, Dtype::I32, {1}), .group = *group}),
                    "gradients: all_reduce: data is int32 [1], wanted fp32 or fp64 [any]");
  // Two buckets of 8 parts each are under way; of one rank nothing is.
  const int64_t bucket = ops::AllReduce::kBucket;
  CHECK(ops::AllReduce::workspace(3 * bucket, Dtype::F32, 8) == 2 * bucket * 4);
  CHECK(ops::AllReduce::workspace(3, Dtype::F32, 8) == 8 * 4);
  CHECK(ops::AllReduce::workspace(3 * bucket, Dtype::F32, 1) == 0);
}

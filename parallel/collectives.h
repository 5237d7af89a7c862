// Collectives as ops: the gateway counts, shows and orders them like any other. They talk over a
// group instead of running on a backend.
#pragma once

#include "core/ops.h"
#include "parallel/comm/comm.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace ft {

namespace ops {

// data = sum (or maximum) over the ranks of the group, folded as the group does (parallel/comm/comm.h); on
// all of them. Long data go in buckets, one under way while the next starts, so that what a group
// needs for the ranks' parts stays small.
struct AllReduce {
  static constexpr int64_t kBucket = int64_t{1} << 22;  // elements

  InOut data;  // [n] f32 or f64
  Group& group;
  Reduce reduce = Reduce::Sum;
  FT_OP("all_reduce") { f("data", data); }
  void check() const { check_dense("data", data, kF32 | kF64, {kAny}); }
  double flops() const { return 0; }
  double link_bytes() const;  // that a rank sends
  void run(Stream stream) const;

  // Memory that the group takes for n elements of a dtype, and keeps.
  static int64_t workspace(int64_t n, Dtype dtype, int ranks);
};

// Several small data, each with its own fold, in one exchange.
struct AllReduceParts {
  struct Part {
    const char* name;
    InOut data;  // [n] f32 or f64
    Reduce reduce = Reduce::Sum;
  };
  std::vector<Part> parts;
  Group& group;
  FT_OP("all_reduce_parts") {
    for (const Part& p : parts) f(p.name, p.data);
  }
  void check() const;
  double flops() const { return 0; }
  double link_bytes() const;  // that a rank sends
  void run(Stream stream) const;
};

}  // namespace ops

// A group of which nothing but its size is known: ops over it can be counted, not run.
std::unique_ptr<Group> counted_group(int size);

}  // namespace ft

// Who holds what under tensor parallelism: a pure function of sizes, ranks and rank.
//
// Whatever is cut keeps to whole heads. Query heads that share a key/value head stay together, so
// that on every rank query head h attends to key/value head h / (heads / key/value heads) of those
// that it holds; the same holds for the scan's heads and their groups (B and C). Where there are
// fewer key/value heads (groups) than ranks, neighbours hold the same one and share its heads, e.g.
// 10 query heads over 2 key/value heads on 4 ranks: {0,1,2} {3,4} with the first, {5,6,7} {8,9} with
// the second.
#pragma once

#include <cstdint>

namespace ft {

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// Heads of one rank, and what they share.
struct HeadShard {
  Range heads;   // of this rank alone
  Range shared;  // key/value heads, or groups: those of `heads`
  Range ranks;  // that hold the same `shared`: its gradients are summed over them, and the first of
                // them writes it
  bool operator==(const HeadShard&) const = default;
};

struct TensorSizes {
  int64_t query_heads = 0, key_value_heads = 0;  // 0: no attention
  int64_t ssm_heads = 0, ssm_groups = 0;         // 0: no scan
  int64_t intermediate = 0;                      // columns of the MLP
  int64_t vocabulary = 0;                        // rows of embedding and head
  int64_t align = 1;  // columns and rows are cut at multiples of this (the last part may end early)
};

struct Shard {
  HeadShard attention, ssm;
  Range intermediate, vocabulary;
};

// Of `total` in `parts` nearly equal parts, the larger first: which are `part`'s.
Range part_of(int64_t total, int64_t parts, int64_t part);

// Throws ConfigError where a rank would be left without a head, a column or a row.
Shard shard_of(const TensorSizes& sizes, int64_t tensor_ranks, int64_t rank);

}  // namespace ft

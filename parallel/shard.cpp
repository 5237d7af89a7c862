#include "parallel/shard.h"

#include "core/check.h"

#include <algorithm>

namespace ft {

namespace {

HeadShard heads_of(const char* what, int64_t heads, int64_t shared, int64_t ranks, int64_t rank) {
  if (heads == 0) return {};
  FT_CHECK_CONFIG(shared > 0 && heads % shared == 0,
                  "the {} {} heads must be a multiple of the {} that they share", heads, what,
                  shared);
  const int64_t each = heads / shared;
  if (ranks <= shared) {
    const Range mine = part_of(shared, ranks, rank);
    return {{mine.begin * each, mine.end * each}, mine, {rank, rank + 1}};
  }
  FT_CHECK_CONFIG(ranks <= heads,
                  "parallel.tensor: {} ranks, but the model has only {} {} heads; take at most {}",
                  ranks, heads, what, heads);
  const int64_t most = part_of(ranks, shared, 0).size();
  FT_CHECK_CONFIG(
      most <= each,
      "parallel.tensor: {} of {} ranks would share the {} {} heads of one group; take at "
      "most {}",
      most, ranks, each, what, shared * each);
  int64_t one = 0;  // whose neighbours this rank belongs to
  while (part_of(ranks, shared, one).end <= rank) ++one;
  const Range neighbours = part_of(ranks, shared, one);
  const Range part = part_of(each, neighbours.size(), rank - neighbours.begin);
  return {{one * each + part.begin, one * each + part.end}, {one, one + 1}, neighbours};
}

Range aligned_part(const char* what, int64_t total, int64_t align, int64_t ranks, int64_t rank) {
  if (total == 0) return {};
  const int64_t units = (total + align - 1) / align;
  FT_CHECK_CONFIG(ranks <= units,
                  "parallel.tensor: {} ranks, but {} {} make only {} parts of {}; take at most {}",
                  ranks, total, what, units, align, units);
  const Range part = part_of(units, ranks, rank);
  return {part.begin * align, std::min(part.end * align, total)};
}

}  // namespace

Range part_of(int64_t total, int64_t parts, int64_t part) {
  const int64_t each = total / parts, rest = total % parts;
  const int64_t begin = part * each + std::min(part, rest);
  return {begin, begin + each + (part < rest ? 1 : 0)};
}

Shard shard_of(const TensorSizes& s, int64_t ranks, int64_t rank) {
  FT_CHECK(ranks > 0 && rank >= 0 && rank < ranks, "rank {} of {} tensor ranks", rank, ranks);
  return {heads_of("attention", s.query_heads, s.key_value_heads, ranks, rank),
          heads_of("Mamba", s.ssm_heads, s.ssm_groups, ranks, rank),
          aligned_part("columns of the MLP", s.intermediate, s.align, ranks, rank),
          aligned_part("rows of the vocabulary", s.vocabulary, s.align, ranks, rank)};
}

}  // namespace ft

// Who holds what under tensor parallelism.
#include "core/check.h"
#include "parallel/shard.h"
#include "tests/catch.h"

#include <vector>

using namespace ft;

namespace {

// All ranks' shards; checks that heads, columns and rows are each held once, in order.
std::vector<Shard> shards(const TensorSizes& sizes, int64_t ranks) {
  std::vector<Shard> all;
  int64_t query = 0, ssm = 0, column = 0, row = 0;
  const auto follows = [](int64_t& end, const Range& range) {
    CHECK(range.begin == end);
    CHECK(range.size() > 0);
    end = range.end;
  };
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const Shard s = shard_of(sizes, ranks, rank);
    if (sizes.query_heads > 0) follows(query, s.attention.heads);
    if (sizes.ssm_heads > 0) follows(ssm, s.ssm.heads);
    follows(column, s.intermediate);
    follows(row, s.vocabulary);
    all.push_back(s);
  }
  CHECK(query == sizes.query_heads);
  CHECK(ssm == sizes.ssm_heads);
  CHECK(column == sizes.intermediate);
  CHECK(row == sizes.vocabulary);
  return all;
}

// Each head finds its key/value head on its rank by h / (heads / key/value heads), as ops do.
void check_heads(const HeadShard& s, int64_t heads, int64_t shared, int64_t rank) {
  REQUIRE(s.heads.size() % s.shared.size() == 0);
  const int64_t ratio = s.heads.size() / s.shared.size();
  for (int64_t h = 0; h < s.heads.size(); ++h)
    CHECK(s.shared.begin + h / ratio == (s.heads.begin + h) / (heads / shared));
  CHECK((s.ranks.begin <= rank && rank < s.ranks.end));
}

}  // namespace

TEST_CASE("shard: ten query heads over two key/value heads on four ranks") {
  const TensorSizes sizes{
      .query_heads = 10, .key_value_heads = 2, .intermediate = 8, .vocabulary = 8};
  const std::vector<Range> heads = {{0, 3}, {3, 5}, {5, 8}, {8, 10}};
  const auto all = shards(sizes, 4);
  for (size_t rank = 0; rank < 4; ++rank) {
    CHECK(all[rank].attention.heads == heads[rank]);
    CHECK(all[rank].attention.shared == (rank < 2 ? Range{0, 1} : Range{1, 2}));
    CHECK(all[rank].attention.ranks == (rank < 2 ? Range{0, 2} : Range{2, 4}));
  }
}

TEST_CASE("shard: every head, column and row is held once, and heads find what they share") {
  for (const int64_t shared : {1, 2, 3, 4, 8})
    for (const int64_t each : {1, 2, 3, 5, 12})
      for (int64_t ranks = 1; ranks <= 16; ++ranks) {
        const int64_t heads = shared * each;
        TensorSizes sizes{.query_heads = heads,
                          .key_value_heads = shared,
                          .ssm_heads = heads,
                          .ssm_groups = shared,
                          .intermediate = 16 * 37,
                          .vocabulary = 16 * 41 + 5,
                          .align = 16};
        INFO(heads << " heads, " << shared << " shared, " << ranks << " ranks");
        if (ranks > heads || (ranks > shared && part_of(ranks, shared, 0).size() > each)) {
          for (int64_t rank = 0; rank < ranks; ++rank)
            CHECK_THROWS_AS(shard_of(sizes, ranks, rank), ConfigError);
          continue;
        }
        const auto all = shards(sizes, ranks);
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const Shard& s = all[static_cast<size_t>(rank)];
          check_heads(s.attention, heads, shared, rank);
          CHECK(s.ssm == s.attention);
          CHECK(s.intermediate.begin % 16 == 0);
          CHECK(s.vocabulary.begin % 16 == 0);
          for (int64_t other = s.attention.ranks.begin; other < s.attention.ranks.end; ++other)
            CHECK(all[static_cast<size_t>(other)].attention.shared == s.attention.shared);
        }
      }
}

TEST_CASE("shard: what a rank would be left without is named") {
  const auto refusal = [](const TensorSizes& sizes, int64_t ranks) {
    try {
      shard_of(sizes, ranks, 0);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refusal({.query_heads = 6, .key_value_heads = 2}, 8).find("only 6 attention heads") !=
        std::string::npos);
  CHECK(refusal({.ssm_heads = 24, .ssm_groups = 1}, 32).find("only 24 Mamba heads") !=
        std::string::npos);
  CHECK(refusal({.intermediate = 96, .align = 64}, 4).find("columns of the MLP") !=
        std::string::npos);
  CHECK(refusal({.vocabulary = 96, .align = 64}, 4).find("rows of the vocabulary") !=
        std::string::npos);
  CHECK(refusal({.query_heads = 6, .key_value_heads = 4}, 2).find("must be a multiple") !=
        std::string::npos);
}

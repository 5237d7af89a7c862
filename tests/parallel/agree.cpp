// What is said of ranks that differ, and that all of them say it.
#include "parallel/agree.h"

#include "core/check.h"
#include "tests/catch.h"
#include "tests/world.h"

using namespace ft;

TEST_CASE("the first difference of two texts is named by its path") {
  const std::string text =
      "run:\n  name: a\noptimizer:\n  lr: 0.001\n  groups:\n    - match: x\n"
      "      lr_multiplier: 2\n    - match: y\n      lr_multiplier: 3\n";
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string other = text;
    return other.replace(other.find(from), from.size(), to);
  };
  CHECK(difference(text, with("0.001", "0.002"), 3) ==
        "optimizer.lr: 0.001 on rank 0, 0.002 on rank 3");
  CHECK(difference(text, with("name: a", "name: b"), 1) == "run.name: a on rank 0, b on rank 1");
  CHECK(difference(text, with("match: y", "match: z"), 1) ==
        "optimizer.groups.1.match: y on rank 0, z on rank 1");
  CHECK(difference(text, with("multiplier: 3", "multiplier: 4"), 1) ==
        "optimizer.groups.1.lr_multiplier: 3 on rank 0, 4 on rank 1");
  CHECK(difference("a\n", "a\nb\n", 1) == "nothing on rank 0, b on rank 1");
  const std::string same(1000, 'x');
  CHECK(difference(same + "1", same + "2", 1).size() < 300);
}

TEST_CASE("ranks agree, or all of them throw the same error", "[mpi]") {
  Group& all = test::world().all();
  CHECK_NOTHROW(agree(all, {{"data", "a: 1\n", "look"}, {"empty", "", "look"}}));
  if (all.size() == 1) return;
  const int last = all.size() - 1;
  const std::string mine = all.rank() == last ? "a: 2\n" : "a: 1\n";
  CHECK_THROWS_WITH(agree(all, {{"same", "x", "-"}, {"data", mine, "look"}}),
                    fmt::format("the ranks differ in their data: a: 1 on rank 0, 2 on rank {}; "
                                "look",
                                last));
  all.barrier().wait();
}

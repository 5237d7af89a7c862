#include "data/sources.h"

#include "tests/catch.h"
#include "tests/data/sets.h"

using namespace ft;
using namespace ft::test;

TEST_CASE("a folder or a pattern stands for the sets in it", "[sources]") {
  const TempFolder folder;
  write_set(folder / "web/b", {{1, 2, 3}});
  write_set(folder / "web/a", {{1}});
  write_set(folder / "web/deep/c", {{1, 2, 3, 4}, {}});
  write_set(folder / "web/hollow", {{}});
  write_set(folder / "code", {{1, 2}});
  write_text(folder / "web/notes.txt", "no set");
  const std::string web = folder / "web", b = folder / "web/b";
  const auto expand = [](const DataSource& s) { return expand_sources({s}); };

  const auto all = expand_sources({{web, web, 4}, {"code", folder / "code", 2}});
  REQUIRE(all.size() == 4);
  CHECK(all[0].path == web + "/a");
  CHECK(all[1].path == web + "/b");
  CHECK(all[2].path == web + "/deep/c");
  CHECK(all[0].name == all[0].path);  // as if each had been listed
  CHECK(all[0].weight == Approx(4 * 1 / 8.0));
  CHECK(all[1].weight == Approx(4 * 3 / 8.0));
  CHECK(all[2].weight == Approx(4 * 4 / 8.0));
  CHECK(all[3].name == "code");
  CHECK(all[3].weight == 2);

  const auto flat = expand({"w", web + "/*", 1});
  REQUIRE(flat.size() == 2);
  CHECK(flat[0].name == "w/" + web + "/a");
  CHECK(flat[1].weight == Approx(0.75));
  CHECK(expand({"", web + "/*/*"}).at(0).path == web + "/deep/c");
  CHECK(expand({"", web + "/[ab]"}).size() == 2);
  CHECK(expand({"x", b}).at(0).name == "x");
  write_set(folder / "odd[1]", {{1}});  // a set of this very name wins
  CHECK(expand({"x", folder / "odd[1]"}).at(0).name == "x");
  CHECK(expand({"", folder / "missing"}).size() == 1);  // reported as any missing set is
  CHECK_THROWS_AS(expand({"", web + "/z*"}), ConfigError);
  CHECK_THROWS_AS(expand({"", web + "/hollow*"}), ConfigError);
}

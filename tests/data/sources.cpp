#include "data/sources.h"

#include "core/check.h"
#include "data/names.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

using namespace ft;
using namespace ft::test;

namespace {

namespace fs = std::filesystem;

std::vector<std::string> paths(const std::vector<DataSource>& sources) {
  std::vector<std::string> all;
  for (const DataSource& source : sources) all.push_back(source.path);
  return all;
}

std::string refusal(const std::vector<DataSource>& train,
                    const std::vector<DataSource>& validation = {}) {
  try {
    expand_sources(train, validation);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "";
}

void has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

}  // namespace

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

TEST_CASE("validation sets stay out of folders and patterns", "[sources]") {
  const TempFolder folder;
  const std::string web = folder / "web";
  for (const char* name : {"a", "b", "c"}) write_set(web + "/" + name, {{1, 2}});
  fs::create_symlink(web, folder / "other");
  using Paths = std::vector<std::string>;
  for (const std::string& held_out : {web + "/b", folder / "other/b", folder / "web/../web/./b"}) {
    INFO(held_out);
    std::vector<std::string> notes;
    const auto sources = expand_sources({{"", web}}, {{"v", held_out}}, &notes);
    CHECK(paths(sources) == Paths{web + "/a", web + "/c"});
    CHECK(sources[0].weight == Approx(0.5));  // shared out by what is left
    REQUIRE(notes.size() == 1);
    has(notes[0], web + "/b");
    has(notes[0], "data.validation names it");
    CHECK(paths(expand_sources({{"", web + "/*"}}, {{"v", held_out}})) ==
          Paths{web + "/a", web + "/c"});
  }
  for (const char* end : {".idx", ".bin"})
    fs::create_symlink(web + "/b" + end, folder / (std::string("v") + end));
  CHECK(expand_sources({{"", web}}, {{"v", folder / "v"}}).size() == 2);
  has(refusal({{"", web + "/b*"}}, {{"v", folder / "v"}}), "are validation sets");
  // Who names a set itself for both wants it so, and is told.
  std::vector<std::string> notes;
  CHECK(expand_sources({{"b", web + "/b"}}, {{"v", folder / "v"}}, &notes).size() == 1);
  REQUIRE(notes.size() == 1);
  has(notes[0], "data.train and data.validation both name " + web + "/b");
}

TEST_CASE("links are followed once, hidden files not at all", "[sources]") {
  const TempFolder folder;
  const std::string in = folder / "in";
  write_set(in + "/b/x", {{1, 2}});
  write_set(in + "/.hidden/x", {{1, 2}});
  write_set(in + "/.x", {{1, 2}});
  write_set(folder / "far/deep/y", {{1, 2}});
  fs::create_directory_symlink(".", in + "/self");
  fs::create_directory_symlink("..", in + "/b/up");
  fs::create_directory_symlink("b", in + "/a");  // before the folder in order, yet not in its place
  fs::create_directory_symlink(folder / "far", in + "/far");
  fs::create_directory_symlink(folder / "far/deep", in + "/b/deep");
  fs::create_symlink(in + "/nowhere", in + "/gone.idx");
  for (const char* end : {".idx", ".bin"}) fs::create_symlink(in + "/b/x" + end, in + "/x" + end);
  using Paths = std::vector<std::string>;
  CHECK(token_sets_below(in) == Paths{in + "/b/deep/y", in + "/b/x"});
  CHECK(paths(expand_sources({{"", in + "/*/x"}})) == Paths{in + "/a/x"});  // by three names
}

TEST_CASE("a set that two sources name counts twice, and that is said", "[sources]") {
  const TempFolder folder;
  write_set(folder / "web/a", {{1, 2}});
  write_set(folder / "web/b", {{1, 2}});
  const std::string web = folder / "web";
  const auto notes = [](const std::vector<DataSource>& sources, size_t expected) {
    std::vector<std::string> said;
    CHECK(expand_sources(sources, {}, &said).size() == expected);
    return fmt::format("{}", fmt::join(said, "\n"));
  };
  has(notes({{"", web}, {"mine", web + "/./a"}}, 3), "is there twice, by " + web + " and by ");
  has(notes({{"one", web + "/a*"}, {"two", web + "/*"}}, 3), "both weights count");
  CHECK(notes({{"", web + "/a"}, {"", web + "/b"}}, 2).empty());
}

TEST_CASE("what exists is taken as it is before it is a pattern", "[sources]") {
  const TempFolder folder;
  write_set(folder / "br[1]/x", {{1, 2}});
  write_set(folder / "br1/y", {{1, 2}});
  write_set(folder / "star*/q?/z", {{1, 2}});
  using Paths = std::vector<std::string>;
  CHECK(paths(expand_sources({{"", folder / "br[1]"}})) == Paths{folder / "br[1]/x"});
  CHECK(paths(expand_sources({{"", folder / "br[1]/*"}})) == Paths{folder / "br[1]/x"});
  CHECK(paths(expand_sources({{"", folder / "br[12]/*"}})) == Paths{folder / "br1/y"});
  CHECK(paths(expand_sources({{"", folder / "star*/q?//[z]"}})).size() == 1);
  CHECK(paths(expand_sources({{"", folder / "star*"}})) == Paths{folder / "star*/q?/z"});
}

TEST_CASE("names that are not UTF-8 are refused where they enter", "[sources]") {
  const TempFolder folder;
  const std::string bad = folder / "in/caf\xe9";
  write_set(bad, {{1, 2}});
  has(refusal({{"", folder / "in"}}), "caf\\xe9 is not UTF-8; rename it");
  has(refusal({{"x", bad}}), "data.train: the name ");
  has(refusal({{"\xff", folder / "in"}}), "the name \\xff is not UTF-8");
  write_set(folder / "good", {{1, 2}});
  has(refusal({{"x", folder / "good"}}, {{"v", bad}}), "data.validation: the name ");
  CHECK(escaped("a\n\xC3\xA9\xE2\x82") == "a\\x0a\xC3\xA9\\xe2\\x82");
}

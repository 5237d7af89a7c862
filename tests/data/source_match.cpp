// A source is its files: it reads on under any name and in any place.
#include "data/source_match.h"

#include "core/check.h"
#include "data/identity.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <nlohmann/json.hpp>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

namespace fs = std::filesystem;
constexpr int64_t kVocab = 100000;

DataConfig config_of(const std::vector<DataSource>& sources) {
  DataConfig config;
  config.sequence_length = 7;
  config.train = sources;
  return config;
}

std::vector<std::vector<int32_t>> read_on(Loader& loader, int steps) {
  std::vector<std::vector<int32_t>> ids;
  for (int step = 0; step < steps; ++step)
    for (const Batch& batch : loader.next(3, 3).micro) ids.push_back(batch.ids);
  return ids;
}

std::string refusal(const DataConfig& config, const std::string& state) {
  try {
    Loader(config, kVocab, 5, 0, 1).restore(state);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a source reads on under any spelling of its path and in any place", "[match]") {
  const TempFolder folder;
  write_set(folder / "data/a", numbered_documents(50, 30, 1));
  write_set(folder / "data/b", numbered_documents(30, 30, 20000));
  const std::string a = folder / "data/a", b = folder / "data/b";
  const auto named = [](const std::string& first, const std::string& second) {
    return config_of({{first, first, 2}, {second, second, 1}});
  };
  Loader whole(named(a, b), kVocab, 5, 0, 1);
  read_on(whole, 4);
  const std::string state = whole.state();
  const auto expected = read_on(whole, 6);

  const auto check = [&](const DataConfig& config) {
    Loader loader(config, kVocab, 5, 0, 1);
    const SourceChanges changes = loader.restore(state);
    CHECK(changes.added.empty());
    CHECK(changes.removed.empty());
    const std::string now = loader.state();
    CHECK(read_on(loader, 6) == expected);
    Loader again(config, kVocab, 5, 0, 1);  // and from a checkpoint written under the new names
    CHECK(again.restore(now).lines().empty());
    CHECK(read_on(again, 6) == expected);
    return changes;
  };
  CHECK(check(named(a, b)).renamed.empty());
  const auto changes = check(named(folder / "data/../data/a", folder / "data/./b"));
  REQUIRE(changes.renamed.size() == 2);
  CHECK(changes.lines()[0].find("data source '" + a + "' -> '") == 0);
  fs::rename(folder / "data", folder / "moved");
  check(named(folder / "moved/a", folder / "moved/b"));
  // Names that change places, and one that a source which is gone had.
  DataConfig swapped = named(folder / "moved/a", folder / "moved/b");
  swapped.train[0].name = b, swapped.train[1].name = a;
  check(swapped);
}

TEST_CASE("sources that come, go and return by another name", "[match]") {
  const TempFolder folder;
  write_set(folder / "a", numbered_documents(50, 30, 1));
  write_set(folder / "b", numbered_documents(30, 30, 20000));
  write_set(folder / "c", numbered_documents(30, 30, 30000));
  const DataSource a{"a", folder / "a"}, b{"b", folder / "b"};
  std::string state;
  Cursor left;
  {
    Loader loader(config_of({a, b}), kVocab, 5, 0, 1);
    read_on(loader, 5);
    state = loader.state();
    const json cursor = json::parse(state)["sources"]["b"];
    left = {cursor["epoch"], cursor["document"], cursor["offset"]};
  }
  {  // b goes, and c takes its name
    Loader loader(config_of({a, {"b", folder / "c"}}), kVocab, 5, 0, 1);
    CHECK_THROWS_AS(loader.restore(state), ConfigError);
    Loader fresh(config_of({a, {"c", folder / "c"}}), kVocab, 5, 0, 1);
    const SourceChanges changes = fresh.restore(state);
    CHECK(changes.added == std::vector<std::string>{"c"});
    CHECK(changes.removed == std::vector<std::string>{"b"});
    read_on(fresh, 5);
    state = fresh.state();
  }
  Loader loader(config_of({a, {"again", folder / "b"}}), kVocab, 5, 0, 1);
  const SourceChanges changes = loader.restore(state);
  CHECK(changes.removed == std::vector<std::string>{"c"});
  REQUIRE(changes.renamed.size() == 1);
  CHECK(changes.renamed[0].to == "again");
  const json cursor = json::parse(loader.state())["sources"]["again"];
  CHECK(cursor["epoch"] == left.epoch);
  CHECK(cursor["document"] == left.document);
  CHECK(cursor["offset"] == left.offset);
  CHECK(cursor["key"] == "b");
}

TEST_CASE("a name that another source takes over loses no cursor", "[match]") {
  Position p;
  p.sources["x"] = {{1, 2, 3}, "2:x", "x"};
  p.sources["y"] = {{4, 5, 6}, "2:y", "y"};
  p.history.push_back({0, 7, {{"x", 0.5}, {"y", 0.5}}});
  p.taken = {{"x", 3}, {"y", 3}};
  // y is now called x, and x is gone.
  const SourceChanges changes = match_sources(p, {{"x", "p", "2:y", [] { return ""; }}});
  CHECK(changes.removed == std::vector<std::string>{"x"});
  REQUIRE(changes.renamed.size() == 1);
  CHECK(p.sources.at("x").cursor.document == 5);
  CHECK(p.sources.at("x").key == "y");
  CHECK(p.sources.at("x (2:x)").cursor.document == 2);
  CHECK(p.sources.at("x (2:x)").key == "x");
  CHECK(p.history[0].weights.size() == 2);
  // Two sets with equal files keep apart by their names.
  Position twins;
  twins.sources["one/a"] = {{1, 0, 0}, "2:t", ""};
  twins.sources["one/b"] = {{2, 0, 0}, "2:t", ""};
  match_sources(twins, {{"two/b", "p", "2:t", nullptr}, {"two/a", "p", "2:t", nullptr}});
  CHECK(twins.sources.at("two/a").cursor.epoch == 1);
  CHECK(twins.sources.at("two/b").cursor.epoch == 2);
  CHECK(twins.sources.at("two/a").key == "one/a");
}

TEST_CASE("checkpoints with the first kind of identity go on", "[match]") {
  const TempFolder folder;
  write_set(folder / "a", numbered_documents(50, 30, 1));
  const DataConfig config = config_of({{"a", folder / "a"}});
  Loader loader(config, kVocab, 5, 0, 1);
  read_on(loader, 3);
  json state = json::parse(loader.state());
  const auto expected = read_on(loader, 3);
  CHECK_FALSE(is_sparse_identity(state["sources"]["a"]["identity"]));
  state["sources"]["a"]["identity"] = TokenSet(folder / "a").sparse_identity();
  state["sources"]["a"].erase("key");
  Loader old(config, kVocab, 5, 0, 1), moved(config_of({{"z", folder / "a"}}), kVocab, 5, 0, 1);
  CHECK(old.restore(state.dump()).lines().empty());
  CHECK(read_on(old, 3) == expected);
  CHECK(moved.restore(state.dump()).renamed.size() == 1);
  CHECK(read_on(moved, 3) == expected);
  CHECK_FALSE(is_sparse_identity(json::parse(moved.state())["sources"]["z"]["identity"]));
  state["sources"]["a"]["identity"] = "1-2-3-4";
  CHECK(refusal(config, state.dump()).find("changed since the checkpoint") != std::string::npos);
}

TEST_CASE("a small change in a large set is noticed", "[match]") {
  const TempFolder folder;
  const auto write = [&](int64_t bytes) {
    std::string text(static_cast<size_t>(bytes), 0);
    for (size_t i = 0; i < text.size(); i += 8) text[i] = static_cast<char>(i >> 12);
    write_text(folder / "x", text);
    return text;
  };
  const auto hash = [&](Access access) {
    return content_hash(DataFile(folder / "x", access), int64_t{16} << 20);
  };
  std::string text = write(int64_t{8} << 20);
  const uint64_t before = hash(Access::Map);
  CHECK(before == hash(Access::Read));
  text[5'000'003] ^= 1;  // one bit of 8 MiB
  write_text(folder / "x", text);
  CHECK(before != hash(Access::Map));

  text = write(int64_t{40} << 20);
  const uint64_t large = hash(Access::Map);
  CHECK(large == hash(Access::Read));
  for (const size_t at : {size_t{0}, text.size() - 1, size_t{17} << 20}) {
    std::string other = text;  // the ends, and 80 KB somewhere
    for (size_t i = at; i < std::min(at + 80'000, text.size()); ++i) other[i] ^= 1;
    write_text(folder / "x", other);
    CHECK(large != hash(Access::Map));
  }
}

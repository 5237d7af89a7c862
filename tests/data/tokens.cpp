#include "core/check.h"
#include "data/tokens.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>

using namespace ft;
using namespace ft::test;

namespace {

// An index as the format's description says it, independent of TokenWriter.
struct RawIndex {
  uint64_t version = 1;
  uint8_t code = 4;
  std::vector<int32_t> lengths;
  std::vector<int64_t> offsets, boundaries;
  std::string bytes() const {
    std::string s("MMIDIDX\0\0", 9);
    const auto put = [&](const void* p, size_t n) { s.append(static_cast<const char*>(p), n); };
    const uint64_t sequences = lengths.size(), documents = boundaries.size();
    put(&version, 8), put(&code, 1), put(&sequences, 8), put(&documents, 8);
    put(lengths.data(), 4 * lengths.size());
    put(offsets.data(), 8 * offsets.size());
    put(boundaries.data(), 8 * boundaries.size());
    return s;
  }
};

template <class E>
std::string raw(const std::vector<int64_t>& ids) {
  std::string s;
  for (int64_t id : ids) {
    const E e = static_cast<E>(id);
    s.append(reinterpret_cast<const char*>(&e), sizeof e);
  }
  return s;
}

std::string message(const std::string& prefix) {
  try {
    const TokenSet set(prefix);
    for (int64_t d = 0; d < set.documents(); ++d) read_document(set, d);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("token sets survive a round trip", "[tokens]") {
  const TempFolder folder;
  for (const int64_t vocab : {300, 65499, 65500, 131072}) {
    const std::string prefix = folder / fmt::format("set-{}", vocab);
    const int32_t top = static_cast<int32_t>(vocab - 1);
    TokenWriter writer(prefix, vocab);
    const Document a{1, 2, top}, b{4}, c{5, 0};
    writer.end_document();  // empty
    writer.add_sequence(a.data(), 3);
    writer.add_sequence(b.data(), 1);
    writer.end_document();
    writer.add_sequence(b.data(), 0);
    writer.end_document();
    writer.add_sequence(c.data(), 2);
    writer.end_document();
    writer.end_document();
    REQUIRE(!std::filesystem::exists(prefix + ".idx"));  // whole or not at all
    writer.finish();
    const TokenSet set(prefix);
    CHECK(set.dtype_name() == (vocab < 65500 ? "uint16" : "int32"));
    REQUIRE(set.documents() == 5);
    CHECK(set.sequences() == 4);
    CHECK(set.tokens() == 6);
    CHECK(read_document(set, 0).empty());
    CHECK(read_document(set, 1) == Document{1, 2, top, 4});
    CHECK(read_document(set, 2).empty());
    CHECK(read_document(set, 3) == Document{5, 0});
    CHECK(read_document(set, 4).empty());
    Document part(2);
    set.read(1, 2, 2, part.data());  // across sequences
    CHECK(part == Document{top, 4});
    CHECK_THROWS_AS(set.read(1, 3, 2, part.data()), Error);
    CHECK_THROWS_AS(set.read(5, 0, 1, part.data()), Error);
  }
}

TEST_CASE("a writer refuses tokens outside the vocabulary and unfinished documents", "[tokens]") {
  const TempFolder folder;
  const Document ids{1, 300, -1};
  {
    TokenWriter writer(folder / "a", 300);
    CHECK_THROWS_AS(writer.add_sequence(ids.data() + 1, 1), Error);
    CHECK_THROWS_AS(writer.add_sequence(ids.data() + 2, 1), Error);
    writer.add_sequence(ids.data(), 1);
    CHECK_THROWS_AS(writer.finish(), Error);
  }
  CHECK(!std::filesystem::exists(folder / "a.bin"));
}

TEST_CASE("every whole-number type is read; sequences may lie anywhere in the .bin", "[tokens]") {
  const TempFolder folder;
  const std::vector<int64_t> ids{7, 100, 3, 0, 42};
  const std::map<uint8_t, std::pair<std::string, std::string>> types{
      {1, {"uint8", raw<uint8_t>(ids)}}, {2, {"int8", raw<int8_t>(ids)}},
      {3, {"int16", raw<int16_t>(ids)}}, {4, {"int32", raw<int32_t>(ids)}},
      {5, {"int64", raw<int64_t>(ids)}}, {8, {"uint16", raw<uint16_t>(ids)}}};
  for (const auto& [code, type] : types) {
    const std::string prefix = folder / type.first;
    const auto size = static_cast<int64_t>(type.second.size()) / 5;
    write_text(prefix + ".bin", type.second);
    write_text(prefix + ".idx", RawIndex{1, code, {2, 3}, {3 * size, 0}, {0, 2}}.bytes());
    const TokenSet set(prefix);
    CHECK(set.dtype_name() == type.first);
    CHECK(read_document(set, 0) == Document{0, 42, 7, 100, 3});
  }
  for (const int code : {0, 6, 7, 9, 255}) {
    write_text(folder / "float.bin", raw<double>(ids));
    write_text(folder / "float.idx",
               RawIndex{1, static_cast<uint8_t>(code), {5}, {0}, {0, 1}}.bytes());
    CHECK_THROWS_AS(TokenSet(folder / "float"), ConfigError);
  }
  write_text(folder / "wide.bin", raw<int64_t>({1, int64_t{1} << 31}));
  write_text(folder / "wide.idx", RawIndex{1, 5, {2}, {0}, {0, 1}}.bytes());
  CHECK(message(folder / "wide").find("document 0: the int64 at byte 8 is no token id") !=
        std::string::npos);
}

TEST_CASE("malformed sets name file, offset and document", "[tokens]") {
  const TempFolder folder;
  const std::string prefix = folder / "set";
  const RawIndex good{1, 4, {2, 3, 1}, {0, 8, 20}, {0, 1, 3}};
  write_text(prefix + ".bin", raw<int32_t>({1, 2, 3, 4, 5, 6}));
  const auto with = [&](const RawIndex& index) {
    write_text(prefix + ".idx", index.bytes());
    return message(prefix);
  };
  const auto has = [](const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  CHECK(with(good).empty());
  RawIndex bad = good;
  bad.version = 2, has(with(bad), "set.idx: at byte 9: version 2, expected 1");
  bad = good, bad.offsets[2] = 24,
  has(with(bad), "document 1, sequence 2 is said to have 1 tokens at byte 24");
  bad = good, bad.offsets[1] = -4, has(with(bad), "set.idx: at byte 38: document 1, sequence 1");
  bad = good, bad.offsets[1] = std::numeric_limits<int64_t>::max() - 2,
  has(with(bad), "document 1, sequence 1");
  bad = good, bad.lengths[0] = -1, has(with(bad), "document 0, sequence 0");
  bad = good, bad.lengths[0] = std::numeric_limits<int32_t>::max(),
  has(with(bad), "set.bin, which has 24 bytes");
  bad = good, bad.boundaries[1] = 4, has(with(bad), "after document 1 at 4, of 3");
  bad = good, bad.boundaries[1] = -1,
  has(with(bad), "at byte 78: document 1 starts at sequence -1");
  bad = good, bad.boundaries = {0, 2, 1, 3}, has(with(bad), "document 2 starts at sequence 1");
  bad = good, bad.boundaries = {1, 3}, has(with(bad), "documents cover sequences 1 to 3 of 3");
  bad = good, bad.boundaries = {0, 2}, has(with(bad), "documents cover sequences 0 to 2 of 3");
  bad = good, bad.boundaries = {};
  CHECK_FALSE(with(bad).empty());
  with(good);
  write_text(prefix + ".bin", raw<int32_t>({1, 2, 3, 4, 5}));
  has(message(prefix), "set.bin, which has 20 bytes");
  write_text(prefix + ".bin", "123456789");
  has(message(prefix), "no whole number of int32 tokens");
  std::filesystem::remove(prefix + ".bin");
  has(message(prefix), "set.bin");
}

TEST_CASE("cut and mutated indices throw or read, never crash", "[tokens]") {
  const TempFolder folder;
  const std::string prefix = folder / "set";
  const auto documents = numbered_documents(12, 9, 1);
  write_set(prefix, documents);
  const std::string good = read_text(prefix + ".idx");
  const auto put = [&](const std::string& text) {
    std::ofstream(prefix + ".idx", std::ios::binary) << text;
  };
  for (size_t n = 0; n < good.size(); ++n) {
    put(good.substr(0, n));
    CHECK_THROWS_AS(TokenSet(prefix), ConfigError);
  }
  std::mt19937 random(7);
  int64_t refused = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    std::string bad = good;
    const size_t changes = 1 + random() % 3;
    for (size_t i = 0; i < changes; ++i) {
      const size_t at = random() % bad.size();
      bad[at] = trial % 2 ? static_cast<char>(random())
                          : static_cast<char>(bad[at] ^ (1 << random() % 8));
    }
    put(bad);
    refused += !message(prefix).empty();
  }
  CHECK(refused > 10000);
}

TEST_CASE("the identity of a set follows its content", "[tokens]") {
  const TempFolder folder;
  write_set(folder / "a", {{1, 2, 3}, {4}});
  write_set(folder / "b", {{1, 2, 3}, {4}});
  write_set(folder / "c", {{1, 2}, {3, 4}});
  write_set(folder / "d", {{1, 2, 3}, {5}});
  const std::string a = TokenSet(folder / "a").identity();
  CHECK(a == TokenSet(folder / "b").identity());
  CHECK(a != TokenSet(folder / "c").identity());
  CHECK(a != TokenSet(folder / "d").identity());
}

// Used by scripts/check_megatron_reader.py: a set that Megatron wrote against its tokens as text, a
// document a line.
TEST_CASE("a set reads as the text beside it says", "[.megatron]") {
  const char* prefix = std::getenv("FT_MEGATRON_PREFIX");
  const char* expected = std::getenv("FT_MEGATRON_EXPECT");
  REQUIRE(prefix);
  REQUIRE(expected);
  const TokenSet set(prefix);
  std::ifstream file(expected);
  std::string line;
  int64_t d = 0;
  for (; std::getline(file, line); ++d) {
    std::istringstream words(line);
    Document tokens;
    for (int32_t id; words >> id;) tokens.push_back(id);
    REQUIRE(d < set.documents());
    REQUIRE(read_document(set, d) == tokens);
  }
  CHECK(d == set.documents());
}

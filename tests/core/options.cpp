// The strict reader: what it takes, what it refuses, and what it says then.
#include "core/options.h"

#include "core/file.h"
#include "tests/catch.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>

using namespace ft;
namespace fs = std::filesystem;

namespace {

struct Inner {
  std::string name = "inner";
  std::optional<double> factor;
};
template <class V>
void describe(V& v, Inner& c) {
  v("name", c.name, "a name");
  v("factor", c.factor, "a factor", Range{0, 1});
}

struct Sample {
  int64_t count = 7;
  uint64_t seed = 3;
  int small = 1;
  double rate = 0.5;
  bool flag = false;
  std::string text = "t", choice = "one";
  std::optional<int64_t> maybe = 5;
  std::vector<double> numbers = {1};
  std::array<double, 2> pair = {0, 1};
  std::vector<std::array<double, 2>> pairs;
  std::vector<std::vector<std::string>> words;
  std::vector<Inner> inners;
  Inner inner;
};
template <class V>
void describe(V& v, Sample& c) {
  v("count", c.count, "how many", Range{0, 1e18});
  v("seed", c.seed, "a seed", Range{0, 1e19});
  v("small", c.small, "fits an int");
  v("rate", c.rate, "a number");
  v("flag", c.flag, "yes or no");
  v("text", c.text, "any text");
  v("choice", c.choice, "one of", Choices{{"one", "two"}});
  v("maybe", c.maybe, "or null");
  v("numbers", c.numbers, "a list", Range{-10, 10});
  v("pair", c.pair, "two");
  v("pairs", c.pairs, "a list of two");
  v("words", c.words, "lists of texts");
  v("inners", c.inners, "a list of maps");
  v("inner", c.inner, "a map");
}

Sample read(const OptionNode& node) {
  Sample c;
  OptionReader reader(node, "");
  describe(reader, c);
  reader.finish();
  return c;
}
Sample read(const std::string& text) { return read(OptionNode::parse(text, "f.yaml")); }

std::string written(Sample c) {
  OptionWriter writer;
  describe(writer, c);
  return writer.text();
}

// The message of the ConfigError that `f` must throw.
template <class F>
std::string message(F&& f) {
  try {
    f();
  } catch (const ConfigError& error) {
    CHECK(error.exit_code() == 2);
    return error.what();
  }
  FAIL("nothing was thrown");
  return "";
}
std::string refusal(const std::string& text) {
  return message([&] { read(text); });
}
bool has(const std::string& text, const std::string& part) {
  INFO("\"" << text << "\" has \"" << part << "\"");
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

std::string folder() {
  static const std::string path =
      (fs::temp_directory_path() / fmt::format("ft-options-{}", ::getpid())).string();
  return path;
}

}  // namespace

TEST_CASE("options: numbers as people write them", "[options]") {
  const auto [text, value] = GENERATE(table<std::string, double>({{"1e11", 1e11},
                                                                  {"1.0e+11", 1e11},
                                                                  {"64k", 64000},
                                                                  {"2.5B", 2.5e9},
                                                                  {"1.001M", 1001000},
                                                                  {"010", 10},
                                                                  {"+5", 5},
                                                                  {"-3", -3}}));
  INFO(text);
  CHECK(read("rate: " + text).rate == value);
  if (value >= 0) CHECK(read("count: " + text).count == static_cast<int64_t>(value));
  CHECK(read("rate: .5").rate == 0.5);
  CHECK(read("rate: 5e-324").rate == 5e-324);
  CHECK(read("count: 9007199254740993").count == 9007199254740993);  // beyond a double's 2^53
  CHECK(read("{\"rate\": {\"__float__\": \"0.25\"}}").rate == 0.25);
}

TEST_CASE("options: what is no number is refused, with a hint", "[options]") {
  const auto [text, hint] =
      GENERATE(table<std::string, std::string>({{"0x10", "decimal"},
                                                {"0o17", "decimal"},
                                                {"1_000", "without separators"},
                                                {"\"5\"", "without quotes"},
                                                {"64K", "suffixes are k, M and B"},
                                                {"3G", "suffixes are k, M and B"},
                                                {"NaN", "NaN"},
                                                {".nan", "NaN"},
                                                {"inf", ".inf"},
                                                {"yes", "got \"yes\""},
                                                {"1e400", "1e400"},
                                                {"1e3k", "1e3k"},
                                                {"+-5", "+-5"},
                                                {"5 apples", "5 apples"},
                                                {"[1]", "got a list"},
                                                {"{a: 1}", "got a map"}}));
  for (const char* key : {"rate", "count"}) {
    const std::string said = refusal(fmt::format("text: x\n{}: {}", key, text));
    has(said, "f.yaml:2:");
    has(said, std::string(key) + " must be a ");
    has(said, hint);
  }
  has(refusal("count: 1.5"), "whole number");
  has(refusal("rate: .inf"), "finite number");
  has(refusal("rate: Infinity"), "finite number");
}

TEST_CASE("options: ranges hold for numbers, lists and optional values", "[options]") {
  has(refusal("count: -1"), "f.yaml:1:8: count = -1 is out of range; expected at least 0");
  has(refusal("numbers: [1, 11]"), "f.yaml:1:14: numbers[1] = 11 is out of range");
  has(refusal("inner: {factor: 2}"), "inner.factor = 2 is out of range; expected 0 to 1");
  has(refusal("small: 3000000000"), "small = 3000000000 is out of range");
  has(refusal("seed: -1"), "seed = -1 is out of range");
  has(refusal("choice: three"), "expected one of: one, two");
}

TEST_CASE("options: booleans are true and false", "[options]") {
  CHECK(read("flag: true").flag);
  has(refusal("flag: yes"), "flag must be true or false, got \"yes\"; write true");
  has(refusal("flag: Off"), "write false");
  has(refusal("flag: 1"), "write true");
  has(refusal("flag: \"true\""), "true or false");
}

TEST_CASE("options: null is the default, or no value where that is one; \"\" is a text",
          "[options]") {
  const Sample c = read("count: null\nrate: ~\nflag:\ntext: null\nnumbers: null\ninner: null\n");
  CHECK(written(c) == written(Sample()));
  CHECK(!read("maybe: null").maybe);
  CHECK(!read("maybe:").maybe);
  CHECK(read("maybe: 4").maybe == 4);
  CHECK(read("text: \"\"").text.empty());
  CHECK(read("text: ''").text.empty());
  CHECK(read("text: \"null\"").text == "null");
  has(refusal("numbers: [1, null]"), "numbers[1] must be a number");
  has(refusal("choice: \"\""), "choice = \"\" is not known");
}

TEST_CASE("options: texts of several lines, with tabs and quotes, are written and read back",
          "[options]") {
  CHECK(read("text: |\n  a\n  b\n").text == "a\nb\n");
  CHECK(read("text: >\n  a\n  b\n").text == "a b\n");
  CHECK(read("text: a\n  b\n").text == "a b");
}

TEST_CASE("options: everything written reads back the same", "[options]") {
  Sample c;
  c.count = 9007199254740993, c.seed = 12345678901234567, c.small = -4, c.rate = 0.1 + 0.2;
  c.flag = true, c.choice = "two", c.maybe.reset();
  c.text = "quote \" back \\ tab \t line\nbell \x07 end";
  c.numbers = {}, c.pair = {-1e-300, 1e300};
  c.pairs = {{0, 0.1}, {1e11, 5e-324}};
  c.words = {{}, {"a, b", "[c]"}, {""}};
  c.inners = {{"x: y", 0.5}, {"", std::nullopt}};
  c.inner = {"{z}", 1.0};
  const std::string text = written(c);
  const Sample back = read(text);
  CHECK(written(back) == text);
  CHECK(back.count == c.count);
  CHECK(back.seed == c.seed);
  CHECK(back.rate == c.rate);
  CHECK(back.text == c.text);
  CHECK(back.numbers == c.numbers);
  CHECK(back.pair == c.pair);
  CHECK(back.pairs == c.pairs);
  CHECK(back.words == c.words);
  REQUIRE(back.inners.size() == 2);
  CHECK(back.inners[0].name == "x: y");
  CHECK(back.inners[0].factor == 0.5);
  CHECK(!back.inners[1].factor);
  CHECK(!back.maybe);
  const std::string plain = written(Sample());
  CHECK(written(read(plain)) == plain);
}

TEST_CASE("options: an unknown key is told with its own place and the nearest known one",
          "[options]") {
  CHECK(refusal("count: 1\n  \ncuont:\n  2\n") ==
        "f.yaml:3:1: unknown key \"cuont\"; did you mean \"count\"?");
  has(refusal("inner: {nme: 1}"),
      "f.yaml:1:9: unknown key \"nme\" in section \"inner\"; did you mean \"name\"?");
  has(refusal("qqqqqqqqqq: 1"), "known keys: count, seed");
  has(refusal("count: 1\ncount: 2"), "f.yaml:2:1: key \"count\" is given twice");
  has(refusal("inner: {name: a, name: b}"), "f.yaml:1:18: key \"name\" is given twice");
}

TEST_CASE("options: YAML beyond maps, lists and values is refused by name", "[options]") {
  has(refusal("count: &a 1"), "f.yaml:1:8: anchors");
  has(refusal("count: &a 1\nrate: *a"), "anchors");
  has(refusal("inner: {<<: {name: x}}"), "merge keys");
  has(refusal("count: !!int 5"), "tags");
  has(refusal("count: 1\n---\ncount: 2"), "f.yaml:2:1: a second document");
  has(refusal("{count: 1} trailing"), "second document or text after the end");
  has(refusal("text: \"x\ncount: 5\n"), "f.yaml:1:7: this quote is never closed");
  has(refusal("text: 'it''s\ncount: 5\n"), "this quote is never closed");
  has(refusal("inner:\n\tname: x"), "f.yaml:2:");
  has(refusal("count: [1"), "not valid YAML");
  has(refusal("? [a]\n: 1"), "a key must be a word");
  has(refusal("text: a\x04\ncount: 5"), "f.yaml:1:8: control character 0x04");
  has(refusal("text: \xC3\x28"), "f.yaml:1:7: byte 0xc3 is not UTF-8");
  has(refusal("text: \xED\xA0\x80"), "is not UTF-8");
  has(refusal("\xFF\xFEt\0e"), "is not UTF-8");
  CHECK(read("text: \"it''s \\\" \xC3\xA4\xE2\x82\xAC\"").text == "it''s \" \xC3\xA4\xE2\x82\xAC");
}

TEST_CASE("options: byte order mark, line ends of Windows, comments, nothing at all", "[options]") {
  const Sample c = read("\xEF\xBB\xBF# head\r\ncount: 4\r\ntext: \"a\"\r\n");
  CHECK(c.count == 4);
  CHECK(c.text == "a");
  CHECK(read("count: 4\rrate: 2\r").rate == 2);
  CHECK(written(read("")) == written(Sample()));
  CHECK(written(read("# only a comment\n")) == written(Sample()));
  CHECK(read("---\ncount: 4\n...\n").count == 4);
  CHECK(read("{\n\t\"count\": 4,\n\t\"numbers\": [1.5, -2]\n}\n").numbers[1] == -2);
}

TEST_CASE("options: JSON as Python writes it, with places", "[options]") {
  fs::create_directories(folder());
  const std::string path = folder() + "/c.json";
  const auto load = [&](const std::string& text) {
    write_text(path, text);
    return read(OptionNode::load(path));
  };
  const Sample c = load(
      "{\"text\": \"\\ud83d\\ude00 caf\\u00e9\\/\\t\\\"\\\\ # no comment\",\r\n"
      "\t\"numbers\":[1,-2.5e-1, 3E0],\"flag\":true,\"maybe\":null,\n"
      " \"inner\": {\"factor\": 1.0, \"name\": \"half \\ud83d of\"}, \"pairs\": [],\n"
      " \"choice\": \"two\", \"small\": -4}\n");
  CHECK(c.text == "\xF0\x9F\x98\x80 caf\xC3\xA9/\t\"\\ # no comment");
  CHECK(c.numbers == std::vector<double>{1, -0.25, 3});
  CHECK((c.flag && !c.maybe && c.pairs.empty() && c.small == -4));
  CHECK(c.inner.name == "half \xEF\xBF\xBD of");
  const OptionNode wide = [&] {
    write_text(path, "{\"a\": [Infinity, -Infinity, NaN, {\"__float__\": \"Infinity\"}]}");
    return OptionNode::load(path).at("a");
  }();
  CHECK(wide.items()[0].number("a") == HUGE_VAL);
  CHECK(wide.items()[1].number("a") == -HUGE_VAL);
  has(message([&] { (void)wide.items()[2].number("a"); }), "c.json:1:29: a must be a number");
  CHECK(wide.items()[3].number("a") == HUGE_VAL);
  const auto refused = [&](const std::string& text, const std::string& says) {
    const std::string said = message([&] { load(text); });
    has(said, path + ":");
    has(said, says);
  };
  refused("{\"count\": \"7\"}", "c.json:1:11: count must be a whole number");
  refused("{\n  \"count\": nan}", "c.json:2:12: not valid JSON: \"nan\" is no value");
  refused("{\"count\": 1,}", "a key in double quotes is expected");
  refused("{\"count\": 1 \"rate\": 2}", "a comma or the end of the map, }, is expected");
  refused("{\"count\" 1}", "a colon is expected behind the key \"count\"");
  refused("{\"numbers\": [1 2]}", "a comma or the end of the list, ], is expected");
  refused("{'count': 1}", "a key in double quotes is expected");
  refused("{\"text\": \"\\x41\"}", "\\x is not an escape");
  refused("{\"text\": \"\\u12g4\"}", "four hexadecimal digits");
  refused("{\"text\": \"open\n\"}", "this text is never closed");
  refused("{\"text\": \"open", "this text is never closed");
  refused("{\"text\":", "a value is expected");
  refused("{\"count\": 1} 2", "text after the end");
  refused("{\"count\": 1, \"count\": 2}", "key \"count\" is given twice");
  refused("{\"count\": .5}", "\".5\" is no value");
  refused("{\"count\": 1-2}", "count must be a whole number");
  refused("", "is empty");
  refused("[1]", "a configuration is a map");
  refused("{\"a\": " + std::string(70, '[') + std::string(70, ']') + "}", "nested deeper than 64");
}

TEST_CASE("options: nesting has an end, size does not matter", "[options]") {
  const auto nested = [](size_t depth) {
    return "words: " + std::string(depth, '[') + std::string(depth, ']');
  };
  has(refusal(nested(63)), "words[0][0] must be a text");
  has(refusal(nested(64)), "nested deeper than 64");
  has(refusal(nested(200'000)), "nested deeper than 64");
  std::string many = "numbers: [";
  for (int i = 0; i < 100'000; ++i) many += "1, ";
  CHECK(read(many + "2]").numbers.size() == 100'001);
}

TEST_CASE("options: --set reaches every kind of value", "[options]") {
  OptionNode node = OptionNode::parse("count: 1\ninners: [{name: a}, {name: b}]\n", "f.yaml");
  for (const char* one :
       {"count=2", "rate=1e-3", "flag=true", "text=a=b", "maybe=null", "numbers=[1, 2, 3]",
        "numbers.1=7", "inners.0.factor=0.5", "inners.2={name: c}", "inner={factor: 0.25}",
        "inner.name=n", "pairs=[[0, 1], [1B, 2]]", "words.0=[x]"})
    node.set(one);
  const Sample c = read(node);
  CHECK(c.count == 2);
  CHECK(c.rate == 1e-3);
  CHECK(c.flag);
  CHECK(c.text == "a=b");
  CHECK(!c.maybe);
  CHECK(c.numbers == std::vector<double>{1, 7, 3});
  REQUIRE(c.inners.size() == 3);
  CHECK(c.inners[0].name == "a");
  CHECK(c.inners[0].factor == 0.5);
  CHECK(c.inners[2].name == "c");
  CHECK(c.inner.name == "n");
  CHECK(c.inner.factor == 0.25);
  CHECK(c.pairs[1][0] == 1e9);
  CHECK(c.words == std::vector<std::vector<std::string>>{{"x"}});
}

TEST_CASE("options: --set refuses what it cannot place", "[options]") {
  const auto said = [](const std::string& one) {
    return message([&] {
      OptionNode node = OptionNode::parse("count: 1\nnumbers: [1, 2]\n", "f.yaml");
      node.set(one);
      read(node);
    });
  };
  has(said("count"), "expected path.to.key=value");
  has(said("=3"), "expected path.to.key=value");
  has(said("inner..name=3"), "a part of the path is empty");
  has(said("count.x=3"), "would lie in a single value (1)");
  has(said("numbers.3=3"), "the list has 2 elements; \"3\" is none");
  has(said("numbers.x=3"), "\"x\" is none of them");
  has(said("numbers.1x=3"), "\"1x\" is none of them");
  has(said("cuont=3"), "--set cuont=3: unknown key \"cuont\"; did you mean \"count\"?");
  has(said("count=x"), "--set count=x: count must be a whole number");
  has(said("extends=g.yaml"), "extends belongs into the file");
  has(said("numbers=[1"), "bracket or a brace left open");
  for (const char* empty : {"text=", "count= ", "inner.factor="})
    has(said(empty), std::string("--set ") + empty + ": the value is missing");
}

TEST_CASE("options: extends is relative to its own file, chains, and says what is missing",
          "[options]") {
  const std::string f = folder();
  write_text(f + "/a/top.yaml", "extends: ../b/middle.yaml\ncount: 3\ninner: {factor: 0.5}\n");
  write_text(f + "/b/middle.yaml", "extends: base.yaml\ninner: {name: middle}\nnumbers: [9]\n");
  write_text(f + "/b/base.yaml", "count: 1\nrate: 8\nnumbers: [1, 2]\n");
  const Sample c = read(OptionNode::load(f + "/a/top.yaml"));
  CHECK(c.count == 3);
  CHECK(c.rate == 8);
  CHECK(c.numbers == std::vector<double>{9});
  CHECK(c.inner.name == "middle");
  CHECK(c.inner.factor == 0.5);

  write_text(f + "/missing.yaml", "count: 1\nextends: nowhere.yaml\n");
  has(message([&] { OptionNode::load(f + "/missing.yaml"); }),
      f + "/missing.yaml:2:10: extends: " + f + "/nowhere.yaml does not exist");
  write_text(f + "/circle.yaml", "extends: circle2.yaml\n");
  write_text(f + "/circle2.yaml", "extends: ./circle.yaml\n");
  has(message([&] { OptionNode::load(f + "/circle.yaml"); }), "in a circle");
  write_text(f + "/list.yaml", "- 1\n");
  has(message([&] { OptionNode::load(f + "/list.yaml"); }),
      "list.yaml:1:1: a configuration is a map");
  write_text(f + "/kind.yaml", "extends: [a.yaml]\n");
  has(message([&] { OptionNode::load(f + "/kind.yaml"); }),
      "kind.yaml:1:10: extends must name one");
  has(message([&] { OptionNode::load(f + "/none.yaml"); }), "none.yaml: no such file");
  has(message([&] { OptionNode::load(f); }), "is a folder");
  // A wrong value in the file beneath is reported there.
  write_text(f + "/over.yaml", "extends: under.yaml\n");
  write_text(f + "/under.yaml", "rate: 1\ncount: x\n");
  has(message([&] { read(OptionNode::load(f + "/over.yaml")); }),
      f + "/under.yaml:2:8: count must");
  fs::remove_all(f);
}

TEST_CASE("options: a later check names the place of its setting", "[options]") {
  const OptionNode node = OptionNode::parse("inner:\n  name: x\nnumbers: [1, 2]\n", "f.yaml");
  const auto said = [&](const char* text) {
    return message([&] { with_place(node, [&] { throw ConfigError(text); }); });
  };
  CHECK(said("inner.name: no good") == "f.yaml:2:9: inner.name: no good");
  CHECK(said("inner.factor: no good") == "f.yaml:2:3: inner.factor: no good");
  CHECK(said("numbers.1 = 2 is odd") == "f.yaml:3:14: numbers.1 = 2 is odd");
  CHECK(said("elsewhere: no good") == "elsewhere: no good");
}

TEST_CASE("options: the reference names type, range, default and what a map holds", "[options]") {
  OptionHelp help("s");
  Sample c;
  describe(help, c);
  has(help.text(), "s.count: whole number, at least 0. Default: 7\n    how many\n");
  has(help.text(), "s.choice: one | two. Default: \"one\"");
  has(help.text(), "s.maybe: whole number or null. Default: 5");
  has(help.text(), "s.pairs: list of lists of 2 numbers. Default: []");
  has(help.text(), "    s.inners[].factor: number or null, 0 to 1. Default: null");
  has(help.text(), "    s.inner.name: text. Default: \"inner\"");
}

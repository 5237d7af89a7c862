#include "app/tokenize.h"
#include "core/check.h"
#include "data/jsonl.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <nlohmann/json.hpp>
#include <zlib.h>
#include <zstd.h>

#include <fstream>

using namespace ft;
using namespace ft::test;

namespace {

std::string bytes_of(const Document& d) {
  REQUIRE(!d.empty());
  REQUIRE(d.back() == 256);
  return std::string(d.begin(), d.end() - 1);
}

void write_gz(const std::string& path, const std::string& text) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
}

std::string zst(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), 0);
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

std::vector<std::string> texts(const std::string& prefix) {
  const TokenSet set(prefix);
  std::vector<std::string> all;
  for (int64_t d = 0; d < set.documents(); ++d) all.push_back(bytes_of(read_document(set, d)));
  return all;
}

std::string refusal(const TokenizeOptions& options) {
  try {
    tokenize(options);
  } catch (const ConfigError& e) {
    return e.what();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("tokenize takes text, JSONL, folders, gz and zst", "[tokenize]") {
  const TempFolder folder;
  std::string binary;
  for (int i = 0; i < 512; ++i) binary += static_cast<char>(i);
  std::string big;  // larger than a piece, lines across pieces
  for (int i = 0; i < 30000; ++i)
    big +=
        nlohmann::json{{"text", "line " + std::to_string(i) + std::string(60, 'x')}}.dump() + "\n";
  std::filesystem::create_directories(folder / "in/sub");
  write_text(folder / "in/b.txt", "hello\n");
  write_text(folder / "in/a.bin", binary);
  write_text(folder / "in/empty.txt", "");
  write_text(folder / "in/sub/c.jsonl",
             "{\"text\": \"one\\nline\"}\r\n\n{\"text\": \"\"}\n{\"text\": \"t\\u00e4\"}");
  write_gz(folder / "in/sub/d.jsonl.gz", "{\"text\": \"packed\"}\n");
  write_text(folder / "in/sub/e.txt.zst", zst("zst ") + zst("twice"));  // two frames
  write_gz(folder / "big.jsonl.gz", big);
  tokenize({.inputs = {folder / "in"}, .out = folder / "in/out"});
  const std::vector<std::string> expected{binary, "hello\n",   "",       "one\nline",
                                          "",     "t\xc3\xa4", "packed", "zst twice"};
  CHECK(texts(folder / "in/out") == expected);
  int64_t bytes = 0;
  for (const auto& text : expected) bytes += static_cast<int64_t>(text.size());
  const auto about = nlohmann::json::parse(read_text(folder / "in/out.json"));
  CHECK(about == nlohmann::json{{"tokenizer", "bytes"},
                                {"vocab_size", 257},
                                {"end_of_document", 256},
                                {"documents", 8},
                                {"tokens", bytes + 8},
                                {"bytes", bytes}});
  CHECK(TokenSet(folder / "in/out").dtype_name() == "uint16");

  tokenize({.inputs = {folder / "in"}, .out = folder / "in/out"});  // its own output is no input
  CHECK(texts(folder / "in/out") == expected);
  tokenize({.inputs = {folder / "in"}, .out = folder / "jsonl", .extensions = {"jsonl"}});
  CHECK(texts(folder / "jsonl") ==
        std::vector<std::string>(expected.begin() + 3, expected.begin() + 7));
  tokenize({.inputs = {folder / "big.jsonl.gz"}, .out = folder / "big"});
  const auto lines = texts(folder / "big");
  REQUIRE(lines.size() == 30000);
  CHECK(lines[29999] == "line 29999" + std::string(60, 'x'));
}

TEST_CASE("a set whose files are links is replaced where they lead", "[tokenize]") {
  const TempFolder folder;
  namespace fs = std::filesystem;
  fs::create_directories(folder / "far");
  write_text(folder / "a.txt", "hello");
  for (const char* suffix : {".bin", ".idx", ".json"}) {
    write_text(folder / "far/old" + suffix, "old");
    fs::create_symlink(folder / "far/old" + suffix, folder / "set" + suffix);
  }
  tokenize({.inputs = {folder / "a.txt"}, .out = folder / "set"});
  for (const char* suffix : {".bin", ".idx", ".json"})
    CHECK(fs::is_symlink(folder / "set" + suffix));
  CHECK(texts(folder / "set") == std::vector<std::string>{"hello"});
  CHECK(texts(folder / "far/old") == std::vector<std::string>{"hello"});
}

TEST_CASE("tokenize splits only very long documents into sequences", "[tokenize]") {
  const TempFolder folder;
  std::string text(size_t{1} << 24, 'a');
  text += "end";
  write_text(folder / "long.txt", text);
  tokenize({.inputs = {folder / "long.txt"}, .out = folder / "long"});
  const TokenSet set(folder / "long");
  CHECK(set.documents() == 1);
  CHECK(set.sequences() == 2);
  CHECK(bytes_of(read_document(set, 0)) == text);
}

TEST_CASE("tokenize says what is wrong and leaves nothing", "[tokenize]") {
  const TempFolder folder;
  const auto has = [](const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  const auto of = [&](const std::string& name) {
    return TokenizeOptions{.inputs = {folder / name}, .out = folder / "out"};
  };
  write_text(folder / "a.jsonl", "{\"text\": \"a\"}\n{\"text\": \n");
  write_text(folder / "b.jsonl", "{\"text\": \"a\"}\n\n{\"content\": \"b\"}\n");
  write_text(folder / "c.jsonl", "[1]\n");
  write_text(folder / "d.txt.gz", "not packed");
  write_text(folder / "e.txt.zst", "not packed");
  const std::string packed = zst(std::string(100000, 'x') + "yz");
  write_text(folder / "f.txt.zst", packed.substr(0, packed.size() - 3));
  write_gz(folder / "g.txt.gz", std::string(100000, 'x'));
  write_text(folder / "g.txt.gz", read_text(folder / "g.txt.gz").substr(0, 60));
  write_text(folder / "h.jsonl", "\n");
  std::filesystem::create_directories(folder / "hollow");
  has(refusal(of("missing")), "missing: no such file or folder");
  has(refusal(of("a.jsonl")), "a.jsonl:2: is no JSON");
  has(refusal(of("b.jsonl")), "b.jsonl:3: the object has no text in \"text\"");
  has(refusal(of("c.jsonl")), "c.jsonl:1: expected a JSON object, found array");
  has(refusal(of("d.txt.gz")), "d.txt.gz: is not in gzip format");
  has(refusal(of("e.txt.zst")), "e.txt.zst: is damaged");
  has(refusal(of("f.txt.zst")), "f.txt.zst: is cut short");
  has(refusal(of("g.txt.gz")), "g.txt.gz: is damaged");
  has(refusal(of("h.jsonl")), "no documents");
  has(refusal(of("hollow")), "hollow: the folder holds no files");
  has(refusal({.inputs = {folder / "a.jsonl"}, .out = ""}), "--out");
  for (const char* end : {".bin", ".idx", ".json"})
    CHECK(!std::filesystem::exists((folder / "out") + end));
  write_text(folder / "b.jsonl", "{\"content\": \"b\"}\n");
  tokenize({.inputs = {folder / "b.jsonl"}, .out = folder / "out", .field = "content"});
  CHECK(texts(folder / "out") == std::vector<std::string>{"b"});
}

TEST_CASE("tokenize writes the same bytes with any number of threads", "[tokenize]") {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "in");
  std::vector<std::string> expected;
  std::string lines, text;
  for (int i = 0; lines.size() < (size_t{11} << 20); ++i) {  // several pieces
    expected.push_back(std::string(static_cast<size_t>(i * 7919 % 900), 'a' + i % 26) +
                       (i % 3 ? "" : "\n\"\u00e4"));
    lines += nlohmann::json{{"id", i}, {"text", expected.back()}}.dump() + (i % 5 ? "\n" : "\r\n");
    if (i % 11 == 0) lines += "\n";
  }
  for (int64_t i = 0; i < 6'000'000; ++i) text += static_cast<char>(i * i >> 3);
  expected.push_back(text);
  write_text(folder / "in/a.jsonl", lines);
  write_text(folder / "in/b.txt", text);
  for (int i = 0; i < 40; ++i) {
    write_text(folder / fmt::format("in/c{:02}.txt", i), std::to_string(i));
    expected.push_back(std::to_string(i));
  }
  write_gz(folder / "in/d.jsonl.gz", "{\"text\": \"end\"}");
  expected.push_back("end");
  std::string one_bin, one_idx;
  for (const int64_t threads : {1, 2, 5}) {
    const std::string out = folder / fmt::format("out{}", threads);
    tokenize({.inputs = {folder / "in"}, .out = out, .threads = threads});
    if (threads == 1) {
      one_bin = read_text(out + ".bin"), one_idx = read_text(out + ".idx");
      CHECK(texts(out) == expected);
    }
    CHECK((read_text(out + ".bin") == one_bin));
    CHECK((read_text(out + ".idx") == one_idx));
  }

  // The fault that comes first in the files is named, with its line, whoever finds one first.
  const size_t first = lines.find('\n', size_t{9} << 20), second = lines.find('\n', first + 1000);
  const auto number =
      1 + std::count(lines.begin(), lines.begin() + static_cast<int64_t>(first) + 1, '\n');
  std::string bad = lines;
  bad.insert(second + 1, "nor this\n");
  bad.insert(first + 1, "not this\n");
  write_text(folder / "bad.jsonl", bad);
  const std::string says =
      refusal({.inputs = {folder / "bad.jsonl"}, .out = folder / "bad", .threads = 4});
  INFO(says);
  CHECK(says.find(fmt::format("bad.jsonl:{}: is no JSON", number)) != std::string::npos);
  CHECK(says.find("'n'") == std::string::npos);
  CHECK(!std::filesystem::exists(folder / "bad.bin"));
}

TEST_CASE("a prompt goes before the text and is left out of the loss", "[tokenize]") {
  const TempFolder folder;
  write_text(folder / "a.jsonl",
             "{\"prompt\": \"2+2=\", \"text\": \"4\"}\n{\"text\": \"b\", \"prompt\": \"\"}\n");
  write_text(folder / "b.txt", "xyz");
  tokenize({.inputs = {folder / "a.jsonl", folder / "b.txt"},
            .out = folder / "out",
            .prompt_field = "prompt"});
  CHECK(texts(folder / "out") == std::vector<std::string>{"2+2=4", "b", "xyz"});
  const TokenSet set(folder / "out");
  REQUIRE(set.has_mask());
  CHECK(read_text(folder / "out.mask.bin") ==
        std::string("\0\0\0\0\1\1\1\1\1\1\1\1", 12));  // an end of document counts
  write_text(folder / "c.jsonl", "{\"text\": \"b\"}\n");
  const std::string says =
      refusal({.inputs = {folder / "c.jsonl"}, .out = folder / "c", .prompt_field = "prompt"});
  CHECK(says.find("c.jsonl:1: the object has no text in \"prompt\"; --prompt-field") !=
        std::string::npos);
  tokenize({.inputs = {folder / "a.jsonl"}, .out = folder / "out"});
  CHECK_FALSE(TokenSet(folder / "out").has_mask());
}

TEST_CASE("lines of JSON are read as JSON says", "[tokenize]") {
  JsonLine parser("text", "");
  const auto text_of = [&](std::string line) -> std::string {
    line.append(JsonLine::kPadding, '}');
    const auto texts =
        parser.parse(std::string_view(line).substr(0, line.size() - JsonLine::kPadding));
    return texts ? std::string(texts->text) : "blank";
  };
  CHECK(text_of("") == "blank");
  CHECK(text_of(" \t\r") == "blank");
  CHECK(text_of(R"({"text": "a\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"})") ==
        "a\"\\/\b\f\n\r\tA\u00e9\U0001F600");
  CHECK(text_of(std::string("{\"text\": \"a\\u0000b\"}")) == std::string("a\0b", 3));
  CHECK(text_of(R"({"a": {"text": "inner"}, "text": "outer", "b": [1, {"text": 2}]})") == "outer");
  CHECK(text_of(R"({"text": "first", "text": "last"})") == "last");
  CHECK(text_of(R"({"te\u0078t": "escaped name"})") == "escaped name");
  CHECK(text_of(R"({"n": 123456789012345678901234567890, "text": "huge"})") == "huge");
  CHECK(text_of(R"({"n": -1.5e-3, "text": ""}   )").empty());
  for (const char* bad :
       {R"({"text": "a")", R"({"text": "a"} x)", R"({"text": "a"}{"text": "b"})", R"({text: "a"})",
        R"({"text": 'a'})", R"({"text": "a",})", "{\"text\": \"a\tb\"}", R"({"text": "\x"})",
        R"({"text": "\ud800"})", "{\"text\": \"\xff\"}", R"({"a": nul, "text": "a"})",
        R"({"a": 01, "text": "a"})", R"({"text": 1})", R"({"text": null})", R"({"Text": "a"})",
        R"("text")", "7", "null"}) {
    INFO(bad);
    CHECK_THROWS_AS(text_of(bad), ConfigError);
  }
}

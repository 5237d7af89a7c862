#include "app/tokenize.h"
#include "core/check.h"
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

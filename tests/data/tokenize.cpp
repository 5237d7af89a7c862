#include "app/commands/tokenize.h"
#include "core/check.h"
#include "data/jsonl.h"
#include "data/set_info.h"
#include "data/text/tokenizer_json.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <nlohmann/json.hpp>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
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
  std::string odd;  // of any encoding, mostly ASCII
  for (int i = 1; i < 512; ++i) odd += static_cast<char>(i % 256 < 200 ? i % 128 : i);
  odd.erase(std::remove(odd.begin(), odd.end(), '\0'), odd.end());
  std::string big;  // larger than a piece, lines across pieces
  for (int i = 0; i < 30000; ++i)
    big +=
        nlohmann::json{{"text", "line " + std::to_string(i) + std::string(60, 'x')}}.dump() + "\n";
  std::filesystem::create_directories(folder / "in/sub");
  write_text(folder / "in/b.txt", "hello\n");
  write_text(folder / "in/a.bin", odd);
  write_text(folder / "in/empty.txt", "");
  write_text(folder / "in/sub/c.jsonl",
             "{\"text\": \"one\\nline\"}\r\n\n{\"text\": \"\"}\n{\"text\": \"t\\u00e4\"}");
  write_gz(folder / "in/sub/d.jsonl.gz", "{\"text\": \"packed\"}\n");
  write_text(folder / "in/sub/e.txt.zst", zst("zst ") + zst("twice"));  // two frames
  write_gz(folder / "big.jsonl.gz", big);
  tokenize({.inputs = {folder / "in"}, .out = folder / "in/out"});
  const std::vector<std::string> expected{odd, "hello\n",   "",       "one\nline",
                                          "",  "t\xc3\xa4", "packed", "zst twice"};
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
  write_text(folder / "b.txt", "before");
  tokenize({.inputs = {folder / "b.txt"}, .out = folder / "far/old"});
  for (const char* suffix : {".bin", ".idx", ".json"}) {
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
  has(refusal(of("g.txt.gz")), "g.txt.gz: is cut short");
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
  for (int64_t i = 0; i < 6'000'000; ++i) text += static_cast<char>(1 + (i * i >> 3) % 126);
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
      CHECK((texts(out) == expected));
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
  // What Python's json takes, and writes.
  CHECK(text_of(R"({"n": [NaN, -Infinity,Infinity, 1e999, -0.5E+400], "text": "NaN 1e999"})") ==
        "NaN 1e999");
  CHECK(text_of(R"({"text": "a\ud83d"})") == "a\uFFFD");
  CHECK(text_of(R"({"text": "\ud83d\u0041"})") ==
        "\uFFFD"
        "A");
  CHECK(text_of(R"({"text": "\ude00\\\ud83d"})") == "\uFFFD\\\uFFFD");
  CHECK(text_of(R"({"text": "\ud83d\ud83d\ude00"})") == "\uFFFD\U0001F600");
  CHECK(text_of(R"({"text": "\\ud83d"})") == "\\ud83d");
  CHECK(text_of(R"({"n": NaN, "text": "\"NaN, \\"})") == "\"NaN, \\");
  CHECK(text_of(R"({"text": 1, "text": "last"})") == "last");
  CHECK(text_of("\xEF\xBB\xBF{\"text\": \"marked\"}") == "marked");
  for (const char* bad : {R"({"text": "a")",
                          R"({"text": "a"} x)",
                          R"({"text": "a"}{"text": "b"})",
                          R"({text: "a"})",
                          R"({"text": 'a'})",
                          R"({"text": "a",})",
                          "{\"text\": \"a\tb\"}",
                          R"({"text": "\x"})",
                          R"({"text": "\ud80"})",
                          "{\"text\": \"\xff\"}",
                          R"({"a": 1.5.2, "text": "a"})",
                          R"({"a": -NaN, "text": "a"})",
                          R"({"a": NaN1, "text": "a"})",
                          R"({"a": +1, "text": "a"})",
                          R"({"a": 1e, "text": "a"})",
                          R"({"a": 1NaN, "text": "a"})",
                          R"({"text": "a", "text": 1})",
                          R"({"a": nul, "text": "a"})",
                          R"({"a": 01, "text": "a"})",
                          R"({"text": 1})",
                          R"({"text": null})",
                          R"({"Text": "a"})",
                          R"("text")",
                          "7",
                          "null"}) {
    INFO(bad);
    CHECK_THROWS_AS(text_of(bad), ConfigError);
  }
}

TEST_CASE("tokenize never replaces what it reads, nor what is not its own", "[tokenize]") {
  const TempFolder folder;
  namespace fs = std::filesystem;
  const std::string raw = folder / "corpus.json", text = "my precious text";
  const auto check = [&](const TokenizeOptions& options, const std::string& part) {
    const std::string says = refusal(options);
    INFO(says);
    CHECK(says.find(part) != std::string::npos);
    CHECK(read_text(raw) == text);
    for (const char* end : {".bin", ".idx", ".mask.bin"})
      CHECK(!fs::exists((folder / "corpus") + end));
  };
  write_text(raw, text);
  fs::create_directory_symlink(".", folder / "link");
  fs::create_hard_link(raw, folder / "other.txt");
  check({.inputs = {raw}, .out = folder / "corpus"}, "is the input " + raw + ", which it would");
  check({.inputs = {raw}, .out = folder / "link/corpus"}, "corpus.json is the input");
  check({.inputs = {folder / "link/./corpus.json"}, .out = folder / "corpus"}, "is the input");
  check({.inputs = {folder / "other.txt"}, .out = folder / "corpus"}, "is the input");
  check({.inputs = {folder / ""}, .out = folder / "corpus"}, "is the input");
  write_text(folder / "a.txt", "a");
  check({.inputs = {folder / "a.txt"}, .out = folder / "corpus"},
        "corpus.json: is there already and belongs to no token set");
  for (const char* end : {".bin", ".idx", ".mask.bin"}) {
    const std::string path = folder / (std::string("x") + end);
    write_text(path, "text");
    check({.inputs = {path}, .out = folder / "x"}, end + std::string(" is the input"));
    check({.inputs = {folder / "a.txt"}, .out = folder / "x"}, "belongs to no token set");
    CHECK(read_text(path) == "text");
    fs::remove(path);
  }
  fs::create_directory(folder / "x.json");
  check({.inputs = {folder / "a.txt"}, .out = folder / "x"}, "belongs to no token set");
  check({.inputs = {folder / "a.txt"}, .out = folder / "x\xff"}, "x\\xff is not UTF-8");
  // A set of its own it does replace.
  tokenize({.inputs = {folder / "a.txt"}, .out = folder / "set"});
  tokenize({.inputs = {raw}, .out = folder / "set"});
  CHECK(texts(folder / "set") == std::vector<std::string>{text});
}

TEST_CASE("what is no text is refused by name, and left out of folders", "[tokenize]") {
  const TempFolder folder;
  const std::string in = folder / "in";
  write_text(in + "/a.txt", "alpha");
  write_text(in + "/.hidden.txt", "not this");
  write_text(in + "/.git/config", "nor this");
  const auto put = [&](const std::string& name, const std::string& bytes, const std::string& kind) {
    const std::string path = in + "/" + name;
    write_text(path, bytes);
    const std::string says = refusal({.inputs = {path}, .out = folder / "out"});
    INFO(name << ": " << says);
    CHECK(says.find(name + ": is ") != std::string::npos);
    CHECK(says.find(kind) != std::string::npos);
  };
  using namespace std::string_literals;
  const std::string gz = [&] {
    write_gz(folder / "t.gz", "{\"text\": \"b\"}\n");
    return read_text(folder / "t.gz");
  }();
  put("b.jsonl.bz2", "BZh91AY&SY\x12\x34", "packed with bzip2");
  put("b.jsonl", "BZh91AY&SY\x12\x34", "packed with bzip2");
  put("c.xz", "\xfd\x37zXZ\0"s, "packed with xz");
  put("d.lz4", "\x04\x22\x4d\x18", "packed with lz4");
  put("e.zip", "PK\x03\x04", "a zip archive");
  put("e.txt", "PK\x03\x04", "a zip archive");
  put("f.parquet", "PAR1\x15\x04", "a parquet file");
  put("g.arrow", "ARROW1\0\0"s, "an arrow file");
  put("h.tar", std::string(257, 'x') + "ustar\0"s, "a tar archive");
  put("h.tar.gz", gz, "a tar archive");
  put("h.TGZ", gz, "packed with gzip");
  put("i.jsonl", gz, "packed with gzip");
  put("j.txt", zst("abc"), "packed with zstd");
  put("k.safetensors", "\x10\0\0\0\0\0\0\0{}"s, "a model's weights");
  put("k.model", "\x10\0\0\0\0\0\0\0{\"a\""s, "a model's weights");
  put("l.pdf", "%PDF-1.7\n", "a PDF");
  put("m.png", "\x89PNG\r\n\x1a\n", "an image");
  put("n.txt", "text\0text"s, "NUL bytes");
  put("o.txt", std::string(100, '\xff'), "not UTF-8");
  put("p.txt", "\xff\xfeh\0i\0"s, "UTF-16");
  put("p32.txt", "\xff\xfe\0\0h\0\0\0"s, "UTF-32");
  put("q.npy", "\x93NUMPY\x01\0"s, "a numpy array");
  put("r.JSONL.XZ", "\xfd\x37zXZ\0"s, "packed with xz");
  write_set(in + "/s", {{1, 2}});
  write_text(in + "/s.json", R"({"tokenizer": "bytes", "vocab_size": 257})");
  for (const char* end : {".bin", ".idx", ".json"})
    CHECK(refusal({.inputs = {in + "/s" + end}, .out = folder / "out"}).find(" set, not text") !=
          std::string::npos);
  CHECK(refusal({.inputs = {in + "/a.txt", in + "/c.xz"}, .out = folder / "out"})
            .find("c.xz: is packed with xz") != std::string::npos);
  CHECK(!std::filesystem::exists(folder / "out.bin"));
  // Words that formats begin with are words all the same, and so is text of older encodings.
  write_text(in + "/t.txt", "PAR1 and GGUF, BZh9");
  write_text(in + "/u.txt", "caf\xe9 au lait, s'il vous pla\xeet");
  std::filesystem::create_directory_symlink(".", in + "/v");
  tokenize({.inputs = {in}, .out = folder / "out"});
  CHECK(texts(folder / "out") == std::vector<std::string>{"alpha", "PAR1 and GGUF, BZh9",
                                                          "caf\xe9 au lait, s'il vous pla\xeet"});
  write_text(folder / "none/x.zip", "PK\x03\x04");
  CHECK(refusal({.inputs = {folder / "none"}, .out = folder / "none-out"})
            .find("the folder holds no text") != std::string::npos);
}

TEST_CASE("gzip, zstd and JSON Lines are read as other tools read them", "[tokenize]") {
  const TempFolder folder;
  const auto of = [&](const std::string& name) {
    tokenize({.inputs = {folder / name}, .out = folder / "out"});
    return texts(folder / "out");
  };
  using Texts = std::vector<std::string>;
  const auto member = [&](const std::string& text) {
    write_gz(folder / "member", text);
    return read_text(folder / "member");
  };
  const auto line = [](const std::string& text) {
    return nlohmann::json{{"text", text}}.dump() + "\n";
  };
  const std::string a = member(line("a")), b = member(line("b"));
  write_text(folder / "x.jsonl.gz", a + member("") + b + std::string(70000, '\0'));
  CHECK(of("x.jsonl.gz") == Texts{"a", "b"});
  write_text(folder / "x.NDJSON.GZ", a + b);
  CHECK(of("x.NDJSON.GZ") == Texts{"a", "b"});
  const auto damaged = [&](const std::string& bytes, const std::string& part) {
    write_text(folder / "y.jsonl.gz", bytes);
    TokenizeOptions options{.inputs = {folder / "y.jsonl.gz"}, .out = folder / "y"};
    const std::string says = refusal(options);
    INFO(says);
    CHECK(says.find("y.jsonl.gz: " + part) != std::string::npos);
    CHECK(says.find("--skip-bad") != std::string::npos);
    options.skip_bad = true;
    tokenize(options);
    CHECK(texts(folder / "y") == Texts{"a"});
    for (const char* end : {".bin", ".idx", ".json"}) std::filesystem::remove((folder / "y") + end);
  };
  std::string bad = b;
  bad[0] = 'x';
  damaged(a + bad, "is damaged");
  bad = b;
  bad[bad.size() - 7] ^= 1;  // its checksum: zlib gives the text before it knows
  damaged(a + b.substr(0, b.size() - 20), "is cut short");
  damaged(a + "some text", "is damaged");
  damaged(a + std::string(9, '\0') + "xyz", "is damaged");

  std::string skippable("\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
  write_text(folder / "x.jsonl.zst", skippable + zst(line("a")) + skippable + zst(line("b")));
  CHECK(of("x.jsonl.zst") == Texts{"a", "b"});
  {  // as zstd --long=31 writes
    const std::string text = line(std::string(100000, 'z'));
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 30);
    std::string packed(ZSTD_compressBound(text.size()) + 100, 0);
    ZSTD_outBuffer out{packed.data(), packed.size(), 0};
    ZSTD_inBuffer in{text.data(), text.size(), 0};
    ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush);  // its size is not known yet
    ZSTD_compressStream2(context, &out, &in, ZSTD_e_end);
    ZSTD_freeCCtx(context);
    write_text(folder / "long.jsonl.zst", packed.substr(0, out.pos));
    CHECK(of("long.jsonl.zst") == Texts{std::string(100000, 'z')});
  }
  const std::string mark = "\xEF\xBB\xBF";
  for (const char* name : {"l.jsonl", "l.JSONL", "l.ndjson", "l.JsonLines"}) {
    write_text(folder / name, mark + "{\"text\": \"a\"}\r\n\r\n \n" + line("b") + mark +
                                  R"({"text": "c", "x": [NaN, -Infinity, 1e999, Infinity]})");
    CHECK(of(name) == Texts{"a", "b", "c"});
  }
  write_text(folder / "m.txt", mark + "text");
  CHECK(of("m.txt") == Texts{"text"});
  std::string giant = line(std::string(size_t{18} << 20, 'g'));  // over several pieces
  write_text(folder / "g.jsonl", line("a") + giant + line("b"));
  const auto all = of("g.jsonl");
  REQUIRE(all.size() == 3);
  CHECK(all[1].size() == size_t{18} << 20);
  CHECK(all[2] == "b");
}

TEST_CASE("bad lines end the job, or are left out and counted", "[tokenize]") {
  const TempFolder folder;
  std::string lines;
  std::vector<std::string> good;
  for (int i = 0; i < 1000; ++i) {
    good.push_back(std::to_string(i));
    lines += nlohmann::json{{"text", good.back()}}.dump() + "\n";
    if (i % 100 == 50) lines += "{\"text\": 1}\n\xff\n{\"no\": \"text\"}\n{\"text\": \"cut\n";
  }
  write_text(folder / "a.jsonl", lines);
  TokenizeOptions options{.inputs = {folder / "a.jsonl"}, .out = folder / "out"};
  const std::string says = refusal(options);
  INFO(says);
  CHECK(says.find("a.jsonl:52: the object has no text") != std::string::npos);
  CHECK(says.find("--skip-bad leaves out what is bad") != std::string::npos);
  CHECK(!std::filesystem::exists(folder / "out.bin"));
  options.skip_bad = true;
  for (const int64_t threads : {1, 3}) {
    options.threads = threads;
    tokenize(options);
    CHECK(texts(folder / "out") == good);
  }
  CHECK(nlohmann::json::parse(read_text(folder / "out.json"))["bytes"] == 2890);
  write_text(folder / "b.jsonl", "no\n");
  CHECK(refusal({.inputs = {folder / "b.jsonl"}, .out = folder / "b", .skip_bad = true})
            .find("no documents") != std::string::npos);
}

TEST_CASE("tokenize with a tokenizer.json gives its ids, at any number of threads", "[tokenize]") {
  const TempFolder folder;
  const std::string file = folder / "tok/tokenizer.json";
  std::filesystem::create_directories(folder / "tok");
  std::filesystem::copy_file("tests/text/golden/llama3.json", file);
  const auto tokenizer = read_tokenizer_json(file);
  const auto corpus = nlohmann::json::parse(read_text("tests/text/golden/corpus.json"));
  const auto end = static_cast<int32_t>(tokenizer->id_of("<|end_of_text|>"));
  REQUIRE(end > 0);
  std::string lines;
  std::vector<Document> expected;
  for (int again = 0; again < 20; ++again)
    for (const auto& text : corpus) {
      lines += nlohmann::json{{"q", "ab"}, {"text", text}}.dump() + "\n";
      expected.push_back(tokenizer->encode(text.get<std::string>()));
      expected.back().push_back(end);
    }
  write_text(folder / "a.jsonl", lines);
  const auto documents = [&] {
    const TokenSet set(folder / "out");
    std::vector<Document> all;
    for (int64_t d = 0; d < set.documents(); ++d) all.push_back(read_document(set, d));
    return all;
  };
  TokenizeOptions options{
      .inputs = {folder / "a.jsonl"}, .out = folder / "out", .tokenizer = folder / "tok"};
  for (const int64_t threads : {1, 3}) {
    options.threads = threads;
    tokenize(options);
    CHECK((documents() == expected));
  }
  CHECK(TokenSet(folder / "out").dtype_name() == "uint16");
  const auto info = read_set_info(folder / "out");
  REQUIRE(info);
  CHECK(info->tokenizer == std::filesystem::canonical(folder / "tok").string() + "/tokenizer.json");
  CHECK(info->tokenizer_hash == tokenizer->hash());
  CHECK(info->vocab_size == tokenizer->vocab_size());
  CHECK(info->end_of_document == end);

  const auto end_with = [&](const std::string& wanted) {
    TokenizeOptions o = options;
    o.inputs = {folder / "one.jsonl"}, o.end_of_document = wanted;
    tokenize(o);
    return documents().at(0).back();
  };
  write_text(folder / "one.jsonl", "{\"text\": \"a b\"}\n");
  const int32_t plain = tokenizer->encode("a b").back();
  CHECK(end_with("none") == plain);
  CHECK(end_with("7") == 7);
  CHECK(end_with("<|begin_of_text|>") == tokenizer->id_of("<|begin_of_text|>"));
  write_text(folder / "tok/generation_config.json", R"({"eos_token_id": [5, 6]})");
  CHECK(end_with("") == 5);
  write_text(folder / "tok/tokenizer_config.json",
             R"({"eos_token": {"content": "<|begin_of_text|>"}})");
  CHECK(end_with("") == tokenizer->id_of("<|begin_of_text|>"));
  const auto refused = [&](const std::string& wanted, const std::string& part) {
    options.end_of_document = wanted;
    const std::string says = refusal(options);
    INFO(says);
    CHECK(says.find(part) != std::string::npos);
  };
  refused("100000", "--end-of-document 100000: is neither a token nor an id");
  refused("nonsense", "is neither a token nor an id of");
  write_text(folder / "tok/tokenizer_config.json", R"({"eos_token": "</s>"})");
  refused("", "tokenizer_config.json: names \"</s>\" as the end, which is no token");
  write_text(folder / "tok/tokenizer_config.json", "{");
  refused("", "tokenizer_config.json: is no JSON object");
  options.tokenizer = "";
  refused("7", "--end-of-document goes with --tokenizer");
  // The set's note would be the tokenizer.
  CHECK(refusal(
            {.inputs = {folder / "one.jsonl"}, .out = folder / "tok/tokenizer", .tokenizer = file})
            .find("is the tokenizer") != std::string::npos);
  // Text that is no UTF-8 has no ids.
  write_text(folder / "latin.txt", "caf\xe9");
  options = {.inputs = {folder / "latin.txt", folder / "one.jsonl"},
             .out = folder / "out",
             .tokenizer = file,
             .end_of_document = "none"};
  CHECK(refusal(options).find("latin.txt: is not UTF-8 at byte 3") != std::string::npos);
  options.skip_bad = true;
  tokenize(options);
  CHECK(documents() == std::vector<Document>{tokenizer->encode("a b")});
}

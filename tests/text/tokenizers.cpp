// Ids and texts are those of the Hugging Face library; what we cannot do is refused by name.
#include "core/check.h"
#include "core/file.h"
#include "data/text/tokenizer_json.h"
#include "tests/catch.h"

#include <nlohmann/json.hpp>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <sstream>

using namespace ft;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// Made by tests/text/make.py.
std::string golden() {
  const char* other = std::getenv("FT_TEXT_GOLDEN");
  return other ? other : "tests/text/golden";
}

std::string text_of(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool all) {
  std::string text;
  for (const int32_t id : ids) text += all ? tokenizer.token(id) : tokenizer.shown(id);
  return valid_utf8(text);
}

struct File {
  std::string path = (fs::temp_directory_path() / fmt::format("ft-text-{}.json", ::getpid()));
  explicit File(const std::string& text) { write_text(path, text); }
  ~File() { fs::remove(path); }
};

std::unique_ptr<Tokenizer> read(const json& all) {
  return read_tokenizer_json(File(all.dump()).path);
}

std::string refusal(const json& all) {
  try {
    read(all);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing was wrong";
}

// Letters a to e, with merges ab, bc, abc.
json small() {
  return json::parse(R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE",
      "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "ab": 5, "bc": 6, "abc": 7},
      "merges": ["a b", "b c", "ab c"]}})");
}

json split(const std::string& pattern, const std::string& behavior = "Isolated") {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", behavior},
          {"invert", false}};
}

}  // namespace

TEST_CASE("text: ids and decoded texts are those of the Hugging Face library") {
  const json corpus = json::parse(read_text(golden() + "/corpus.json"));
  int kinds = 0;
  for (const auto& entry : fs::directory_iterator(golden())) {
    const std::string path = entry.path();
    if (path.ends_with("corpus.json") || !path.ends_with(".json")) continue;
    ++kinds;
    const auto tokenizer = read_tokenizer_json(path);
    std::istringstream lines(read_text(path.substr(0, path.size() - 5) + ".expected.jsonl"));
    for (const json& one : corpus) {
      const auto text = one.get<std::string>();
      std::string line;
      REQUIRE(std::getline(lines, line));
      const json want = json::parse(line);
      INFO(path << ": " << one.dump());
      const std::vector<int32_t> ids = tokenizer->encode(text);
      CHECK(ids == want[0].get<std::vector<int32_t>>());
      const std::string whole = want[1].is_null() ? text : want[1].get<std::string>();
      CHECK(text_of(*tokenizer, ids, true) == whole);
      CHECK(text_of(*tokenizer, ids, false) ==
            (want.size() > 2 ? want[2].get<std::string>() : whole));
    }
  }
  CHECK(kinds == 10);
}

TEST_CASE("text: what is no UTF-8 is read as U+FFFD") {
  for (const std::string kind : {"gpt2", "qwen2", "llama3"}) {
    const auto tokenizer = read_tokenizer_json(golden() + "/" + kind + ".json");
    for (const auto& [bytes, text] : std::vector<std::pair<std::string, std::string>>{
             {"a\xff"
              "b",
              "a\uFFFDb"},
             {"\xE2\x82", "\uFFFD"},
             {"\xE2\x82 x", "\uFFFD x"},
             {"\xC0\x80", "\uFFFD\uFFFD"},
             {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
             {"\xF0\x9F\x98\x80\x80", "\U0001F600\uFFFD"}}) {
      CHECK(tokenizer->encode(bytes) == tokenizer->encode(text));
      CHECK(text_of(*tokenizer, tokenizer->encode(bytes), true) == text);
    }
  }
}

TEST_CASE("text: what stands before a prompt, and ids that mean nothing") {
  const auto llama = read_tokenizer_json(golden() + "/llama3.json");
  const int32_t bos = llama->encode("<|begin_of_text|>").at(0);
  CHECK(llama->prefix() == std::vector<int32_t>{bos});
  CHECK(llama->encode_prompt("").size() == 1);
  CHECK(llama->encode_prompt("<|begin_of_text|>a") == llama->encode("<|begin_of_text|>a"));
  CHECK(llama->encode_prompt("a") == llama->encode("<|begin_of_text|>a"));
  CHECK(llama->special(bos));
  CHECK(llama->shown(bos).empty());
  for (const int64_t id : {int64_t{-1}, llama->vocab_size(), int64_t{1} << 40}) {
    CHECK(llama->special(id));
    CHECK(llama->token(id).empty());
  }
  CHECK(read_tokenizer_json(golden() + "/gpt2.json")->prefix().empty());
}

TEST_CASE("text: merges go by rank, then from the left; ignore_merges takes whole pieces") {
  json all = small();
  CHECK(read(all)->encode("abcbcab") == std::vector<int32_t>{7, 6, 5});
  all["model"]["merges"] = json::parse(R"([["b", "c"], ["a", "b"]])");
  CHECK(read(all)->encode("abcab") == std::vector<int32_t>{0, 6, 5});
  CHECK(read(all)->encode("abc") == std::vector<int32_t>{0, 6});
  all["model"]["ignore_merges"] = true;
  CHECK(read(all)->encode("abc") == std::vector<int32_t>{7});
  CHECK(read(all)->encode("axb") ==
        std::vector<int32_t>{5});  // x has no token: the library skips it
  all["model"]["unk_token"] = "d";
  CHECK(read(all)->encode("axyb") == std::vector<int32_t>{0, 3, 3, 1});
  all["model"]["fuse_unk"] = true;
  CHECK(read(all)->encode("axybz") == std::vector<int32_t>{0, 3, 1, 3});
}

TEST_CASE("text: a long word takes no square of its length", "[speed]") {
  const auto tokenizer = read(small());
  std::string word;
  for (int i = 0; i < 1000000; ++i) word += "abcde"[i * 7 % 5];
  const auto seconds = [&](const std::string& text) {
    const auto begin = std::chrono::steady_clock::now();
    CHECK(!tokenizer->encode(text).empty());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  CHECK(seconds(word) < 20);  // a second or so; a square would take an hour
  const auto spaces = read_tokenizer_json(golden() + "/llama3.json");
  CHECK(text_of(*spaces, spaces->encode(std::string(300000, ' ') + "x"), true).size() == 300001);
}

TEST_CASE("text: what is not supported is refused by name") {
  const auto refused = [](const std::string& pointer, const json& value, const std::string& part) {
    json all = small();
    all[json::json_pointer(pointer)] = value;
    const std::string text = refusal(all);
    INFO(pointer << " = " << value.dump() << " -> " << text);
    CHECK(text.find("ft-text-") != std::string::npos);
    CHECK(text.find(part) != std::string::npos);
  };
  CHECK(refusal(small()) == "nothing was wrong");
  refused("/model/type", "Unigram", "model: type Unigram is not supported");
  refused("/model/byte_fallback", true, "model: byte_fallback is not supported");
  refused("/model/dropout", 0.1, "model: dropout is not supported");
  refused("/model/continuing_subword_prefix", "##", "continuing_subword_prefix is not supported");
  refused("/model/end_of_word_suffix", "</w>", "end_of_word_suffix is not supported");
  refused("/model/more", 1, "model: \"more\" is not supported");
  refused("/model/vocab/a", -1, "model.vocab: -1 of token a is no id");
  refused("/model/vocab/a", 1, "id 1 belongs to two tokens");
  refused("/model/vocab/a", "x", "is no id");
  refused("/model/vocab", 7, "model.vocab: expected an object");
  refused("/model/merges/1", "b x", "model.merges[1]: token x is not in the vocabulary");
  refused("/model/merges/1", "a c", "model.merges[1]: token ac is not in the vocabulary");
  refused("/model/merges/1", "b c d", "model.merges[1]: expected two tokens");
  refused("/model/merges/1", 5, "model.merges[1]: expected text");
  refused("/model/unk_token", "?", "model.unk_token: is not in the vocabulary");
  refused("/model/ignore_merges", "yes", "model.ignore_merges: expected true or false");
  refused("/model", nullptr, "\"model\" is missing");
  refused("/normalizer", {{"type", "Lowercase"}}, "normalizer: type Lowercase is not supported");
  refused("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}}}},
          "normalizer.normalizers[0]: type NFKC is not supported");
  refused("/pre_tokenizer", {{"type", "Metaspace"}}, "pre_tokenizer: type Metaspace is not");
  refused("/pre_tokenizer",
          {{"type", "Sequence"}, {"pretokenizers", {split("a"), split("b", "Odd")}}},
          "pre_tokenizer.pretokenizers[1]: behavior \"Odd\" is not supported");
  refused("/pre_tokenizer", {{"type", "Digits"}, {"more", 1}}, "pre_tokenizer: \"more\" is not");
  refused("/pre_tokenizer", 3, "pre_tokenizer: expected an object");
  refused("/post_processor", {{"type", "BertProcessing"}}, "post_processor: type BertProcessing");
  refused("/decoder", {{"type", "Metaspace"}}, "decoder: type Metaspace is not supported");
  refused("/decoder", nullptr, "decoder null is not supported");
  refused("/extra", 1, "\"extra\" is not supported");
  refused("/added_tokens", {{{"id", 5}, {"content", "a"}}}, "token a has id 5 here and 0 in");
  refused("/added_tokens", {{{"id", 5}, {"content", "z"}}}, "id 5 belongs to two tokens");
  refused("/added_tokens", {{{"id", 1 << 30}, {"content", "z"}}}, "added_tokens[0]: 1073741824 is");
  for (const std::string text : {"", "[1]", "{\"a\": ", "\xff"}) {
    const File file(text);
    CHECK_THROWS_AS(read_tokenizer_json(file.path), ConfigError);
  }
  CHECK_THROWS_AS(read_tokenizer_json("/nowhere/at/all"), ConfigError);
}

TEST_CASE("text: regular expressions that PCRE2 reads otherwise are refused") {
  for (const auto& [pattern, part] :
       std::vector<std::pair<std::string, std::string>>{{"[a&&b]", "&&"},
                                                        {"[a[bc]]", "a class within a class"},
                                                        {"a{,3}", "at byte 1"},
                                                        {"a{2}+", "{2}+"},
                                                        {"a{2}?", "{2}?"},
                                                        {"\\h", "\\h at byte 0"},
                                                        {"\\bword", "\\b"},
                                                        {"[\\W]", "\\W"},
                                                        {"(?m:.)", "(?m:"},
                                                        {"(?<name>a)", "(?<n"},
                                                        {"(*UCP)a", "(*"},
                                                        {"a\\", "a backslash"},
                                                        {"\\pL", "\\p without {"},
                                                        {"(a", "parenthes"},
                                                        {"\\p{Nonsense}", "\\p{sc:Nonsense}"}}) {
    json all = small();
    all["pre_tokenizer"] = split(pattern);
    INFO(pattern << " -> " << refusal(all));
    CHECK(refusal(all).find("pre_tokenizer.pattern: the regular expression " + pattern) !=
          std::string::npos);
    CHECK(refusal(all).find(part) != std::string::npos);
  }
}

// What sets and their notes show before the first step.
#include "core/check.h"
#include "data/set_info.h"
#include "data/text/tokenizer_json.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <unistd.h>

using namespace ft;
using namespace ft::test;

namespace {

std::string fault(const DataConfig& data, int64_t vocab = 300, int64_t samples = 0) {
  try {
    check_sets(data, vocab, samples);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "none";
}

DataConfig config_of(const std::vector<std::string>& train,
                     const std::vector<std::string>& validation = {}) {
  DataConfig data;
  data.sequence_length = 4;
  for (const std::string& path : train) data.train.push_back({path, path});
  for (const std::string& path : validation) data.validation.push_back({path, path});
  return data;
}

void has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

void write_masked(const std::string& prefix, const Document& tokens,
                  const std::vector<uint8_t>& mask) {
  TokenWriter writer(prefix, 300, true);
  writer.add_sequence(tokens.data(), static_cast<int64_t>(tokens.size()), mask.data());
  writer.end_document();
  writer.finish();
}

}  // namespace

TEST_CASE("a note is read, and a file that is none is left alone", "[set_info]") {
  const TempFolder folder;
  const std::string prefix = folder / "x", path = prefix + ".json";
  CHECK_FALSE(read_set_info(prefix));
  write_text(path, R"({"tokenizer": "t.json", "tokenizer_hash": "0123abcd", "vocab_size": 7,
                       "end_of_document": null, "documents": 2, "tokens": 5, "bytes": 9})");
  const auto info = read_set_info(prefix);
  REQUIRE(info);
  CHECK(info->tokenizer == "t.json");
  CHECK(info->tokenizer_hash == "0123abcd");
  CHECK(info->vocab_size == 7);
  CHECK(info->end_of_document == -1);
  CHECK(info->bytes == 9);
  for (const char* other :
       {"", "[1]", "{", "{}", "7", R"({"title": "mine"})", R"({"tokenizer": {"type": "BPE"}})",
        R"({"vocab_size": "many"})", R"({"tokenizer": "a", "tokens": 1.5})",
        R"({"vocab_size": 18446744073709551615})", "\xff\xfe"}) {
    INFO(other);
    write_text(path, other);
    CHECK_FALSE(read_set_info(prefix));
  }
  write_text(path, R"({"tokenizer": "bytes"})" + std::string(size_t{2} << 20, ' '));
  CHECK_FALSE(read_set_info(prefix));  // no note is that large
  std::filesystem::remove(path);
  std::filesystem::create_directories(path);
  CHECK_FALSE(read_set_info(prefix));
}

TEST_CASE("sets without tokens or labels are found before the first step", "[set_check]") {
  const TempFolder folder;
  write_set(folder / "good", {{1, 2, 3}, {}, {4, 5}}, 300);
  write_set(folder / "hollow", {{}, {}}, 300);
  write_set(folder / "short", {{1}, {2}, {}, {3}}, 300);
  std::vector<Document> one(2001);
  one[1000] = {1, 2, 3, 4, 5, 6, 7};
  write_set(folder / "one", one, 300);
  write_masked(folder / "masked", {1, 2, 3, 4, 5, 6, 7, 8}, {1, 0, 0, 0, 0, 0, 1, 0});
  write_masked(folder / "zeros", {1, 2, 3, 4}, {1, 0, 0, 0});
  const std::string good = folder / "good";
  CHECK(fault(config_of({good}, {good})) == "none");
  CHECK(fault(config_of({folder / "one"})) == "none");
  CHECK(fault(config_of({folder / "masked"}, {folder / "masked"})) == "none");
  has(fault(config_of({good, folder / "hollow"})), "hollow: the set has no tokens");
  has(fault(config_of({folder / "short"})), "short: not one of its 3 tokens is a label");
  has(fault(config_of({folder / "zeros"})), "its mask leaves all of them out");
  has(fault(config_of({good}, {folder / "hollow"})), "data.validation: ");
  has(fault(config_of({good}, {folder / "short"})), "short: no token of the whole set is a label");
  has(fault(config_of({good}, {folder / "zeros"})), "zeros: no token of the whole set is a label");
  has(fault(config_of({good}, {folder / "masked"}), 300, 1), "of the first 1 samples is a label");
  CHECK(fault(config_of({good}, {folder / "masked"}), 300, 2) == "none");
  has(fault(config_of({good}, {folder / "gone"})), "gone.idx: is missing");
  has(fault(config_of({good}, {good}), 3), "id 3 is outside the vocabulary of 3");
  DataConfig joined = config_of({folder / "short"}, {folder / "short"});
  joined.isolate_documents = false;  // then a token of the next document is a label
  CHECK(fault(joined) == "none");
}

TEST_CASE("a set of one long document among empty ones is read on and on", "[loader]") {
  const TempFolder folder;
  for (const size_t place : {size_t{0}, size_t{1000}, size_t{2000}}) {
    std::vector<Document> documents(2001);
    documents[place] = {1, 2, 3, 4, 5};
    write_set(folder / "one", documents, 300);
    DataConfig data = config_of({folder / "one"});
    Loader loader(data, 300, 5, 0, 1);
    for (int step = 0; step < 40; ++step) CHECK(loader.next(2, 2).tokens == 8);
  }
}

TEST_CASE("sets of different tokenizers are not mixed", "[set_check]") {
  const TempFolder folder;
  const auto set = [&](const std::string& name, const std::string& note) {
    write_set(folder / name, {{1, 2, 3}}, 300);
    if (!note.empty()) write_text(folder / (name + ".json"), note);
    return folder / name;
  };
  const std::string bytes = set("bytes", R"({"tokenizer": "bytes", "vocab_size": 257})");
  const std::string silent = set("silent", ""), foreign = set("foreign", R"({"title": "x"})");
  const std::string a =
      set("a", R"({"tokenizer": "a.json", "tokenizer_hash": "00000001", "vocab_size": 257})");
  const std::string moved =
      set("moved", R"({"tokenizer": "b/c.json", "tokenizer_hash": "00000001", "vocab_size": 257})");
  const std::string b =
      set("b", R"({"tokenizer": "a.json", "tokenizer_hash": "00000002", "vocab_size": 257})");
  const std::string old = set("old", R"({"tokenizer": "old.json", "vocab_size": 299})");
  const std::string large = set("large", R"({"tokenizer": "old.json", "vocab_size": 301})");
  CHECK(fault(config_of({bytes, silent, foreign}, {bytes})) == "none");
  CHECK(fault(config_of({a, silent}, {moved})) == "none");
  has(fault(config_of({a, b})), "b do not go together: the first says a.json, vocabulary 257");
  has(fault(config_of({a}, {b})), "do not go together");
  has(fault(config_of({silent, bytes, a})), "do not go together");
  has(fault(config_of({a, old})), "do not go together");
  CHECK(fault(config_of({old})) == "none");
  has(fault(config_of({large})), "large.json: the set's vocabulary is 301");
  has(fault(config_of({bytes}), 256), "model.vocab_size is 256");

  DataConfig data = config_of({bytes});
  data.tokenizer = "bytes";
  CHECK(fault(data) == "none");
  data.tokenizer = "tests/text/golden/llama3.json";
  has(fault(data, 1000), "data.tokenizer and " + bytes + " do not go together");
  has(fault(data, 300), "model.vocab_size is 300: set it to");
  const auto llama = read_tokenizer_json(data.tokenizer);
  const std::string own = set("own", fmt::format(R"({{"tokenizer": "l.json", "vocab_size": {},
      "tokenizer_hash": "{}"}})",
                                                 llama->vocab_size(), llama->hash()));
  data.train[0].path = own;
  CHECK(fault(data, 1000) == "none");
  data.tokenizer = "/nope";
  has(fault(data), "/nope: there is no such tokenizer.json");
  // As Python's zlib.crc32 has it, over the lines "ID TOKEN".
  CHECK(vocabulary_hash({{0, "a"}, {2, "\xC3\xA9"}}) == "ca3e5062");
  CHECK(read_tokenizer_json("tests/text/golden/gpt2.json")->hash() != llama->hash());
}

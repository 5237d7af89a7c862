// Text through a tokenizer.json in the commands: the same as with the ids that it stands for.
#include "data/text/tokenizer_json.h"
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <cmath>
#include <sstream>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

const std::string kLlama = fs::current_path() / "tests/text/golden/llama3.json";
const std::string kGpt2 = fs::current_path() / "tests/text/golden/gpt2.json";

std::string comma(const std::vector<int32_t>& ids) {
  return fmt::format("{}", fmt::join(ids, ","));
}

// A run of two steps whose configuration names llama3.json.
const std::string& llama_run() {
  static const std::string folder = [] {
    make_set();  // of bytes; without its note any ids will do
    const std::string set = workspace() + "/llama-set";
    for (const char* end : {".bin", ".idx"}) fs::copy_file(workspace() + "/set" + end, set + end);
    FT_CHECK(train("llama", 1,
                   "model.vocab_size=400 train.tokens=384 data.train.0.path=" + set +
                       " data.tokenizer=" + kLlama) == 0,
             "training failed: {}", read_text(workspace() + "/llama.log"));
    return workspace() + "/llama/t";
  }();
  return folder;
}

std::vector<int32_t> numbers(const std::string& text) {
  std::istringstream in(text);
  std::vector<int32_t> ids;
  for (int32_t id; in >> id;) ids.push_back(id);
  return ids;
}

std::string shown(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += tokenizer.shown(id);
  return text;
}

}  // namespace

TEST_CASE("tokenizer.json: generate takes and shows text") {
  const auto llama = read_tokenizer_json(kLlama);
  const std::string prompt = "The quick h\xC3\xA9 \xF0\x9F\x98\x80 12345";
  const std::vector<int32_t> ids = llama->encode_prompt(prompt);
  REQUIRE(ids[0] == llama->prefix().at(0));  // as the library does it by default
  const std::string base = "generate " + llama_run() + " --tokens 60 --seed 3 --ignore-end ";
  const Ran made = command(base + "--format ids --prompt '" + prompt + "'");
  INFO(made.err);
  REQUIRE(made.code == 0);
  CHECK(made.out == command(base + "--format ids --prompt-ids " + comma(ids)).out);
  CHECK(numbers(made.out).size() == 60);
  const std::string bytes = prompt + shown(*llama, numbers(made.out)) + "\n";
  CHECK(command(base + "--format bytes --prompt '" + prompt + "'").out == bytes);
  const std::string text = command(base + "--prompt '" + prompt + "'").out;
  CHECK(has(text, prompt));
  CHECK_NOTHROW(json(text).dump());  // valid UTF-8
  // Another tokenizer on demand; that of a model's own folder where nothing is named.
  const auto gpt2 = read_tokenizer_json(kGpt2);
  CHECK(command(base + "--format ids --prompt 'a b' --tokenizer " + kGpt2).out ==
        command(base + "--format ids --prompt-ids " + comma(gpt2->encode("a b"))).out);
}

TEST_CASE("tokenizer.json: what cannot be used is said, and ids go on working") {
  const std::string base = "generate " + byte_run() + " --tokens 3 ";
  const Ran large = command(base + "--prompt a --tokenizer " + kGpt2);
  CHECK(large.code == 2);
  CHECK(has(large.err, "its ids go up to 379, the model's vocabulary is 257"));
  CHECK(command(base + "--prompt a --tokenizer /nowhere").code == 2);
  const std::string folder = copy_of("plain");
  json all = json::parse(read_text(kGpt2));
  all["normalizer"] = {{"type", "Lowercase"}};
  write_text(folder + "/tokenizer.json", all.dump());
  const Ran refused = command("generate " + folder + " --tokens 3 --prompt a");
  CHECK(refused.code == 2);
  CHECK(has(refused.err, "tokenizer.json: normalizer: type Lowercase is not supported"));
  CHECK(has(refused.err, "--prompt-ids 1,2,3"));
  CHECK(command("generate " + folder + " --tokens 3 --prompt-ids 5").code == 0);
  CHECK(command("generate " + folder + " --tokens 3 --prompt-ids 5 --format text").code == 2);
  // Small enough for the 67 ids of this model, and found in its folder.
  write_text(folder + "/tokenizer.json", R"({"decoder": {"type": "ByteLevel"}, "model":
      {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 5}, "merges": ["a b"]}})");
  const Ran text = command("generate " + folder + " --tokens 5 --prompt abb --temperature 0");
  INFO(text.err);
  CHECK(text.code == 0);
  CHECK(text.out.starts_with("abb"));
  CHECK(command("generate " + folder + " --tokens 5 --prompt abb --format ids").out ==
        command("generate " + folder + " --tokens 5 --prompt-ids 5,1 --format ids").out);
}

TEST_CASE("tokenizer.json: scores of text are those of the ids, split as harnesses do") {
  const auto llama = read_tokenizer_json(kLlama);
  std::string text, ids;
  const auto add = [&](const std::string& context, const std::string& continuation,
                       const std::string& before, const std::string& all) {
    const auto head = llama->encode_prompt(before), whole = llama->encode_prompt(all);
    text += json{{"context", context}, {"continuation", continuation}}.dump() + "\n";
    ids +=
        json{{"context_ids", head},
             {"continuation_ids",
              std::vector<int32_t>(whole.begin() + static_cast<int64_t>(head.size()), whole.end())}}
            .dump() +
        "\n";
  };
  add("The quick", " brown fox", "The quick", "The quick brown fox");
  add("The quick ", "brown fox", "The quick", "The quick brown fox");  // the space moves
  add("one two\xE2\x80\x83\n", "x", "one two", "one two\xE2\x80\x83\nx");
  add("", "word", "", "word");
  add("  ", "word", "", "  word");
  const auto scores = [&](const std::string& lines, int ranks) {
    write_text(workspace() + "/text.jsonl", lines);
    const Ran ran =
        command("evaluate " + llama_run() + " --score " + workspace() + "/text.jsonl", ranks);
    INFO(ran.err);
    REQUIRE(ran.code == 0);
    return ran.out;
  };
  CHECK(scores(text, 1) == scores(ids, 1));
  CHECK(scores(text, 2) == scores(ids, 2));
}

TEST_CASE("tokenizer.json: bits per byte count the bytes of each token; inspect shows text") {
  const auto gpt2 = read_tokenizer_json(kGpt2);
  // A set of byte ids, read as if gpt2.json had made it: any ids will do.
  const std::string text = "what these ids stand for is other text";
  write_text(workspace() + "/single/doc.txt", text);
  const std::string prefix = workspace() + "/single-set";
  REQUIRE(command("tokenize " + workspace() + "/single --out " + prefix).code == 0);
  double bytes = 0;
  std::string decoded;
  for (const char c : text) decoded += gpt2->token(c), bytes += double(gpt2->shown(c).size());
  decoded += gpt2->token(256);
  bytes += double(gpt2->shown(256).size()) - double(gpt2->shown(text[0]).size());
  const Ran ran =
      command("evaluate " + llama_run() + " --json - --tokenizer " + kGpt2 + " --data " + prefix);
  INFO(ran.err);
  REQUIRE(ran.code == 0);
  const json set = json::parse(ran.out)["sets"][0];
  REQUIRE(set["tokens"] == text.size());
  CHECK(set["bits_per_byte"].get<double>() ==
        Approx(set["loss"].get<double>() * double(text.size()) / std::log(2.0) / bytes)
            .epsilon(1e-9));
  CHECK(has(command("inspect " + prefix).out, "as text   " + text + "<end>"));
  std::string one_line;
  for (const char c : valid_utf8(decoded))
    one_line += c == '\n' ? "\\n"
                : static_cast<uint8_t>(c) < 32 || c == 127
                    ? fmt::format("\\x{:02x}", static_cast<int>(c))
                    : std::string(1, c);
  CHECK(has(command("inspect " + prefix + " --tokenizer " + kGpt2).out, "as text   " + one_line));
  // A set may name its tokenizer beside itself.
  fs::copy_file(kGpt2, workspace() + "/beside.json", fs::copy_options::overwrite_existing);
  write_text(prefix + ".json", R"({"tokenizer": "beside.json"})");
  CHECK(has(command("inspect " + prefix).out, "as text   " + one_line));
  write_text(prefix + ".json", R"({"tokenizer": "gone.json"})");
  const Ran gone = command("inspect " + prefix);
  CHECK(gone.code == 0);
  CHECK(has(gone.out, "gone.json: there is no such tokenizer.json"));
}

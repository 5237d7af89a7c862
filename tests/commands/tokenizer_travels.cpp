// A run's tokenizer goes with the run, and sets of other tokenizers are refused.
#include "tests/catch.h"
#include "tests/commands/command.h"

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

// The workspace's set under another name, with this note (empty: none).
std::string set_with_note(const std::string& name, const std::string& note) {
  const std::string prefix = workspace() + "/" + name;
  make_set();
  for (const char* end : {".bin", ".idx"})
    fs::copy_file(workspace() + "/set" + end, prefix + end, fs::copy_options::overwrite_existing);
  fs::remove(prefix + ".json");
  if (!note.empty()) write_text(prefix + ".json", note);
  return prefix;
}

std::string trained_on(const std::string& prefix) {
  return "data.train.0.path=" + prefix + " model.vocab_size=400 ";
}

std::string log_of(const std::string& name) { return read_text(workspace() + "/" + name + ".log"); }

}  // namespace

TEST_CASE("a run keeps its tokenizer: it works from anywhere, after the original is gone") {
  const std::string gpt2 = read_text("tests/text/golden/gpt2.json");
  write_text(workspace() + "/words/tokenizer.json", gpt2);
  write_text(workspace() + "/words/tokenizer_config.json", "{\"model_max_length\": 64}");
  const std::string set = set_with_note(
      "spoken", R"({"tokenizer": "words", "vocab_size": 380, "end_of_document": 256})");
  const std::string run = workspace() + "/travel/t";
  REQUIRE(train("travel", 1, trained_on(set) + "train.tokens=384 checkpoint.every=1") == 0);
  CHECK(read_text(run + "/tokenizer.json") == gpt2);
  CHECK(fs::exists(run + "/tokenizer_config.json"));
  const json note = json::parse(read_text(run + "/text.json"));
  CHECK(note["vocab_size"] == 380);
  CHECK(note["end_of_document"] == 256);
  CHECK(note["tokenizer_hash"].get<std::string>().size() == 8);

  const std::string arguments = " --prompt 'the quick' --tokens 9 --format text --seed 2";
  const Ran before = command("generate " + run + arguments);
  INFO(before.err);
  REQUIRE(before.code == 0);
  CHECK(before.out.starts_with("the quick"));
  fs::remove_all(workspace() + "/words");
  for (const char* end : {".bin", ".idx", ".json"}) fs::remove(set + end);
  fs::rename(workspace() + "/travel", workspace() + "/moved");
  const std::string away = "cd / && " + fs::absolute(binary()).string() + " generate ";
  for (const char* what : {"/moved/t", "/moved/t/checkpoints/step-00000001"}) {
    INFO(what);
    CHECK(shell(away + workspace() + what + arguments + " 2> " + workspace() + "/err", "out") == 0);
    CHECK(read_text(workspace() + "/out") == before.out);
  }
}

TEST_CASE("sets of another tokenizer are refused, and both are named") {
  const std::string gpt2 = fs::absolute("tests/text/golden/gpt2.json").string();
  const std::string words =
      set_with_note("words-set", json{{"tokenizer", gpt2}, {"vocab_size", 380}}.dump());
  make_set();
  REQUIRE(train("words-run", 1, trained_on(words) + "train.tokens=384") == 0);
  const std::string run = workspace() + "/words-run/t", bytes = workspace() + "/set";

  const Ran mixed = command("evaluate " + run + " --data " + bytes);
  INFO(mixed.err);
  CHECK(mixed.code == 2);
  for (const std::string part : {run.c_str(), bytes.c_str(), "made with bytes", "--tokenizer FILE",
                                 "tokenizer.json (380 tokens)"})
    CHECK(has(mixed.err, part));
  CHECK(command("evaluate " + run + " --data " + words).code == 0);
  CHECK(command("evaluate " + run + " --data " + bytes + " --tokenizer " + gpt2).code == 0);
  const Ran other = command("evaluate " + byte_run() + " --data " + words);
  CHECK(other.code == 2);
  CHECK(has(other.err, "was trained with the tokenizer bytes"));
  CHECK(has(other.err, "gpt2.json (380 tokens)"));
  // The same set under another path of the same tokenizer is no other tokenizer.
  write_text(workspace() + "/copied/tokenizer.json", read_text(gpt2));
  const std::string same = set_with_note("same-set", R"({"tokenizer": "copied"})");
  CHECK(command("evaluate " + run + " --data " + same).code == 0);

  CHECK(train("words-run", 1, trained_on(bytes) + "train.tokens=768") == 2);
  CHECK(has(log_of("words-run"), "this run was trained with"));
}

TEST_CASE("weights to start from and sets of another tokenizer do not go together") {
  const std::string folder = copy_of("plain");
  write_text(folder + "/tokenizer.json", R"({"decoder": {"type": "ByteLevel"}, "model":
      {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 5}, "merges": ["a b"]}})");
  const std::string set =
      set_with_note("others", R"({"tokenizer": "theirs.json", "vocab_size": 60})");
  CHECK(train("start", 1, "model=null model.init_from=" + folder + " data.train.0.path=" + set) ==
        2);
  INFO(log_of("start"));
  CHECK(has(log_of("start"), "model.init_from: " + folder));
  CHECK(has(log_of("start"), "theirs.json (60 tokens)"));
}

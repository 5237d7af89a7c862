// evaluate: sums over ranks and batches, bits per byte, and scores against probe's logits.
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <algorithm>
#include <cmath>
#include <sstream>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

json evaluated(const std::string& arguments, int ranks = 1) {
  const std::string file = workspace() + "/evaluated.json";
  fs::remove(file);
  const Ran ran = command("evaluate " + arguments + " --json " + file, ranks);
  INFO(arguments << ": " << ran.err);
  REQUIRE(ran.code == 0);
  return json::parse(read_text(file));
}

std::vector<json> lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<json> all;
  for (std::string line; std::getline(in, line);) all.push_back(json::parse(line));
  return all;
}

std::string requests(const std::string& text) {
  const std::string path = workspace() + "/requests.jsonl";
  write_text(path, text);
  return path;
}

// Log-probability of ids[from..] and whether each is the likeliest, from probe.
std::pair<double, bool> reference(const std::string& model, const std::vector<int64_t>& ids,
                                  size_t from) {
  const auto logits = probe_logits(model, ids);
  const size_t vocab = logits.size() / ids.size();
  double logprob = 0;
  bool greedy = true;
  for (size_t t = from; t < ids.size(); ++t) {
    const float* row = logits.data() + (t - 1) * vocab;
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(row[v]));
    logprob += row[ids[t]] - std::log(sum);
    greedy = greedy && row[ids[t]] == *std::max_element(row, row + vocab);
  }
  return {logprob, greedy};
}

std::vector<int64_t> random_ids(int64_t n, uint64_t seed, int64_t vocab) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < n; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    ids.push_back(static_cast<int64_t>((seed >> 33) % static_cast<uint64_t>(vocab)));
  }
  return ids;
}

}  // namespace

TEST_CASE("evaluate: ranks and batches change rounding only") {
  const std::string what = byte_run() + " --data here=" + workspace() + "/set";
  const json one = evaluated(what), set = one["sets"][0];
  CHECK(set["name"] == "here");
  CHECK(one["sequence_length"] == 48);  // the run's
  for (const auto& [ranks, more] : {std::pair<int, std::string>{1, " --batch 1"},
                                    {2, ""},
                                    {3, " --batch 5"},
                                    {1, " --set run.threads=1"}}) {
    const json other = evaluated(what + more, ranks)["sets"][0];
    INFO(ranks << more);
    CHECK(other["tokens"] == set["tokens"]);
    CHECK(other["loss"].get<double>() == Approx(set["loss"].get<double>()).epsilon(1e-6));
    REQUIRE(other["by_context"].size() == set["by_context"].size());
    for (size_t i = 0; i < set["by_context"].size(); ++i)
      CHECK(other["by_context"][i]["tokens"] == set["by_context"][i]["tokens"]);
  }
}

TEST_CASE("evaluate: its sums are those of probe, by context too") {
  byte_run();
  // The first sequences of the set: documents of 21, 57+1, ... tokens; here one long one is enough.
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('a' + i * 7 % 26);
  write_text(workspace() + "/one/doc.txt", text);
  const std::string prefix = workspace() + "/one-set";
  REQUIRE(command("tokenize " + workspace() + "/one --out " + prefix).code == 0);
  const json set =
      evaluated(byte_run() + " --data " + prefix + " --sequence-length 200")["sets"][0];
  std::vector<int64_t> ids;
  for (char c : text) ids.push_back(c);
  ids.push_back(256);
  const auto [logprob, greedy] = reference(byte_run(), ids, 1);
  CHECK(set["tokens"] == 100);
  CHECK(set["loss"].get<double>() * 100 == Approx(-logprob).epsilon(1e-5));
  // 99 bytes are predicted, and the end, whose bits count too.
  CHECK(set["bits_per_byte"].get<double>() == Approx(-logprob / std::log(2.0) / 99).epsilon(1e-5));
  int64_t from = 1;
  double sum = 0;
  for (const json& bucket : set["by_context"]) {
    CHECK(bucket["from"] == from);
    CHECK(bucket["tokens"] == std::min<int64_t>(from, 100 - from + 1));
    sum += bucket["loss"].get<double>() * bucket["tokens"].get<double>();
    from *= 2;
  }
  CHECK(from == 128);
  CHECK(sum == Approx(-logprob).epsilon(1e-5));
}

TEST_CASE("evaluate: results have standard output for themselves; what is not there is named") {
  const std::string folder = copy_of("plain");
  json config = json::parse(read_text(folder + "/config.json"));
  config["tie_word_embeddings"] = true;  // which gives a warning
  write_text(folder + "/config.json", config.dump());
  write_text(workspace() + "/ids.jsonl", R"({"context_ids": [5], "continuation_ids": [6]})");
  const Ran scored = command("evaluate " + folder + " --score " + workspace() + "/ids.jsonl");
  CHECK(scored.code == 0);
  CHECK(json::parse(scored.out).is_object());
  CHECK(has(scored.err, "not tied"));
  CHECK(command("evaluate " + folder + " --out - --score " + workspace() + "/ids.jsonl").out ==
        scored.out);
  const Ran sampled = command("generate " + folder + " --prompt-ids 5 --tokens 2 --ignore-end");
  CHECK(sampled.code == 0);
  CHECK(!has(sampled.out, "tied"));
  const Ran nowhere = command("evaluate nowhere/at-all --data x");
  CHECK(nowhere.code == 2);
  CHECK(has(nowhere.err, "nowhere/at-all: there is no such folder, seen from /"));
}

TEST_CASE("evaluate: bits per byte of other tokenizers come from PREFIX.json, or are unknown") {
  byte_run();
  const std::string prefix = workspace() + "/other";
  for (const char* end : {".bin", ".idx"})
    fs::copy_file(workspace() + "/set" + end, prefix + end, fs::copy_options::overwrite_existing);
  fs::remove(prefix + ".json");
  const std::string data = " --sequences 4 --data " + prefix;
  CHECK(!evaluated(byte_run() + data)["sets"][0]["bits_per_byte"].is_null());  // the model's
  // A model of which nobody knows the tokenizer.
  REQUIRE(train("nameless", 1,
                "model.vocab_size=300 train.tokens=384 data.train.0.path=" + prefix) == 0);
  const std::string what = workspace() + "/nameless/t" + data;
  CHECK(evaluated(what)["sets"][0]["bits_per_byte"].is_null());
  write_text(prefix + ".json", R"({"tokenizer": "t.json"})");
  CHECK(evaluated(what)["sets"][0]["bits_per_byte"].is_null());
  write_text(prefix + ".json", R"({"tokenizer": "t.json", "tokens": 100, "bytes": 450})");
  const json set = evaluated(what)["sets"][0];
  CHECK(set["bits_per_byte"].get<double>() ==
        Approx(set["loss"].get<double>() / std::log(2.0) / 4.5).epsilon(1e-9));
  write_text(prefix + ".json", "[1]");  // somebody else's file
  CHECK(evaluated(what)["sets"][0]["bits_per_byte"].is_null());
}

TEST_CASE("evaluate: a run brings its validation sets; documents count from their starts") {
  byte_run();
  write_text(
      workspace() + "/validated.yaml",
      fmt::format("extends: {}/tests/train/tiny.yaml\n"
                  "run: {{directory: {}/validated}}\n"
                  "data: {{train: [{{path: {}/set}}], validation: [{{name: v, path: {}/set}}]}}\n"
                  "train: {{tokens: 384}}\n",
                  fs::current_path().string(), workspace(), workspace(), workspace()));
  const Ran trained = command("train " + workspace() + "/validated.yaml");
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  const json all = evaluated(workspace() + "/validated/t");
  CHECK(all["sets"][0]["name"] == "v");
  const json joined =
      evaluated(workspace() + "/validated/t --set data.isolate_documents=false")["sets"][0];
  CHECK(joined["tokens"].get<int64_t>() > all["sets"][0]["tokens"].get<int64_t>());
  CHECK(joined["by_context"][0]["tokens"].get<int64_t>() <
        all["sets"][0]["by_context"][0]["tokens"].get<int64_t>());
}

TEST_CASE("evaluate: says what is missing") {
  const Ran none = command("evaluate " + byte_run());
  CHECK(none.code == 2);
  CHECK(has(none.err, "--data PREFIX"));
  CHECK(command("evaluate " + byte_run() + " --data " + workspace() + "/nothing").code == 2);
  CHECK(command("evaluate " + byte_run() + " --data x=").code == 2);
  CHECK(command("evaluate " + byte_run() + " --data a --score b").code == 2);
  const Ran vocabulary = command("evaluate " + golden + "plain --data " + workspace() + "/set");
  CHECK(vocabulary.code != 0);
  CHECK(has(vocabulary.err, "outside the vocabulary of 67"));
}

TEST_CASE("score: log-probabilities and greedy matches are those of probe's logits") {
  for (const std::string name : {"norm", "multipliers", "h1_34b", "biases"}) {
    const std::string model = golden + name;
    std::string text;
    std::vector<std::pair<double, bool>> expected;
    for (int64_t i = 0; i < 12; ++i) {
      const int64_t context = 1 + i * i % 37, continuation = 1 + i % 5;
      auto ids = random_ids(context + continuation, static_cast<uint64_t>(i) + 1, 67);
      if (i % 3 == 0) {  // one that greedy decoding gives
        const auto logits = probe_logits(model, {ids.begin(), ids.begin() + context});
        const auto* row = logits.data() + (context - 1) * 67;
        ids.resize(static_cast<size_t>(context) + 1);
        ids.back() = std::max_element(row, row + 67) - row;
      }
      const std::vector<int64_t> before(ids.begin(), ids.begin() + context),
          after(ids.begin() + context, ids.end());
      text += json{{"id", i}, {"context_ids", before}, {"continuation_ids", after}}.dump() + "\n";
      expected.push_back(reference(model, ids, static_cast<size_t>(context)));
    }
    for (int ranks : {1, 2}) {
      const Ran ran = command("evaluate " + model + " --score " + requests(text), ranks);
      INFO(name << ": " << ran.err);
      REQUIRE(ran.code == 0);
      const auto scores = lines(ran.out);
      REQUIRE(scores.size() == expected.size());
      for (size_t i = 0; i < scores.size(); ++i) {
        CHECK(scores[i]["id"] == i);
        CHECK(scores[i]["logprob"].get<double>() == Approx(expected[i].first).epsilon(2e-5));
        CHECK(scores[i]["greedy"] == expected[i].second);
        CHECK((i % 3 != 0 || scores[i]["greedy"] == true));
      }
    }
  }
}

TEST_CASE("score: text, an empty context, a long one, and ids of any kind") {
  const std::string model = byte_run();
  const std::string file = requests(
      "{\"id\": \"a\", \"context\": \"ab\", \"continuation\": \"cd\"}\n\n"
      "{\"id\": [1, null], \"context\": \"\", \"continuation\": \"\xC3\xA9\"}\n"
      "{\"context_ids\": [97, 98, 99, 100, 101], \"continuation\": \"fg\"}\n");
  const std::string out = workspace() + "/scores.jsonl";
  const Ran ran =
      command("evaluate " + model + " --score " + file + " --out " + out + " --max-length 4");
  REQUIRE(ran.code == 0);
  const auto scores = lines(read_text(out));
  REQUIRE(scores.size() == 3);
  CHECK(scores[0]["id"] == "a");
  CHECK(scores[1]["id"] == json::array({1, nullptr}));
  CHECK(!scores[2].contains("id"));
  const auto check = [&](size_t i, const std::vector<int64_t>& ids, size_t from) {
    CHECK(scores[i]["logprob"].get<double>() ==
          Approx(reference(model, ids, from).first).epsilon(2e-5));
    CHECK(scores[i]["tokens"] == ids.size() - from);
  };
  check(0, {97, 98, 99, 100}, 2);
  check(1, {256, 0xC3, 0xA9}, 1);
  check(2, {99, 100, 101, 102, 103}, 3);  // 4 inputs: 3 of context, 1 of the continuation
  CHECK(scores[2]["truncated"] == 2);
  CHECK(!scores[0].contains("truncated"));
  CHECK(has(ran.err, "1 of 3 contexts were cut"));
}

TEST_CASE("score: a wrong line is named by its number") {
  const std::string good = R"({"context": "a", "continuation": "b"})";
  for (const auto& [bad, part] : std::vector<std::pair<std::string, std::string>>{
           {"{", "expected a JSON object"},
           {"7", "expected a JSON object"},
           {R"({"context": "a"})", "\"continuation\""},
           {R"({"context": "a", "continuation": ""})", "empty"},
           {R"({"context": 5, "continuation": "b"})", "must be text"},
           {R"({"context": "a", "context_ids": [1], "continuation": "b"})", "\"context\""},
           {R"({"context_ids": [257], "continuation": "b"})", "vocabulary of 257"},
           {R"({"context_ids": [1.5], "continuation": "b"})", "whole numbers"},
           {R"({"context": "a", "continuation": "too long for this"})", "--max-length"}}) {
    const Ran ran = command("evaluate " + byte_run() + " --max-length 8 --score " +
                            requests(good + "\n" + bad + "\n"));
    INFO(bad << " -> " << ran.err);
    CHECK(ran.code == 2);
    CHECK(has(ran.err, "requests.jsonl:2: "));
    CHECK(has(ran.err, part));
    CHECK(ran.out.empty());
  }
  const Ran text = command("evaluate " + golden + "plain --score " + requests(good + "\n"));
  CHECK(text.code == 2);
  CHECK(has(text.err, "\"context_ids\""));
  CHECK(command("evaluate " + byte_run() + " --score " + workspace() + "/none.jsonl").code == 2);
}

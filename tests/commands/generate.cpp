// generate: decoding with a cache is the full forward, step by step; and what users meet.
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <algorithm>
#include <cmath>
#include <sstream>

using namespace ft;
using namespace ft::test;

namespace {

std::vector<int64_t> numbers(const std::string& text) {
  std::istringstream in(text);
  std::vector<int64_t> ids;
  for (int64_t id; in >> id;) ids.push_back(id);
  return ids;
}

std::vector<int64_t> ids_of_length(int64_t n, int64_t vocab) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back((7 * i * i + 3 * i + 11) % vocab);
  return ids;
}

// Each generated token must be the likeliest after all before it; equals within rounding pass.
void check_greedy(const std::string& model, std::vector<int64_t> ids, int64_t count) {
  const Ran ran =
      command(fmt::format("generate {} --temperature 0 --tokens {} --ignore-end "
                          "--format ids --prompt-ids {}",
                          model, count, fmt::join(ids, ",")));
  INFO(model << ", prompt of " << ids.size() << ": " << ran.err);
  REQUIRE(ran.code == 0);
  const std::vector<int64_t> made = numbers(ran.out);
  REQUIRE(static_cast<int64_t>(made.size()) == count);
  const size_t prompt = ids.size();
  ids.insert(ids.end(), made.begin(), made.end());
  const auto logits = probe_logits(model, ids);
  const size_t vocab = logits.size() / ids.size();
  for (size_t i = 0; i < made.size(); ++i) {
    const float* row = logits.data() + (prompt - 1 + i) * vocab;
    const float best = *std::max_element(row, row + vocab);
    CHECK(row[made[i]] >= best - 1e-4f * std::max(1.0f, std::abs(best)));
  }
}

}  // namespace

TEST_CASE("generate: greedy decoding with the cache is the full forward") {
  for (const auto& entry : fs::directory_iterator(golden)) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    // One token; fewer than the convolution has taps; more than a chunk of the scan.
    for (int64_t prompt : {1, 2, 21})
      check_greedy(entry.path().string(), ids_of_length(prompt, 31), 12);
  }
}

TEST_CASE("generate: a long prompt is read in pieces, one after another") {
  check_greedy(golden + "groups2_norm", ids_of_length(2061, 67), 4);
}

TEST_CASE("generate: every kind of layer decodes as it trains") {
  REQUIRE(train("pattern", 1,
                "model.num_hidden_layers=4 model.layer_pattern=PMAF model.mamba_d_conv=2 "
                "train.tokens=768") == 0);
  check_greedy(workspace() + "/pattern/t", ids_of_length(40, 257), 20);
}

TEST_CASE("generate: samples repeat with their seed, differ among themselves and between seeds") {
  const std::string base = "generate " + byte_run() + " --prompt ab --tokens 40 --format ids ";
  const Ran one = command(base + "--samples 2 --seed 5"),
            again = command(base + "--samples 2 --seed 5");
  REQUIRE(one.code == 0);
  CHECK(one.out == again.out);
  CHECK(command(base + "--samples 2 --seed 6").out != one.out);
  const std::string first = one.out.substr(0, one.out.find('\n'));
  CHECK(one.out != first + "\n" + first + "\n");
  CHECK(command(base + "--seed 5").out == first + "\n");  // more samples do not change the first
}

TEST_CASE("generate: narrow top-k and top-p are greedy; wide ones are not") {
  const std::string base = "generate " + byte_run() + " --prompt ab --tokens 30 --format ids ";
  const std::string greedy = command(base + "--temperature 0").out;
  REQUIRE(!greedy.empty());
  CHECK(command(base + "--top-k 1").out == greedy);
  CHECK(command(base + "--top-p 0").out == greedy);
  CHECK(command(base + "--top-p 1e-9").out == greedy);
  CHECK(command(base + "--temperature 0.0001").out == greedy);
  CHECK(command(base).out != greedy);
  CHECK(command(base + "--top-k 3").out != command(base).out);
}

TEST_CASE("generate: text is valid UTF-8, bytes are as sampled") {
  const std::string base = "generate " + byte_run() + " --tokens 300 --temperature 9 --ignore-end ";
  const Ran bytes = command(base + "--format bytes --prompt 'h\xC3\xA9'"),
            text = command(base + "--format text --prompt 'h\xC3\xA9'");
  CHECK(bytes.out.substr(0, 3) == "h\xC3\xA9");
  CHECK(text.out.substr(0, 3) == "h\xC3\xA9");
  CHECK_THROWS(nlohmann::json(bytes.out).dump());  // random bytes are no UTF-8
  CHECK_NOTHROW(nlohmann::json(text.out).dump());
  const auto ids = numbers(command(base + "--format ids --prompt 'h\xC3\xA9'").out);
  std::string joined = "h\xC3\xA9";
  for (int64_t id : ids)
    if (id < 256) joined += static_cast<char>(id);
  CHECK(bytes.out == joined + "\n");
}

TEST_CASE("generate: an end of document stops, an empty prompt starts a document") {
  const Ran empty = command("generate " + byte_run() + " --tokens 3 --seed 1");
  CHECK(empty.code == 0);
  const std::string ids = "generate " + golden + "plain --temperature 0 --tokens 30 --format ids ";
  const auto all = numbers(command(ids + "--prompt-ids 5 --ignore-end").out);
  REQUIRE(all.size() == 30);
  const std::string folder = copy_of("plain");
  auto config = nlohmann::json::parse(read_text(folder + "/config.json"));
  config["eos_token_id"] = {all[4], 66};
  write_text(folder + "/config.json", config.dump());
  const auto stopped =
      numbers(command("generate " + folder + " --temperature 0 --tokens 30 --prompt-ids 5").out);
  const auto end = std::find(all.begin(), all.end(), all[4]);
  CHECK(stopped == std::vector<int64_t>(all.begin(), end));
}

TEST_CASE("generate: says what is wrong with a prompt") {
  const std::string plain = "generate " + golden + "plain ";
  const Ran text = command(plain + "--prompt abc");
  CHECK(text.code == 2);
  CHECK(has(text.err, "--prompt-ids 1,2,3"));
  const Ran outside = command(plain + "--prompt-ids 5,67");
  CHECK(outside.code == 2);
  CHECK(has(outside.err, "67 is outside the vocabulary of 67"));
  CHECK(command(plain + "--prompt-ids 5 --prompt a").code == 2);
  CHECK(command(plain + "--prompt-ids 5 --format text").code == 2);
  CHECK(command("generate " + workspace() + "/nowhere --prompt a").code == 2);
}

TEST_CASE("inspect: a run's state is shown for people") {
  const Ran ran = command("inspect " + byte_run());
  INFO(ran.out);
  CHECK(ran.code == 0);
  CHECK(has(ran.out, "guard      last 12 losses "));
  CHECK(has(ran.out, "; 0 steps left out\n"));
  CHECK(!has(ran.out, "\"losses\""));
  CHECK(has(ran.out, "tokens     4,608\n"));
}

TEST_CASE("generate: numbers are written as in configurations") {
  const std::string plain = "generate " + golden + "plain --temperature 0 --ignore-end ";
  const Ran ran = command(plain + "--prompt-ids '5, 6' --tokens 0.02k --seed 9223372036854775807");
  INFO(ran.err);
  CHECK(numbers(ran.out).size() == 20);
  CHECK(ran.out == command(plain + "--prompt-ids 5,6 --tokens 20").out);
}

TEST_CASE("generate: under mpirun one rank speaks", "[ranks]") {
  const std::string arguments = "generate " + byte_run() + " --prompt ab --tokens 10 --format ids";
  CHECK(command(arguments, 2).out == command(arguments).out);
}

// What a run leaves: metrics of every step, the same run with and without them, on one rank and
// two.
#include "tests/catch.h"

#include "tests/train/run.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <map>
#include <sstream>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

constexpr int kSteps = 12;

std::vector<json> rows(const std::string& name, const char* file = "metrics.jsonl") {
  std::vector<json> all;
  std::istringstream text(read_text(fmt::format("{}/{}/t/{}", workspace(), name, file)));
  for (std::string line; std::getline(text, line);) all.push_back(json::parse(line));
  return all;
}

// Two sources; the second is drawn from once in four samples.
const std::string kTwoSources = fmt::format(
    R"(data.train='[{{"name":"set","path":"{0}/set","weight":3}},{{"name":"<b>","path":"{0}/set"}}]')"
    " log.norms_every=5",
    workspace());

// What a record says apart from time and memory.
json numbers(json row) {
  for (const char* key :
       {"seconds", "tokens_per_second", "mfu", "memory_planned_bytes", "memory_peak_bytes"})
    row.erase(key);
  return row;
}

double norm(const json& by_class) {
  double squares = 0;
  for (const auto& value : by_class) squares += value.get<double>() * value.get<double>();
  return std::sqrt(squares);
}

}  // namespace

TEST_CASE("train: metrics of every step") {
  REQUIRE(train("metrics", 1, kTwoSources + " log.mfu=true") == 0);
  const auto all = rows("metrics");
  REQUIRE(all.size() == kSteps);
  std::map<std::string, int64_t> tokens;
  for (int i = 0; i < kSteps; ++i) {
    const json& row = all[static_cast<size_t>(i)];
    INFO(row);
    CHECK(row["step"] == i + 1);
    CHECK(row["tokens"] == (i + 1) * 8 * 48);
    CHECK(row["batch"] == 8);
    CHECK(row["mfu"].get<double>() > 0);
    CHECK(row["dt_max"].get<double>() > 0);
    CHECK(row["memory_planned_bytes"].get<int64_t>() > 0);
    CHECK(row["memory_peak_bytes"].get<int64_t>() > row["memory_planned_bytes"].get<int64_t>() / 2);
    // The sources' losses, weighted by their labels, are the step's loss: labels are nearly all
    // tokens.
    double loss = 0;
    for (const auto& [name, s] : row["sources"].items()) {
      tokens[name] += s["tokens"].get<int64_t>();
      loss += s["loss"].get<double>() * s["tokens"].get<double>() / (8 * 48);
      CHECK(s["epoch"].get<double>() > 0);
    }
    CHECK(loss == Approx(row["loss"].get<double>()).epsilon(0.02));
    const bool with_norms = i == 0 || (i + 1) % 5 == 0;
    CHECK(row.contains("gradient_norms") == with_norms);
    CHECK(row.contains("weight_norms") == with_norms);
    if (!with_norms) continue;
    CHECK(norm(row["gradient_norms"]) == Approx(row["grad_norm"].get<double>()).epsilon(1e-9));
    CHECK(row["gradient_norms"].contains("in_proj_dt"));
    CHECK(row["dt_max_layers"].size() == 2);
  }
  CHECK(tokens["set"] == 3 * tokens["<b>"]);
}

TEST_CASE("train: what is logged changes nothing") {
  REQUIRE(train("loud", 1, kTwoSources + " log.norms_every=1") == 0);
  REQUIRE(train("quiet", 1, kTwoSources + " log.norms_every=0 log.tensorboard=false") == 0);
  CHECK(tensors("loud", kSteps) == tensors("quiet", kSteps));
  const auto loud = rows("loud"), quiet = rows("quiet");
  for (size_t i = 0; i < kSteps; ++i) CHECK(loud[i]["loss"] == quiet[i]["loss"]);
  CHECK(!quiet[0].contains("gradient_norms"));
  CHECK(!fs::exists(workspace() + "/quiet/t/tensorboard"));
}

TEST_CASE("train: metrics on two ranks are those of one, within rounding") {
  REQUIRE(train("one", 1, kTwoSources) == 0);
  REQUIRE(train("two", 2, kTwoSources) == 0);
  const auto one = rows("one"), two = rows("two");
  REQUIRE(two.size() == one.size());
  for (size_t i : {size_t{0}, size_t{4}, size_t{11}}) {
    INFO(one[i] << "\n" << two[i]);
    CHECK(two[i]["dt_max"].get<double>() == Approx(one[i]["dt_max"].get<double>()).epsilon(1e-4));
    for (const auto& [name, s] : one[i]["sources"].items()) {
      const json& other = two[i]["sources"][name];
      CHECK(other["tokens"] == s["tokens"]);
      CHECK(other["epoch"] == s["epoch"]);
      CHECK(other["loss"].get<double>() == Approx(s["loss"].get<double>()).epsilon(1e-3));
    }
  }
}

TEST_CASE("train: a resumed run goes on with its logs where it stopped") {
  REQUIRE(train("log-whole", 1, kTwoSources) == 0);
  REQUIRE(train("log-cut", 1, kTwoSources) == 0);
  for (int step : {8, 12})  // what a kill after step 4's checkpoint leaves behind
    fs::remove_all(fmt::format("{}/log-cut/t/checkpoints/step-{:08}", workspace(), step));
  REQUIRE(train("log-cut", 1, kTwoSources) == 0);
  const auto whole = rows("log-whole"), cut = rows("log-cut");
  REQUIRE(cut.size() == kSteps);
  for (size_t i = 0; i < kSteps; ++i) CHECK(numbers(cut[i]) == numbers(whole[i]));
  const auto events = rows("log-cut", "events.jsonl");
  std::string course;
  for (const json& event : events)
    course += fmt::format("{} {}, ", event["event"].get<std::string>(), event["step"].get<int>());
  CHECK(course ==
        "start 0, save 4, save 8, save 12, done 12, start 4, resume 4, save 8, save 12, done 12, ");
  const std::string log = read_text(workspace() + "/log-cut/t/log.txt");
  size_t starts = 0;
  for (size_t at = 0; (at = log.find("step  5/12", at)) != log.npos; ++at) ++starts;
  CHECK(starts == 2);  // appended, not written anew
  CHECK(log.find('\x1b') == log.npos);
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(workspace() + "/log-cut/t/tensorboard"))
    files += entry.is_regular_file();
  CHECK(files == 2);
}

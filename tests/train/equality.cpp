// Switches that must not change the result: bitwise where the order of additions is the same,
// within a bound elsewhere.
#include "tests/catch.h"

#include "tests/train/run.h"

#include <cmath>

using namespace ft;
using namespace ft::test;

namespace {

constexpr int kSteps = 12;

const std::vector<float>& reference() {
  static const std::vector<float> values = [] {
    FT_CHECK(train("reference", 1, "") == 0, "the reference run failed: {}",
             read_text(workspace() + "/reference.log"));
    return parameters("reference", kSteps);
  }();
  return values;
}

double relative(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("train: repeats, threads and recompute are bitwise equal") {
  const auto [name, sets] =
      GENERATE(table<std::string, std::string>({{"again", ""},
                                                {"one-thread", "run.threads=1"},
                                                {"selective", "train.recompute=selective"},
                                                {"full", "train.recompute=full"}}));
  INFO(name);
  REQUIRE(train(name, 1, sets) == 0);
  CHECK(parameters(name, kSteps) == reference());
}

TEST_CASE(
    "train: ranks and accumulation agree within 2e-3 of the parameters' norm after 12 steps") {
  const auto [name, ranks, sets] =
      GENERATE(table<std::string, int, std::string>({{"two-ranks", 2, ""},
                                                     {"four-ranks", 4, ""},
                                                     {"one-by-eight", 1, "train.micro_batch=8"},
                                                     {"eight-by-one", 1, "train.micro_batch=1"}}));
  INFO(name);
  REQUIRE(train(name, ranks, sets) == 0);
  CHECK(relative(parameters(name, kSteps), reference()) < 2e-3);
}

TEST_CASE("train: a run that stopped and resumed is bitwise the run that never stopped") {
  const int ranks = GENERATE(1, 2);
  const std::string whole = fmt::format("whole-{}", ranks), cut = fmt::format("cut-{}", ranks);
  REQUIRE(train(whole, ranks, "") == 0);
  REQUIRE(train(cut, ranks, "") == 0);
  // What a kill after step 4's checkpoint leaves behind.
  for (int step : {8, 12})
    fs::remove_all(fmt::format("{}/{}/t/checkpoints/step-{:08}", workspace(), cut, step));
  REQUIRE(train(cut, ranks, "") == 0);
  CHECK(read_text(workspace() + "/" + cut + ".log").find("at step 4") != std::string::npos);
  CHECK(parameters(cut, kSteps) == parameters(whole, kSteps));
}

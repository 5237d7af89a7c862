// Switches that must not change the result: bitwise where the order of additions is the same,
// within a bound elsewhere.
#include "tests/catch.h"

#include "tests/train/run.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdlib>

using namespace ft;
using namespace ft::test;

namespace {

constexpr int kSteps = 12;

const auto& reference() {
  static const auto values = [] {
    FT_CHECK(train("reference", 1, "") == 0, "the reference run failed: {}",
             read_text(workspace() + "/reference.log"));
    return tensors("reference", kSteps);
  }();
  return values;
}

// The largest relative difference of a weight tensor, and its name.
std::pair<double, std::string> worst_weight(const Tensors& a, const Tensors& b) {
  REQUIRE(a.size() == b.size());
  std::pair<double, std::string> worst{0, ""};
  for (const auto& [name, x] : a) {
    if (name.rfind("optimizer.", 0) == 0) continue;
    const std::vector<float>& y = b.at(name);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      difference += std::pow(static_cast<double>(x[i]) - y[i], 2);
      norm += std::pow(static_cast<double>(y[i]), 2);
    }
    worst = std::max(worst, {std::sqrt(difference / norm), name});
  }
  return worst;
}

// Bytes of tensors that each rank has written.
std::vector<int64_t> shares(const std::string& checkpoint) {
  const auto manifest = nlohmann::json::parse(read_text(checkpoint + "/manifest.json"));
  std::vector<int64_t> all;
  for (const auto& file : manifest["files"])
    all.push_back(file["bytes"].get<int64_t>() - file["header_bytes"].get<int64_t>());
  return all;
}

}  // namespace

TEST_CASE("train: repeats, threads and recompute are bitwise equal") {
  const auto [name, sets] =
      GENERATE(table<std::string, std::string>({{"again", ""},
                                                {"one-thread", "run.threads=1"},
                                                {"three-threads", "run.threads=3"},
                                                {"selective", "train.recompute=selective"},
                                                {"full", "train.recompute=full"}}));
  INFO(name);
  REQUIRE(train(name, 1, sets) == 0);
  CHECK(tensors(name, kSteps) == reference());
}

TEST_CASE("train: in bf16 too, threads and recompute are bitwise equal") {
  REQUIRE(train("bf16", 1, "train.precision=bf16") == 0);
  REQUIRE(train("bf16-full", 1, "train.precision=bf16 train.recompute=full run.threads=1") == 0);
  CHECK(tensors("bf16", kSteps) == tensors("bf16-full", kSteps));
}

// The stated bound: every weight tensor within kBound of its norm after 12 steps.
TEST_CASE("train: ranks and accumulation agree within 1e-5 after 12 steps") {
  constexpr double kBound = 1e-5;
  const auto [name, ranks, sets] =
      GENERATE(table<std::string, int, std::string>({{"two-ranks", 2, ""},
                                                     {"four-ranks", 4, ""},
                                                     {"one-by-eight", 1, "train.micro_batch=8"},
                                                     {"eight-by-one", 1, "train.micro_batch=1"},
                                                     {"uneven", 1, "train.micro_batch=3"}}));
  INFO(name);
  REQUIRE(train(name, ranks, sets) == 0);
  const auto [difference, tensor] = worst_weight(tensors(name, kSteps), reference());
  INFO(tensor << " differs by " << difference);
  CHECK(difference < kBound);
  // Each writes its part of what all of them hold, weights and moments, cut at rows of at most 48.
  const auto written = shares(checkpoint_path(name, kSteps));
  REQUIRE(written.size() == static_cast<size_t>(ranks));
  int64_t total = 0;
  for (const auto& [tensor, values] : reference())
    total += static_cast<int64_t>(values.size() * sizeof(float));
  for (const int64_t share : written) CHECK(std::abs(share - total / ranks) <= 2 * 48 * 4);
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
  CHECK(tensors(cut, kSteps) == tensors(whole, kSteps));
}

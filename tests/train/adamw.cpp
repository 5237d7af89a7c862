// Ten optimizer steps by `falcon-train train` against torch's AdamW on transformers' model, from
// the same weights and the same tokens (tests/golden/make.py, folder adamw).
#include "data/order.h"
#include "data/token_writer.h"
#include "data/tokens.h"
#include "parallel/checkpoint/checkpoint.h"
#include "tests/catch.h"
#include "tests/train/run.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>

using namespace ft;
using namespace ft::test;

namespace {

const std::string kGolden = "tests/golden/adamw";
constexpr int64_t kLength = 16, kVocab = 67, kBatch = 4, kSteps = 10;
constexpr uint64_t kSeed = 1234;

void write_set(const std::string& prefix, const std::vector<std::vector<int32_t>>& documents) {
  TokenWriter writer(prefix, kVocab);
  for (const auto& tokens : documents) {
    writer.add_sequence(tokens.data(), static_cast<int64_t>(tokens.size()));
    writer.end_document();
  }
  writer.finish();
}

// A set whose sample i, in the order of its first epoch, is row i of the golden tokens: each row is
// a document of the sequence's length, at the place where the order looks for it.
std::string golden_set() {
  const std::string prefix = workspace() + "/adamw";
  const std::vector<int64_t> ids =
      SafetensorsFile(kGolden + "/steps.safetensors").read_i64("input_ids");
  const auto rows = static_cast<int64_t>(ids.size()) / kLength;
  std::vector<std::vector<int32_t>> documents(static_cast<size_t>(rows),
                                              std::vector<int32_t>(kLength, 0));
  write_set(prefix, documents);
  {
    const TokenSet set(prefix);
    const SourceOrder order(set, "adamw", kSeed);
    Cursor cursor;
    for (int64_t row = 0; row < rows; ++row) {
      const Span span = order.take(cursor, kLength).at(0);
      REQUIRE((span.begin == 0 && span.count == kLength));
      auto& document = documents[static_cast<size_t>(span.document)];
      for (int64_t i = 0; i < kLength; ++i)
        document[static_cast<size_t>(i)] =
            static_cast<int32_t>(ids[static_cast<size_t>(row * kLength + i)]);
    }
  }
  write_set(prefix, documents);
  return prefix;
}

void write_config(const std::string& path, const std::string& set, int64_t micro_batch) {
  write_text(path, fmt::format(R"(
run: {{name: t, seed: {}}}
model: {{init_from: {}}}
data: {{sequence_length: {}, train: [{{path: {}, name: adamw}}]}}
train: {{tokens: {}, global_batch: {}, micro_batch: {}}}
optimizer: {{lr: 1e-3, betas: [0.9, 0.95], eps: 1e-6, weight_decay: 0.1, clip: 1.0}}
schedule: {{type: constant}}
)",
                               kSeed, fs::absolute(kGolden).string(), kLength, set,
                               kSteps * kBatch * kLength, kBatch, micro_batch));
}

// |a - b| / |b|; tensors that began at zero are as small as the steps that made them and are
// measured against the learning rate instead.
double difference(const std::vector<float>& a, const std::vector<float>& b,
                  const std::vector<float>& start) {
  double difference = 0, norm = 0, began = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
    began += std::abs(start[i]);
  }
  if (began == 0) norm = static_cast<double>(a.size()) * 1e-3 * 1e-3;
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("train: ten AdamW steps follow torch's on transformers' model", "[adamw]") {
  const auto [ranks, micro_batch] = GENERATE(table<int, int64_t>({{1, 4}, {1, 1}, {2, 2}}));
  const std::string set = golden_set(), name = fmt::format("adamw-{}-{}", ranks, micro_batch);
  const std::string config = workspace() + "/" + name + ".yaml";
  write_config(config, set, micro_batch);
  INFO(name);
  const int code = run_config(name, ranks, config);
  INFO(read_text(workspace() + "/" + name + ".log"));
  REQUIRE(code == 0);

  const SafetensorsFile expected(kGolden + "/expected.safetensors");
  const SafetensorsFile start(kGolden + "/model.safetensors");
  const Checkpoint checkpoint(checkpoint_path(name, kSteps));
  for (const auto& [tensor, info] : expected.tensors()) {
    INFO(tensor);
    const auto want = expected.read_f32(tensor), began = start.read_f32(tensor);
    CHECK(difference(read_tensor(checkpoint, tensor), want, began) < 1e-5);
  }

  std::ifstream metrics(workspace() + "/" + name + "/t/metrics.jsonl");
  const auto recipe = nlohmann::json::parse(read_text(kGolden + "/recipe.json"));
  std::string line;
  for (size_t step = 0; step < kSteps; ++step) {
    REQUIRE(std::getline(metrics, line));
    const auto got = nlohmann::json::parse(line);
    const double loss = recipe["losses"][step], norm = recipe["gradient_norms"][step];
    CHECK(got["loss"].get<double>() == Approx(loss).epsilon(1e-6));
    CHECK(got["grad_norm"].get<double>() == Approx(norm).epsilon(5e-5));
  }
}

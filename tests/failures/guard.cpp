// Steps that must not reach the weights.
#include "app/train/guard.h"
#include "core/ops.h"
#include "core/rng.h"
#include "parallel/checkpoint/checkpoint.h"
#include "tests/data/sets.h"
#include "tests/failures/job.h"
#include "tests/world.h"

#include <cmath>
#include <map>

using namespace ft;
using namespace ft::test;

namespace {

// The environment reaches the ranks through the launcher.
struct Poisoned {
  explicit Poisoned(const std::string& what) { ::setenv("FT_TEST_POISON", what.c_str(), 1); }
  ~Poisoned() { ::unsetenv("FT_TEST_POISON"); }
};

}  // namespace

TEST_CASE("failures: NaN on one rank stops all of them, and the op that made it is named") {
  {
    const Poisoned poisoned("5:1:model.layers.1.mamba.in_proj.weight");
    CHECK(train("nan", 2, "checkpoint.every=1") == 1);
  }
  const std::string log = log_of("nan");
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find("step 5: loss nan") != std::string::npos);
  CHECK(log.find("first bad value: rank 1, micro-batch 0, forward, model.layers.1: gemm.y at [") !=
        std::string::npos);
  CHECK(log.find("no weight was changed") != std::string::npos);
  CHECK(log.find("guard.non_finite: skip") != std::string::npos);
  // The run's own log has it too: a batch system may keep standard error elsewhere.
  CHECK(times(read_text(run_folder("nan") + "/log.txt"), "first bad value: rank 1") == 1);
  CHECK_FALSE(fs::exists(checkpoint_path("nan", 5)));
  CHECK(ranks_of("nan").empty());
  // Without the fault the run goes on as if it had never happened.
  REQUIRE(train("nan", 2, "checkpoint.every=1") == 0);
  REQUIRE(train("never", 2, "checkpoint.every=1 checkpoint.keep_last=12") == 0);
  CHECK(tensors("nan", 12) == tensors("never", 12));
}

TEST_CASE("failures: a step with NaN in backward alone is left out on all ranks") {
  {
    const Poisoned poisoned("5:0:model.layers.0.pre_ff_layernorm.weight:1e38");
    CHECK(train("skip", 2, "checkpoint.every=1 checkpoint.keep_last=12 guard.non_finite=skip") ==
          0);
  }
  const std::string log = log_of("skip");
  INFO(log);
  CHECK(log.find("step 5 is left out") != std::string::npos);
  CHECK(log.find("AdamW stays at its step 4") != std::string::npos);
  CHECK(log.find("first bad value: rank 0, micro-batch") != std::string::npos);
  CHECK(tensors("skip", 5) == tensors("skip", 4));  // weights and moments
  CHECK_FALSE(tensors("skip", 6) == tensors("skip", 5));
  // Step 6 is the run's step 5 of AdamW on the data of step 6, with or without a stop in between.
  fs::rename(run_folder("skip") + "/checkpoints/step-00000012", workspace() + "/skip-12");
  for (int step = 6; step < 12; ++step) fs::remove_all(checkpoint_path("skip", step));
  REQUIRE(train("skip", 2, "checkpoint.every=1 checkpoint.keep_last=12") == 0);
  const SafetensorsFile whole(workspace() + "/skip-12/rank-00000.safetensors");
  const SafetensorsFile resumed(checkpoint_path("skip", 12) + "/rank-00000.safetensors");
  for (const auto& [tensor, info] : whole.tensors())
    CHECK(whole.read_f32(tensor) == resumed.read_f32(tensor));
}

TEST_CASE("failures: a spike is warned of, left out or stops the run") {
  const std::string window = "guard.spike.window=8 checkpoint.every=1 checkpoint.keep_last=12 ";
  const Poisoned poisoned("9:0:model.embed_tokens.weight:100");
  const auto action = GENERATE(as<std::string>{}, "warn", "skip", "stop");
  const std::string name = "spike-" + action;
  CHECK(train(name, 1, window + "guard.spike.action=" + action) == (action == "stop" ? 1 : 0));
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("step 9") != std::string::npos);
  CHECK(log.find("is a spike: above") != std::string::npos);
  CHECK(times(log, "is a spike") == 1);  // the others are none
  const auto spikes = events_of(run_folder(name), "spike");
  REQUIRE(spikes.size() == 1);
  CHECK(spikes[0]["step"] == 9);
  CHECK(spikes[0]["action"] == action);
  CHECK(spikes[0]["loss"].get<double>() > spikes[0]["bound"].get<double>());
  CHECK(events_of(run_folder(name), "skip").size() == (action == "skip" ? 1 : 0));
  CHECK(events_of(run_folder(name), "failure").size() == (action == "stop" ? 1 : 0));
  if (action == "stop") CHECK_FALSE(fs::exists(checkpoint_path(name, 9)));
  else CHECK((tensors(name, 9) == tensors(name, 8)) == (action == "skip"));
}

TEST_CASE("failures: a step without a label that counts is no step") {
  // Of many documents longer than a step, only a few have labels.
  std::vector<Document> documents;
  for (int d = 0; d < 12; ++d) documents.emplace_back(800, 1 + d);
  const std::string set = workspace() + "/masked", name = "no-labels";
  write_set(set, documents, 257);
  std::string mask(12 * 800, '\0');
  for (int d : {2, 5, 7}) std::fill_n(mask.begin() + d * 800, 800, '\1');
  write_text(set + ".mask.bin", mask);
  const int ranks = GENERATE(1, 2);
  INFO(ranks);
  fs::remove_all(run_folder(name));
  REQUIRE(train(name, ranks,
                "data.train.0.path=" + set +
                    " train.tokens=9216 checkpoint.every=1 checkpoint.keep_last=24 "
                    "guard.spike.window=4 guard.spike.sigma=50 guard.spike.action=skip") == 0);
  INFO(log_of(name));
  int64_t updates = 0;
  int empty = 0;
  for (const auto& line : json_lines(run_folder(name) + "/metrics.jsonl")) {
    const int step = line["step"].get<int>();
    const bool none = line["labels"] == 0;
    CHECK(line["skipped"] == none);
    CHECK(line["loss"].is_null() == none);
    if (step > 1) CHECK((tensors(name, step) == tensors(name, step - 1)) == none);
    empty += none, updates += !none;
  }
  CHECK(empty > 2);
  CHECK(updates > 2);
  CHECK(Checkpoint(checkpoint_path(name, 24)).state().at("updates") == std::to_string(updates));
  CHECK(times(log_of(name), "  no labels  lr") == empty);
  CHECK(static_cast<int>(events_of(run_folder(name), "no_labels").size()) == empty);
  CHECK(log_of(name).find("is a spike") == std::string::npos);
}

TEST_CASE("the guard's window knows nothing of steps without labels, and many of them end a run") {
  GuardConfig config;
  config.spike = {.window = 4, .sigma = 6, .action = "skip"};
  Guard guard(config);
  Group& all = ft::test::world().all();
  const auto step = [](int64_t n, double loss) {
    return Outcome{.step = n, .updates = n, .loss = loss, .grad_norm = 1};
  };
  for (int64_t n = 1; n < 5; ++n) CHECK(guard.accept(all, step(n, 5 + 0.01 * n), {}));
  for (int64_t n = 5; n < 15; ++n) guard.leave_out_unlabelled(all, step(n, 0));
  CHECK(guard.accept(all, step(15, 5.02), {}));
  std::string message;
  try {
    for (int64_t n = 16; n < 100; ++n) guard.leave_out_unlabelled(all, step(n, 0));
  } catch (const SharedError& error) {
    message = error.what();
  }
  CHECK(message.find("step 65: 50 steps in a row were left out") != message.npos);
  CHECK(message.find("masks") != message.npos);
}

TEST_CASE("the guard finds words for just those steps that the device leaves out") {
  const std::string action = GENERATE("warn", "skip");
  GuardConfig config;
  config.non_finite = "skip";
  config.spike = {.window = 8, .sigma = 2, .action = action};
  Guard guard(config);
  double scalars[ops::kStepScalars] = {}, squares = 1;
  int64_t left_out = 0;
  for (int64_t n = 1; n < 400; ++n) {
    const int64_t labels = 1 + n % 7;
    double loss_sum = static_cast<double>(labels) *
                      (5 + random_normal(3, Purpose::Test, 0, static_cast<uint64_t>(n)));
    if (n % 50 == 0) loss_sum = std::nan("");
    if (n % 60 == 0) squares = HUGE_VAL;
    // The bound itself is no spike.
    if (n % 70 == 0 && std::isfinite(guard.loss_bound()))
      loss_sum = guard.loss_bound() * static_cast<double>(labels);
    scalars[ops::kLabels] = static_cast<double>(labels);
    scalars[ops::kLossBound] = guard.loss_bound();
    cpu::run(ops::StepVerdict{.scalars = Tensor(scalars, Dtype::F64, {ops::kStepScalars}),
                              .loss_sum = Tensor(&loss_sum, Dtype::F64, {1}),
                              .sum_squares = Tensor(&squares, Dtype::F64, {1})},
             Stream{});
    const bool taken = guard.accept(ft::test::world().all(),
                                    {.step = n,
                                     .updates = n,
                                     .loss = loss_sum / static_cast<double>(labels),
                                     .grad_norm = std::sqrt(squares)},
                                    [] { return std::string("here"); });
    CHECK(taken == (scalars[ops::kApply] == 1));
    left_out += !taken, squares = 1;
  }
  CHECK(left_out > (action == "skip" ? 20 : 5));
  CHECK(scalars[ops::kCount] == static_cast<double>(399 - left_out));
}

TEST_CASE("failures: the window of losses survives a stop") {
  const std::string sets = "guard.spike.window=8 guard.spike.action=skip checkpoint.every=8 ";
  const Poisoned poisoned("9:0:model.embed_tokens.weight:100");
  REQUIRE(train("window", 1, sets + "train.tokens=3072") == 0);  // 8 steps
  REQUIRE(train("window", 1, sets) == 0);                        // the spike comes first
  CHECK(log_of("window").find("step 9 is left out") != std::string::npos);
}

TEST_CASE("failures: a run that leaves out every step ends") {
  const std::string hf = workspace() + "/hf";
  REQUIRE(train("source", 1, "") == 0);
  fs::create_directories(hf);
  write_text(hf + "/config.json", "{\"model_type\": \"falcon_h1\"}");
  const SafetensorsFile from(checkpoint_path("source", 12) + "/rank-00000.safetensors");
  std::map<std::string, std::vector<float>> values;
  std::vector<NamedTensor> tensors;
  const Checkpoint checkpoint(checkpoint_path("source", 12));
  for (const std::string& name : checkpoint.names()) {
    if (name.starts_with("optimizer.")) continue;
    const auto shape = checkpoint.shape(name);
    const int64_t rows = shape[0];
    int64_t cols = 1;
    for (size_t i = 1; i < shape.size(); ++i) cols *= shape[i];
    auto& v = values[name];
    v.resize(static_cast<size_t>(rows * cols));
    read_box(checkpoint, name, {0, 0, rows, cols}, v.data());
    if (name == "model.final_layernorm.weight") v[3] = std::nanf("");
    tensors.push_back({name, "F32", shape, v.data(), static_cast<int64_t>(v.size()) * 4});
  }
  write_safetensors(hf + "/model.safetensors", tensors);
  CHECK(train("hopeless", 1,
              "model.init_from=" + hf + " train.tokens=100M guard.non_finite=skip") == 1);
  const std::string log = log_of("hopeless");
  INFO(log);
  CHECK(log.find("50 steps in a row were left out") != std::string::npos);
  CHECK(log.find("model.final_layernorm: rms_norm.y at [0, 3] is nan") != std::string::npos);
}

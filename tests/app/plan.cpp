// The plan: exact counts, the closed form of the multipliers, memory, and the schedule's table.
#include "app/train/plan_text.h"

#include "app/train/fit.h"
#include "app/train/memory_plan.h"
#include "app/train/recipe.h"
#include "app/train/trainer.h"
#include "core/file.h"
#include "core/platform.h"
#include "core/virtual_device.h"
#include "cpu/device.h"
#include "models/decoder/multipliers.h"
#include "tests/catch.h"

#include <cmath>
#include <filesystem>

using namespace ft;

namespace {

Config shipped(const std::string& name, const std::vector<std::string>& sets = {}) {
  return load_config("configs/" + name + ".yaml", sets);
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("plan: the released sizes have exactly their parameters", "[plan]") {
  const auto [name, parameters] =
      GENERATE(table<std::string, int64_t>({{"falcon-h1-tiny-90m", 91'131'072},
                                            {"falcon-h1-0.5b", 521'411'104},
                                            {"falcon-h1-1.5b", 1'554'859'392},
                                            {"falcon-h1-1.5b-deep", 1'554'872'208},
                                            {"falcon-h1-3b", 3'149'387'264},
                                            {"falcon-h1-7b", 7'585'648'736},
                                            {"falcon-h1-34b", 33'642'516'224}}));
  INFO(name);
  const Config config = resolve(shipped(name), int64_t{1} << 40);
  const std::string text = plan_text(config, {.count = 8});
  CHECK(has(text, fmt::format("model: {} parameters", parameters)));
  CHECK(has(text, "state-space scan"));
  CHECK(planned_memory(config) > 18 * parameters);  // bf16: 2 + 4 + 4 + 8 bytes a parameter
}

TEST_CASE("plan: every shipped configuration loads and plans", "[plan]") {
  int found = 0;
  for (const auto& file : std::filesystem::directory_iterator("configs")) {
    INFO(file.path());
    REQUIRE(file.path().extension() == ".yaml");
    const Config read = load_config(file.path().string(), {});
    const Config config = resolve(read, int64_t{1} << 40);
    CHECK(config.train.recompute != "auto");
    CHECK(has(plan_text(config, {.count = 2}), "total"));
    CHECK(has(schedule_text(config), "schedule: "));
    CHECK(read_text(file.path().string()).find("Ours") != std::string::npos);
    ++found;
  }
  CHECK(found >= 10);
}

TEST_CASE("plan: the closed form gives the published multipliers and the shipped ones", "[plan]") {
  const ModelConfig half = closed_form(shipped("falcon-h1-0.5b").model);
  CHECK(half.embedding_multiplier == Approx(5.656854249492381).epsilon(1e-12));
  CHECK(half.lm_head_multiplier == 0.0390625);
  CHECK(half.key_multiplier == Approx(0.390625).epsilon(1e-12));
  CHECK(half.attention_out_multiplier == 0.9375);
  CHECK(half.ssm_in_multiplier == 1.25);
  CHECK(half.ssm_out_multiplier == Approx(0.23570226039551587).epsilon(1e-12));
  CHECK(half.ssm_multipliers[2] == Approx(0.3535533905932738).epsilon(1e-12));
  CHECK(half.mlp_multipliers[0] == Approx(0.8838834764831844).epsilon(1e-12));
  CHECK(half.mlp_multipliers[1] == 0.5859375);
  const ModelConfig large = closed_form(shipped("falcon-h1-34b").model);
  CHECK(large.key_multiplier == Approx(0.011048543456039804).epsilon(1e-12));
  CHECK(large.mlp_multipliers[1] == Approx(0.011160714285714284).epsilon(1e-12));

  for (const char* name : {"falcon-h1-0.5b", "falcon-h1-1.5b", "falcon-h1-1.5b-deep",
                           "falcon-h1-3b", "falcon-h1-7b", "falcon-h1-34b"}) {
    INFO(name);
    const std::string text = multipliers_text(shipped(name).model);
    CHECK_FALSE(has(text, "# configured"));
    // What is printed can be pasted.
    const ModelConfig pasted = parse_config(text, "pasted").model;
    const ModelConfig closed = closed_form(shipped(name).model);
    CHECK(pasted.mlp_multipliers == closed.mlp_multipliers);
    CHECK(pasted.ssm_multipliers == closed.ssm_multipliers);
    CHECK(pasted.key_multiplier == closed.key_multiplier);
  }
  const std::string tiny = multipliers_text(shipped("falcon-h1-tiny-90m").model);
  CHECK(has(tiny, "lm_head_multiplier: 0.078125\n"));
  CHECK(has(tiny, "# configured: 0.11083984375"));
}

TEST_CASE("plan: recompute auto takes the first policy that fits", "[plan]") {
  const Config read = shipped("quickstart");
  REQUIRE(read.train.recompute == "auto");
  const auto memory_of = [&](const char* policy) {
    Config c = read;
    c.train.recompute = policy;
    return planned_memory(c);
  };
  const int64_t none = memory_of("none"), selective = memory_of("selective"),
                full = memory_of("full");
  REQUIRE(none > selective);
  REQUIRE(selective > full);
  const auto chosen = [&](int64_t memory) { return resolve(read, memory).train.recompute; };
  CHECK(chosen(none * 10 / 9 + 1) == "none");
  CHECK(chosen(none) == "selective");
  CHECK(chosen(selective) == "full");
  CHECK(chosen(1) == "full");
  Config asked = read;
  asked.train.recompute = "none";
  CHECK(resolve(asked, 1).train.recompute == "none");
}

TEST_CASE("plan: what does not fit is told by how much and what would help", "[plan]") {
  Config c = shipped("quickstart", {"train.recompute=none", "train.micro_batch=64"});
  const int64_t needed = planned_memory(c);
  CHECK(fit_problem(c, needed).empty());
  const std::string text = fit_problem(c, needed - 1);
  CHECK(has(text, "too little"));
  CHECK(has(text, "train.recompute: full"));
  CHECK(has(text, "train.micro_batch: 1"));
  CHECK(has(text, "fits"));
  CHECK_FALSE(has(text, "Nothing of it is enough"));
  CHECK(has(fit_problem(c, 1000), "Nothing of it is enough"));
}

TEST_CASE("plan: the schedule's table is the recipe's own numbers", "[plan]") {
  const Config c = shipped(  // 100 steps of 16 x 256 tokens, the first 20 of them warm-up
      "quickstart", {"train.tokens=409600", "schedule.warmup=81920", "schedule.decay=81920",
                     "optimizer.lr=3e-3", "schedule.final_ratio=0.1"});
  const std::string text = schedule_text(c);
  CHECK(has(text, "schedule: 100 steps"));
  CHECK(has(text, "       1       0.00015           0.1        16"));  // 3e-3 / 20
  CHECK(has(text, "409.6k         100        0.0003           0.1        16"));
}

namespace {

// FLOPs of a token's forward pass, without padding: matrix products by the real sizes, the causal
// half of attention and of the scan's chunks.
double forward_flops(const Config& c) {
  const ModelConfig& m = c.model;
  const auto d = [](int64_t n) { return static_cast<double>(n); };
  const double S = d(c.data.sequence_length), width = d(m.hidden_size), P = d(m.mamba_d_head);
  const double q = d(m.num_attention_heads * m.head_dim),
               kv = d(m.num_key_value_heads * m.head_dim);
  const double X = d(m.mamba_d_ssm), H = d(m.mamba_n_heads), N = d(m.mamba_d_state);
  const double G = d(m.mamba_n_groups), Q = d(m.mamba_chunk_size);
  const double rest = std::fmod(S, Q), inside = ((S - rest) * Q + rest * rest) / S;
  double flops = 2 * width * d(m.vocab_size);
  for (const char symbol : expand_pattern(m.layer_pattern, m.num_hidden_layers)) {
    flops += 2 * 3 * width * d(m.intermediate_size);
    if (symbol == 'P' || symbol == 'A') flops += 2 * width * (2 * q + 2 * kv) + 2 * S * q;
    if (symbol == 'P' || symbol == 'M')
      flops +=
          2 * width * (3 * X + 2 * G * N + H) + (inside * N * G + H * (inside * P + 4 * N * P));
  }
  return flops;
}

double counted(const Config& config) {
  const auto device = cpu::open_device(1);
  Engine engine(*device, engine_options(resolve(config, int64_t{1} << 40), true));
  const int64_t tokens = config.train.micro_batch * config.data.sequence_length;
  return engine.count(false).model_flops / static_cast<double>(tokens);
}

}  // namespace

TEST_CASE("plan: FLOPs are those of the model's own sizes, padding left out", "[plan]") {
  const std::string pattern = GENERATE("", "M*4", "A*4", "F*4", "P A M F", "M2 P A");
  const int64_t length = GENERATE(100, 256);  // 100: less than two chunks of 64
  INFO(pattern << " at " << length);
  const Config c =
      shipped("quickstart", {"model.layer_pattern=" + pattern + (pattern.empty() ? "\"\"" : ""),
                             fmt::format("data.sequence_length={}", length), "model.vocab_size=259",
                             "train.micro_batch=3", "train.global_batch=3"});
  CHECK(counted(c) == Approx(forward_flops(c)).epsilon(1e-12));
}

TEST_CASE("plan: FLOPs of a Llama are those of its own sizes", "[plan]") {
  const Config c = shipped("smollm-135m", {"model.vocab_size=259", "data.sequence_length=200",
                                           "model.num_hidden_layers=2", "train.micro_batch=3"});
  CHECK(counted(c) == Approx(forward_flops(c)).epsilon(1e-12));
}

TEST_CASE("plan: FLOPs of the released sizes, forward and backward, per token", "[plan]") {
  const auto [name, length, gflops] =
      GENERATE(table<std::string, int64_t, double>({{"falcon-h1-0.5b", 2048, 3.26},
                                                    {"falcon-h1-0.5b", 4096, 3.49},
                                                    {"falcon-h1-1.5b-deep", 4096, 10.42},
                                                    {"falcon-h1-7b", 4096, 45.2},
                                                    {"falcon-h1-34b", 4096, 199}}));
  INFO(name);
  const Config c = shipped(name, {fmt::format("data.sequence_length={}", length),
                                  "model.mamba_chunk_size=128", "train.micro_batch=1"});
  CHECK(3e-9 * counted(c) == Approx(gflops).epsilon(0.005));
}

TEST_CASE("plan: a device that is not there is counted like one that is", "[plan]") {
  const Config c = resolve(shipped("quickstart", {}), int64_t{1} << 40);
  const auto cpu = cpu::open_device(1);
  const auto planned = virtual_device(DeviceKind::Cpu, 1000, "machine"),
             gpu = virtual_device(DeviceKind::Cuda, 2000, "accelerator");
  Engine on_cpu(*cpu, engine_options(c, true)), on_plan(*planned, engine_options(c, true)),
      on_gpu(*gpu, engine_options(c, true));
  CHECK(sum_of(memory_of_run(c, on_plan, 2)) == sum_of(memory_of_run(c, on_cpu, 2)));
  CHECK(on_gpu.memory().ledger() == on_cpu.memory().ledger());
  CHECK(on_gpu.count(true).flops == on_cpu.count(true).flops);
  CHECK((gpu->kind() == DeviceKind::Cuda && gpu->memory_total() == 2000));
  CHECK(on_plan.workspaces().total(2) > 0);
  CHECK((on_gpu.workspaces().total(2) > 0) == kBuiltWithCuda);  // its kernels count them
  CHECK_THROWS_WITH(Engine(*gpu, engine_options(c, false)), Catch::Contains("accelerator"));
  CHECK(planned->allocations() + gpu->allocations() + cpu->allocations() == 0);
}

TEST_CASE("plan: the batch's equation is true", "[plan]") {
  CHECK(batch_text(16, 3, 2) == "16 sequences a step = 2 ranks x (2 x micro-batch 3 + 1 x 2)");
  CHECK(batch_text(16, 8, 2) == "16 sequences a step = 2 ranks x 1 x micro-batch 8");
  CHECK(batch_text(1, 1, 1) == "1 sequence a step = 1 rank x 1 x micro-batch 1");
  CHECK(batch_text(4, 3, 2) ==
        "4 sequences a step = 2 ranks x 1 x 2 (train.micro_batch 3 allows more)");
  const Config c = shipped("quickstart", {"schedule.batch_ramp=[[0, 8], [1M, 16]]"});
  const std::string text = plan_text(resolve(c, int64_t{1} << 40), {.count = 2});
  CHECK(has(text, "from 0 tokens on: 8 sequences a step = 2 ranks x 1 x 4"));
  CHECK(has(text, "from 1000000 tokens on: 16 sequences a step = 2 ranks x 1 x micro-batch 8"));
}

TEST_CASE("plan: a resumed run that leaps in its learning rate says so", "[plan]") {
  const auto with = [](const std::vector<std::string>& sets) {
    return shipped("quickstart", sets);
  };
  const Config saved = with({"train.tokens=1M", "schedule.decay=300k"});
  CHECK(lr_change(saved, saved, 500'000).empty());
  CHECK(lr_change(saved, with({"train.tokens=1M", "schedule.decay=300k", "log.every=7"}), 1'000'000)
            .empty());
  const std::string leap =
      lr_change(saved, with({"train.tokens=2M", "schedule.decay=300k"}), 1'000'000);
  CHECK(has(leap, "goes on with 0.003, where the settings of the checkpoint give 0.0003"));
  CHECK(has(leap, "train.tokens was 1000000, where its decay had ended, and is 2000000 now"));
  // Raised before the decay began: nothing changes in the next step.
  CHECK(lr_change(saved, with({"train.tokens=2M", "schedule.decay=300k"}), 500'000).empty());
  CHECK(has(lr_change(saved, with({"train.tokens=1M", "schedule.decay=300k", "optimizer.lr=1e-4"}),
                      500'000),
            "goes on with 0.0001, where the settings of the checkpoint give 0.003"));
}

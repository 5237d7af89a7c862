// The plan: exact counts, the closed form of the multipliers, memory, and the schedule's table.
#include "app/plan_text.h"

#include "app/fit.h"
#include "app/recipe.h"
#include "core/file.h"
#include "models/falcon_h1/multipliers.h"
#include "tests/catch.h"

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

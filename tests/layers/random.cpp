// Models of random small shapes: what is kept for backward and how many threads work must not
// change a bit of the loss or of any gradient, and no op takes more for itself than was planned.
#include "tests/layers/run.h"

#include "cpu/common.h"
#include "models/families/config_file.h"
#include "models/families/family.h"
#include "tests/catch.h"

#include <omp.h>

#include <cmath>
#include <random>
#include <thread>

using namespace ft;
using test::ModelRun;

namespace {

// The same numbers with every library.
struct Dice {
  std::mt19937_64 bits;
  int64_t from(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  bool one_of(int64_t n) { return from(1, n) == 1; }
  double near_one() { return static_cast<double>(from(30, 170)) / 100; }
};

ModelConfig random_model(Dice& dice) {
  ModelConfig m;
  m.vocab_size = dice.from(3, 90), m.hidden_size = dice.from(1, 50);
  m.intermediate_size = dice.from(1, 70), m.num_hidden_layers = dice.from(1, 4);
  m.num_key_value_heads = dice.from(1, 3);
  m.num_attention_heads = m.num_key_value_heads * dice.from(1, 3);
  m.head_dim = 2 * dice.from(1, 12);
  m.mamba_n_groups = dice.from(1, 3), m.mamba_n_heads = m.mamba_n_groups * dice.from(1, 6);
  m.mamba_d_head = dice.from(1, 20), m.mamba_d_ssm = m.mamba_n_heads * m.mamba_d_head;
  m.mamba_d_state = dice.from(1, 24), m.mamba_chunk_size = dice.from(1, 40);
  m.mamba_d_conv = dice.from(1, 6);
  for (bool* flag :
       {&m.attention_bias, &m.mlp_bias, &m.projectors_bias, &m.mamba_conv_bias, &m.mamba_proj_bias,
        &m.mamba_rms_norm, &m.mamba_norm_before_gate, &m.tie_word_embeddings})
    *flag = dice.one_of(2);
  for (double* factor : {&m.embedding_multiplier, &m.lm_head_multiplier, &m.key_multiplier,
                         &m.attention_in_multiplier, &m.attention_out_multiplier,
                         &m.ssm_in_multiplier, &m.ssm_out_multiplier})
    *factor = dice.near_one();
  for (double& factor : m.mlp_multipliers) factor = dice.near_one();
  for (double& factor : m.ssm_multipliers) factor = dice.near_one();
  if (dice.one_of(4)) m.time_step_limit = {0.05, 0.5};
  m.pad_token_id = std::nullopt;
  if (dice.one_of(3)) m.pad_token_id = dice.from(0, m.vocab_size - 1);
  m.rope_theta = dice.one_of(2) ? 1e11 : 1e4, m.initializer_range = 0.2;
  for (int64_t l = 0; l < m.num_hidden_layers; ++l) m.layer_pattern += "PMAF"[dice.from(0, 3)];
  m.finish();
  return m;
}

// As much of it as a Llama has.
ModelConfig random_llama(Dice& dice) {
  const ModelConfig random = random_model(dice);
  ModelConfig m = find_family("llama")->defaults;
  m.vocab_size = random.vocab_size, m.hidden_size = random.hidden_size;
  m.intermediate_size = random.intermediate_size;
  m.num_hidden_layers = random.num_hidden_layers;
  m.num_attention_heads = random.num_attention_heads;
  m.num_key_value_heads = random.num_key_value_heads, m.head_dim = random.head_dim;
  m.attention_bias = random.attention_bias, m.mlp_bias = random.mlp_bias;
  m.tie_word_embeddings = random.tie_word_embeddings, m.pad_token_id = random.pad_token_id;
  m.initializer_range = 0.2;
  m.layer_pattern = fmt::format("A*{}", m.num_hidden_layers);
  m.finish();
  return m;
}

Batch random_batch(Dice& dice, const ModelConfig& model, const Extent& e) {
  const int64_t document = dice.from(1, 2 * e.length);  // about so long
  std::vector<int64_t> ids, documents, labels;
  for (int64_t i = 0, d = 0; i < e.tokens(); ++i) {
    ids.push_back(dice.from(0, model.vocab_size - 1));
    documents.push_back(d += dice.one_of(document));
    labels.push_back(dice.one_of(5) && i > 0 ? -100 : dice.from(0, model.vocab_size - 1));
  }
  return make_batch(e.sequences, e.length, ids, documents, labels);
}

struct Result {
  double loss;
  std::vector<float> gradients;
  bool operator==(const Result&) const = default;
};

// A step of two micro-batches, the second a smaller one.
Result step(const ModelConfig& model, const Batch& large, const Batch& small,
            const ModelRun::Setting& setting) {
  ModelRun run(model, large, setting);
  run.engine.set_inv_count(static_cast<double>(large.valid + small.valid));
  const double loss = run.loss();
  run.backward();
  run.input = small;
  run.backward(Grad::Accumulate);
  return {loss, run.gradients()};
}

// Bytes that the ops of a step took for themselves on one thread, and what was planned.
std::pair<int64_t, int64_t> workspaces(const ModelConfig& model, const Batch& large,
                                       const Batch& small, ModelRun::Setting setting) {
  std::pair<int64_t, int64_t> taken_planned;
  std::thread fresh([&] {  // whose workspaces begin empty
    setting.threads = 1;
    ModelRun run(model, large, setting);
    const int64_t before = cpu::workspace_bytes();
    run.backward();
    run.input = small;
    run.backward();
    taken_planned = {cpu::workspace_bytes() - before, run.engine.workspaces().total(1)};
  });
  fresh.join();
  return taken_planned;
}

void check_shape(uint64_t seed, ModelConfig (*random)(Dice&) = random_model) {
  Dice dice{std::mt19937_64(seed)};
  const ModelConfig model = random(dice);
  const Extent extent{dice.from(1, 4), dice.from(1, 70)};
  const Batch large = random_batch(dice, model, extent);
  const Batch small = random_batch(dice, model, {dice.from(1, extent.sequences), extent.length});
  ModelRun::Setting setting{.extent = extent};
  setting.z_loss = dice.one_of(2) ? 0.01f : 0.0f;
  if (dice.one_of(2)) setting.precision.compute = Dtype::BF16;
  if (dice.one_of(2)) setting.precision.residual = Dtype::BF16;
  INFO("seed " << seed << ": " << model.layer_pattern << ", " << extent.sequences << " x "
               << extent.length << ", compute " << name_of(setting.precision.compute)
               << ", residual " << name_of(setting.precision.residual) << "\n"
               << model_text(model, 2));
  setting.threads = 1;
  const Result want = step(model, large, small, setting);
  REQUIRE(std::isfinite(want.loss));
  for (const float g : want.gradients)
    if (!std::isfinite(g)) FAIL("a gradient is not finite");
  for (const Recompute policy : {Recompute::None, Recompute::Selective, Recompute::Full})
    for (const int threads : {1, 2, 3}) {
      setting.recompute = policy, setting.threads = threads;
      INFO("recompute policy " << static_cast<int>(policy) << ", threads " << threads);
      CHECK(step(model, large, small, setting) == want);
    }
  const auto [taken, planned] = workspaces(model, large, small, setting);
  CHECK(taken <= planned);
}

}  // namespace

TEST_CASE("ten random shapes: the same bits for every recompute policy and number of threads",
          "[random]") {
  for (uint64_t seed = 1; seed <= 10; ++seed) check_shape(seed);
}

TEST_CASE("five random Llamas: the same bits for every recompute policy and number of threads",
          "[random]") {
  for (uint64_t seed = 1; seed <= 5; ++seed) check_shape(seed, random_llama);
}

TEST_CASE(
    "three hundred random shapes: the same bits for every recompute policy and number of "
    "threads",
    "[.random]") {
  for (uint64_t seed = 11; seed <= 310; ++seed) check_shape(seed);
}

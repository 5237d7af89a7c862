// Values that a reader takes and no training can want: each is refused with what it would do.
#include "app/config/config_check.h"
#include "core/options.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ft {

namespace {

constexpr double kTiny = std::numeric_limits<float>::min();  // below it fp32 is 0 here
constexpr double kHuge = 1e30;                               // squares of it are still no fp32
constexpr double kMostLr = 1000;

// What becomes an fp32 number must be one.
void check_fp32(const std::string& name, double value) {
  const double size = std::abs(value);
  FT_CHECK_CONFIG(size <= kHuge && (size == 0 || size >= kTiny),
                  "{} = {} is beyond what fp32 holds; expected 0, or {:.2g} to {:g}", name,
                  number_text(value), kTiny, kHuge);
}

void check_model(const ModelConfig& m) {
  FT_CHECK_CONFIG(m.rms_norm_eps >= kTiny,
                  "model.rms_norm_eps = {} is 0 in fp32: a row of zeros would become NaN; 1e-5 is "
                  "usual",
                  number_text(m.rms_norm_eps));
  const bool fresh = m.init_from.empty();
  FT_CHECK_CONFIG(m.initializer_range > 0 || !fresh,
                  "model.initializer_range = 0: matrices that start at 0 get no gradient and stay "
                  "there; 0.02 is usual");
  FT_CHECK_CONFIG(m.init != "mamba_ssm" || !fresh ||
                      (m.time_step_min >= kTiny && m.time_step_min <= m.time_step_max),
                  "model.time_step_min = {}: the first dt are drawn between it and time_step_max = "
                  "{} on a logarithmic scale; give 0 < time_step_min <= time_step_max",
                  number_text(m.time_step_min), number_text(m.time_step_max));
  FT_CHECK_CONFIG(std::isfinite(m.time_step_limit[0]),
                  "model.time_step_limit: its lower limit is not finite");
  for (const auto& [name, value] : {std::pair{"embedding_multiplier", m.embedding_multiplier},
                                    {"lm_head_multiplier", m.lm_head_multiplier}})
    FT_CHECK_CONFIG(value != 0, "model.{} = 0: all logits would be equal for ever", name);
  for (const auto& [name, value] : {std::pair{"embedding_multiplier", m.embedding_multiplier},
                                    {"lm_head_multiplier", m.lm_head_multiplier},
                                    {"key_multiplier", m.key_multiplier},
                                    {"attention_in_multiplier", m.attention_in_multiplier},
                                    {"attention_out_multiplier", m.attention_out_multiplier},
                                    {"ssm_in_multiplier", m.ssm_in_multiplier},
                                    {"ssm_out_multiplier", m.ssm_out_multiplier}})
    check_fp32(fmt::format("model.{}", name), value);
  for (const double value : m.mlp_multipliers) check_fp32("model.mlp_multipliers", value);
  for (const double value : m.ssm_multipliers) check_fp32("model.ssm_multipliers", value);
}

// Learning rate and decay of one group of parameters, as they meet in w -= lr wd w.
void check_rates(const std::string& name, double lr, double decay) {
  FT_CHECK_CONFIG(lr <= kMostLr,
                  "{} = {}: AdamW moves each weight by about the learning rate in every step; "
                  "1e-5 to 1e-2 are usual, above {} is refused",
                  name, number_text(lr), kMostLr);
  FT_CHECK_CONFIG(lr * decay <= 1,
                  "{}: learning rate {} x weight decay {} is above 1: each step would take more "
                  "than the whole weight away; lower one of them",
                  name, number_text(lr), number_text(decay));
}

void check_optimizer(const OptimizerConfig& o) {
  for (size_t i = 0; i < o.betas.size(); ++i)
    FT_CHECK_CONFIG(static_cast<float>(o.betas[i]) < 1.0f,
                    "optimizer.betas[{}] = {} is 1 in fp32: the moments would never hear of a "
                    "gradient; expected below 1, as 0.9 or 0.95",
                    i, number_text(o.betas[i]));
  // A gradient below `least` has a square that is 0 in the second moment, so its step would be
  // lr x gradient / eps: with eps below that, larger than any other step, and NaN where eps is 0.
  const double least = std::sqrt(kTiny / (1 - o.betas[1]));
  FT_CHECK_CONFIG(o.eps >= least,
                  "optimizer.eps = {}: gradients below {:.1e} have squares that are 0 in fp32, and "
                  "their weights would leap or become NaN; give {:.1e} or more, 1e-8 is usual",
                  number_text(o.eps), least, least);
  check_fp32("optimizer.eps", o.eps);
  check_fp32("optimizer.clip", o.clip);
  check_fp32("optimizer.weight_decay", o.weight_decay);
  check_rates("optimizer.lr", o.lr, o.weight_decay);
  for (size_t i = 0; i < o.groups.size(); ++i) {
    const OptimizerGroup& g = o.groups[i];
    const std::string name = fmt::format("optimizer.groups.{}", i);
    const double factor = g.lr_multiplier.value_or(1);
    const double decay = g.weight_decay_multiplier ? *g.weight_decay_multiplier * o.weight_decay
                                                   : g.weight_decay.value_or(o.weight_decay);
    check_fp32(name + ".lr_multiplier", factor);
    check_fp32(name + ".weight_decay", decay);
    check_rates(name + ".lr_multiplier", o.lr * factor, decay);
  }
}

bool decays(const ScheduleConfig& s) { return s.type == "wsd" || s.type == "power"; }

void check_schedule(const Config& c) {
  const ScheduleConfig& s = c.schedule;
  FT_CHECK_CONFIG(
      !decays(s) || s.decay == 0 || s.decay_shape != "exponential" || s.final_ratio > 0,
      "schedule.final_ratio = 0: an exponential decay never reaches 0; give it above 0, "
      "or decay_shape: linear or cosine");
}

void check_guard(const SpikeConfig& s) {
  FT_CHECK_CONFIG(
      s.window != 1,
      "guard.spike.window = 1: a standard deviation needs two steps; give 2 or more, or "
      "0 for no look at spikes");
  FT_CHECK_CONFIG(s.window == 0 || s.sigma > 0,
                  "guard.spike.sigma = 0: every loss above the mean would be a spike; 6 is usual");
}

// A run's folder is one below run.directory: another place might be somebody's work.
void check_run_name(const std::string& name) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     std::none_of(name.begin(), name.end(), [](char c) {
                       return c == '/' || static_cast<unsigned char>(c) < ' ' || c == 127;
                     });
  FT_CHECK_CONFIG(plain,
                  "run.name: a run is a folder in run.directory: expected the name of one, without "
                  "\"/\" and not \".\" or \"..\"; set run.directory to put it elsewhere");
}

}  // namespace

void check_sense(const Config& c) {
  check_run_name(c.run.name);
  FT_CHECK_CONFIG(!c.run.directory.empty(), "run.directory: expected a folder, such as runs");
  check_model(c.model);
  check_optimizer(c.optimizer);
  check_schedule(c);
  check_guard(c.guard.spike);
  check_fp32("train.z_loss", c.train.z_loss);
}

std::vector<std::string> notes_of(const Config& c) {
  const ScheduleConfig& s = c.schedule;
  const int64_t tokens = c.train.tokens;
  std::vector<std::string> notes;
  const auto note = [&](bool holds, const std::string& text) {
    if (holds) notes.push_back(text);
  };
  // Told, not refused: a short trial of a long run's configuration is honest work.
  const bool warms = tokens > 0 && s.type != "points";
  note(
      warms && s.warmup > tokens,
      fmt::format("schedule.warmup: {} tokens of warm-up are more than train.tokens = {}: the peak "
                  "learning rate is never reached",
                  s.warmup, tokens));
  note(
      warms && decays(s) && s.warmup <= tokens && s.decay > tokens - s.warmup,
      fmt::format("schedule.decay: {} tokens of warm-up and {} of decay are more than train.tokens "
                  "= {}: the decay begins before the warm-up ends",
                  s.warmup, s.decay, tokens));
  note(s.decay > 0 && !decays(s),
       fmt::format("schedule.decay has no effect with schedule.type: {}", s.type));
  note(s.warmup > 0 && s.type == "points",
       "schedule.warmup has no effect with schedule.type: points");
  note(tokens > 0 && s.type == "power" && s.power_start >= tokens,
       "schedule.power_start is not before train.tokens: the learning rate never falls");
  note(tokens > 0 && !s.batch_ramp.empty() && s.batch_ramp.back()[0] >= tokens,
       fmt::format("schedule.batch_ramp: its last stage begins at {} tokens, the run ends at {}",
                   s.batch_ramp.empty() ? 0 : s.batch_ramp.back()[0], tokens));
  note(tokens > 0 && s.weight_decay.start >= tokens &&
           (s.weight_decay.type == "linear" || s.weight_decay.type == "cosine"),
       "schedule.weight_decay.start is not before train.tokens: the weight decay never falls");
  note(!c.data.validation.empty() && c.validate.every == 0 && !c.validate.at_start,
       "data.validation names sets, but validate.every is 0: they are never used");
  note(c.data.validation.empty() && c.validate.every > 0,
       "validate.every is set, but data.validation names no set");
  note(c.checkpoint.every > 0 && c.checkpoint.keep_every % c.checkpoint.every != 0,
       fmt::format("checkpoint.keep_every = {} is no multiple of checkpoint.every = {}: only steps "
                   "that are multiples of both are kept",
                   c.checkpoint.keep_every, c.checkpoint.every));
  return notes;
}

}  // namespace ft

// Settings that must fit each other.
#include "app/config/config_check.h"

#include "core/options.h"
#include "core/param.h"
#include "core/platform.h"
#include "data/set_info.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {

void check_groups(const Config& c) {
  for (size_t i = 0; i < c.optimizer.groups.size(); ++i) {
    const OptimizerGroup& g = c.optimizer.groups[i];
    const std::string name = fmt::format("optimizer.groups.{}", i);
    FT_CHECK_CONFIG(!g.match.empty() || !g.parameters.empty(),
                    "{}: give match (names of tensors) or class (class of parameters)", name);
    FT_CHECK_CONFIG(!g.weight_decay || !g.weight_decay_multiplier,
                    "{}: weight_decay and weight_decay_multiplier say the same; give one of them",
                    name);
    const auto& known = parameter_classes();
    if (g.parameters.empty() || g.parameters.find_first_of("*?") != std::string::npos ||
        std::count(known.begin(), known.end(), g.parameters))
      continue;
    const std::string near = nearest(g.parameters, known);
    throw ConfigError(fmt::format("{}.class: \"{}\" is no class of parameters; {}", name,
                                  g.parameters,
                                  near.empty() ? fmt::format("known: {}", fmt::join(known, ", "))
                                               : "did you mean \"" + near + "\"?"));
  }
}

void check_points(const std::string& name, const std::string& type,
                  const std::vector<std::array<double, 2>>& points) {
  FT_CHECK_CONFIG(points.empty() == (type != "points"),
                  "{}.points: points and type: points belong together; type is {}", name, type);
  for (size_t i = 1; i < points.size(); ++i)
    FT_CHECK_CONFIG(points[i][0] >= points[i - 1][0],
                    "{}.points: {} tokens come after {}; list them in rising order", name,
                    number_text(points[i][0]), number_text(points[i - 1][0]));
}

void check_schedule(const Config& c) {
  const ScheduleConfig& s = c.schedule;
  check_points("schedule", s.type, s.points);
  check_points("schedule.weight_decay", s.weight_decay.type, s.weight_decay.points);
  FT_CHECK_CONFIG(
      (s.type != "power" && s.weight_decay.type != "power") || s.warmup > 0 || s.power_start > 0,
      "schedule.power_start: power falls from the end of the warm-up; give "
      "schedule.warmup or schedule.power_start");
  const auto& ramp = s.batch_ramp;
  FT_CHECK_CONFIG(!ramp.empty() || s.batch_ramp_lr == "none",
                  "schedule.batch_ramp_lr: there is no schedule.batch_ramp to follow");
  if (ramp.empty()) return;
  FT_CHECK_CONFIG(ramp[0][0] == 0, "schedule.batch_ramp: the first pair must begin at 0 tokens");
  for (size_t i = 0; i < ramp.size(); ++i) {
    FT_CHECK_CONFIG(i == 0 || ramp[i][0] > ramp[i - 1][0],
                    "schedule.batch_ramp: {} tokens come after {}; list them in rising order",
                    ramp[i][0], ramp[i - 1][0]);
    FT_CHECK_CONFIG(ramp[i][1] >= 1 && ramp[i][1] <= 1'000'000'000,
                    "schedule.batch_ramp: a batch of {} sequences is out of range; expected 1 to "
                    "1000000000",
                    ramp[i][1]);
  }
  FT_CHECK_CONFIG(
      ramp.back()[1] == c.train.global_batch,
      "schedule.batch_ramp: ends with {} sequences, train.global_batch is {}; make them "
      "equal",
      ramp.back()[1], c.train.global_batch);
}

// Where a relative path leads; nothing behind an absolute one.
std::string looked_at(const fs::path& path) {
  if (path.is_absolute()) return "";
  return fmt::format(" (looked for {}: data paths start from the folder of the command)",
                     fs::absolute(path).lexically_normal().string());
}

void check_sources(const char* name, const std::vector<DataSource>& sources) {
  std::set<std::string> names;
  double weight = 0;
  for (const DataSource& s : sources) {
    FT_CHECK_CONFIG(!s.path.empty(), "{}: a source has no path (prefix of its .bin and .idx)",
                    name);
    FT_CHECK_CONFIG(names.insert(s.name).second,
                    "{}: two sources are named \"{}\"; give one another name", name, s.name);
    weight += s.weight;
  }
  FT_CHECK_CONFIG(sources.empty() || (weight > 0 && weight <= 1e300),
                  "{}: the weights add up to {}; give at least one source a weight", name, weight);
}

// The same in doubles, which do not overflow; a product that an integer cannot hold is refused.
void check_sizes(const Config& c) {
  constexpr double kMost = 7e16;  // bytes; sums of a few, and what is not counted here, fit 63 bits
  const auto d = [](int64_t n) { return static_cast<double>(n); };
  const ModelConfig& m = c.model;
  const double length = d(c.data.sequence_length), layers = d(m.num_hidden_layers);
  const double tokens = d(c.train.micro_batch) * length;
  const double groups = d(m.mamba_n_groups) * d(m.mamba_d_state);
  const double heads = 2.0 * d(m.num_attention_heads + m.num_key_value_heads) * d(m.head_dim);
  const double columns =
      4 * d(m.hidden_size) + 3 * d(m.intermediate_size) + 4 * d(m.mamba_d_ssm) + 4 * groups + heads;
  const auto refuse = [&](double bytes, const std::string& words) {
    FT_CHECK_CONFIG(bytes < kMost, "{} need about {:.1e} bytes of memory; is a size mistyped?",
                    words, bytes);
  };
  refuse(4 * tokens * columns * layers,
         fmt::format("train.micro_batch = {}: activations of {} x data.sequence_length = {} tokens "
                     "in {} layers",
                     c.train.micro_batch, c.train.micro_batch, c.data.sequence_length,
                     m.num_hidden_layers));
  refuse(4 * (tokens / d(m.mamba_chunk_size) + d(c.train.micro_batch)) * d(m.mamba_d_ssm) *
             d(m.mamba_d_state) * layers,
         fmt::format("model.mamba_d_state = {}: states of mamba_d_ssm = {} in {} layers at {} x {} "
                     "tokens",
                     m.mamba_d_state, m.mamba_d_ssm, m.num_hidden_layers, c.train.micro_batch,
                     c.data.sequence_length));
  int64_t batch = c.train.global_batch;
  for (const auto& stage : c.schedule.batch_ramp) batch = std::max(batch, stage[1]);
  refuse(24 * d(batch) * length,
         fmt::format("train.global_batch = {}: batches of {} x data.sequence_length = {} tokens",
                     c.train.global_batch, batch, c.data.sequence_length));
}

// A shell completes names of files; a set is named by what they have in common.
void check_is_prefix(const std::string& path) {
  for (const std::string& suffix : {std::string(".bin"), std::string(".idx")})
    if (path.ends_with(suffix) && !fs::exists(path + suffix) && fs::exists(path))
      throw ConfigError(
          fmt::format("{}: is a file of a token set, which is named by what its "
                      "files have in common; write {}",
                      path, path.substr(0, path.size() - suffix.size())));
}

void check_training(const Config& c, int ranks) {
  FT_CHECK_CONFIG(c.data.sequence_length > 0, "data.sequence_length must be given");
  FT_CHECK_CONFIG(!c.data.train.empty(),
                  "data.train must name at least one source, e.g. [{{path: data/train}}]");
  FT_CHECK_CONFIG(c.train.tokens > 0, "train.tokens must be given: how many tokens to train on");
  check_batches(c, ranks);
  for (const auto* sources : {&c.data.train, &c.data.validation})
    for (const DataSource& s : *sources) {
      check_is_prefix(s.path);
      for (const char* suffix : {".bin", ".idx"})
        FT_CHECK_CONFIG(fs::exists(s.path + suffix),
                        "{}{}: is missing{}; make it with falcon-train tokenize --out {}", s.path,
                        suffix, looked_at(s.path + suffix), s.path);
    }
}

}  // namespace

void check_supported(const Config& c) {
  const ParallelConfig& p = c.parallel;
  const auto layout = [](const char* name, int value, int only, const char* what) {
    FT_CHECK_CONFIG(value == only,
                    "parallel.{} = {}: {} not in this build, which trains with data parallelism "
                    "alone; set it to {}",
                    name, value, what, only);
  };
  layout("tensor", p.tensor, 1, "tensor parallelism is");
  layout("pipeline", p.pipeline, 1, "pipeline parallelism is");
  layout("context", p.context, 1, "context parallelism is");
  layout("virtual_stages", p.virtual_stages, 1, "pipeline stages are");
  layout("zero", p.zero, 0, "sharing out optimizer, gradients or weights is");
  FT_CHECK_CONFIG(!p.sequence,
                  "parallel.sequence: sequence parallelism is not in this build; set it to false");
  FT_CHECK_CONFIG(!c.checkpoint.async,
                  "checkpoint.async: saving while training goes on is not in this build; set it to "
                  "false");
  FT_CHECK_CONFIG(c.run.device != "cuda" || kBuiltWithCuda,
                  "run.device: cuda is not in this build; set it to cpu or auto, or use a build "
                  "with the CUDA backend");
  FT_CHECK_CONFIG(c.model.linear == "bf16",
                  "model.linear: {} is not in this build, which has ordinary linears; set it to "
                  "bf16",
                  c.model.linear);
  FT_CHECK_CONFIG(c.optimizer.state == "fp32",
                  "optimizer.state: moments in {} are not in this build; set it to fp32",
                  c.optimizer.state);
}

void check_batches(const Config& c, int ranks) {
  const auto check = [&](const char* name, int64_t batch) {
    FT_CHECK_CONFIG(batch % ranks == 0,
                    "{} = {} does not divide by {} data-parallel ranks; make it a multiple, or "
                    "start another number of ranks",
                    name, batch, ranks);
  };
  check("train.global_batch", c.train.global_batch);
  for (const auto& stage : c.schedule.batch_ramp) check("schedule.batch_ramp", stage[1]);
}

void check_values(const Config& c) {
  FT_CHECK_CONFIG(c.optimizer.betas.size() == 2,
                  "optimizer.betas: {} numbers, expected two: [0.9, 0.95]",
                  c.optimizer.betas.size());
  check_groups(c);
  check_schedule(c);
  check_sources("data.train", c.data.train);
  check_sources("data.validation", c.data.validation);
  FT_CHECK_CONFIG(c.train.micro_batch * c.data.sequence_length < (int64_t{1} << 31),
                  "train.micro_batch = {} x data.sequence_length = {} tokens are too many for one "
                  "micro-batch (limit 2147483647)",
                  c.train.micro_batch, c.data.sequence_length);
  check_sizes(c);
}

void check_for_training(const Config& c, int ranks) {
  with_place(c.source, [&] { check_training(c, ranks); });
}

}  // namespace ft

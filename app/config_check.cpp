// Settings that must fit each other.
#include "app/config_check.h"

#include "core/options.h"
#include "core/param_class.h"

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

void check_training(const Config& c, int ranks) {
  check_run_name(c.run.name);
  FT_CHECK_CONFIG(!c.run.directory.empty(), "run.directory: expected a folder, such as runs");
  check_layout(c.parallel);
  FT_CHECK_CONFIG(!c.checkpoint.async,
                  "checkpoint.async: this build saves while training waits; set it to false");
  FT_CHECK_CONFIG(c.data.sequence_length > 0, "data.sequence_length must be given");
  FT_CHECK_CONFIG(!c.data.train.empty(),
                  "data.train must name at least one source, e.g. [{{path: data/train}}]");
  FT_CHECK_CONFIG(c.train.tokens > 0, "train.tokens must be given: how many tokens to train on");
  const auto check_batch = [&](const char* name, int64_t batch) {
    FT_CHECK_CONFIG(batch % ranks == 0,
                    "{} = {} does not divide by {} data-parallel ranks; make it a multiple, or "
                    "start another number of ranks",
                    name, batch, ranks);
  };
  check_batch("train.global_batch", c.train.global_batch);
  for (const auto& stage : c.schedule.batch_ramp) check_batch("schedule.batch_ramp", stage[1]);
  for (const auto* sources : {&c.data.train, &c.data.validation})
    for (const DataSource& s : *sources)
      for (const char* suffix : {".bin", ".idx"})
        FT_CHECK_CONFIG(fs::exists(s.path + suffix),
                        "{}{}: is missing; make it with falcon-train tokenize --out {}", s.path,
                        suffix, s.path);
}

}  // namespace

void check_layout(const ParallelConfig& p) {
  FT_CHECK_CONFIG(
      p.tensor == 1 && p.pipeline == 1 && p.context == 1 && p.virtual_stages == 1 && p.zero == 0 &&
          !p.sequence,
      "parallel: this build has data parallelism only; set tensor, pipeline, context and "
      "virtual_stages to 1, zero to 0, sequence to false");
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
}

void check_for_training(const Config& c, int ranks) {
  with_place(c.source, [&] { check_training(c, ranks); });
}

}  // namespace ft

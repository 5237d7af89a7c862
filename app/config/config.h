// The configuration of a run. Every option is described once, in app/config/config.cpp.
#pragma once

#include "core/options.h"
#include "data/config.h"
#include "models/decoder/config.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ft {

struct RunConfig {
  std::string name = "run", directory = "runs";
  uint64_t seed = 1234;
  std::string device = "auto";
  int threads = 0;          // a rank; 0 = what the machine and the other ranks leave
  double timeout = 600;     // seconds
  int64_t stop_before = 0;  // seconds; 0 = never
  bool operator==(const RunConfig&) const = default;
};

struct ParallelConfig {
  int tensor = 1, pipeline = 1, context = 1, virtual_stages = 1, zero = 0;
  bool sequence = false;
  bool operator==(const ParallelConfig&) const = default;
};

struct TrainConfig {
  int64_t tokens = 0;
  int64_t global_batch = 1, micro_batch = 1;  // sequences
  std::string precision = "fp32";             // fp32 | bf16
  std::string residual;                       // "" = precision; fp32 | bf16
  std::string recompute = "auto";             // auto | none | selective | full
  bool deterministic = true;
  double z_loss = 0;
  bool operator==(const TrainConfig&) const = default;
};

struct OptimizerGroup {
  std::string match, parameters;  // names of tensors; classes of parameters (key: class)
  std::optional<double> lr_multiplier, weight_decay, weight_decay_multiplier;
  bool operator==(const OptimizerGroup&) const = default;
};

struct OptimizerConfig {
  std::string type = "adamw";
  double lr = 1e-3;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8, weight_decay = 0.1, clip = 1.0;
  std::string state = "fp32";
  std::vector<OptimizerGroup> groups;
  bool operator==(const OptimizerConfig&) const = default;
};

struct WeightDecayConfig {
  std::string type = "auto";  // auto | constant | linear | cosine | power | lr | points
  int64_t start = 0;          // tokens
  double final_ratio = 0;
  std::vector<std::array<double, 2>> points;  // [tokens, factor]
  bool operator==(const WeightDecayConfig&) const = default;
};

struct ScheduleConfig {
  std::string type = "cosine";    // constant | linear | cosine | wsd | power | points
  int64_t warmup = 0, decay = 0;  // tokens
  double final_ratio = 0.1;
  std::string decay_shape = "exponential";  // exponential | linear | cosine
  int64_t power_start = 0;                  // tokens; 0: the end of the warm-up
  double power_exponent = 0.25;
  std::vector<std::array<double, 2>> points;  // [tokens, factor]
  WeightDecayConfig weight_decay;
  std::vector<std::array<int64_t, 2>> batch_ramp;  // [tokens, sequences]
  std::string batch_ramp_lr = "none";              // none | sqrt
  bool operator==(const ScheduleConfig&) const = default;
};

struct ValidateConfig {
  int64_t every = 0, sequences = 0;
  bool at_start = false;
  bool operator==(const ValidateConfig&) const = default;
};

struct CheckpointConfig {
  int64_t every = 0, keep_last = 3, keep_every = 0;
  int64_t retry = 600;  // seconds
  bool async = false;
  bool operator==(const CheckpointConfig&) const = default;
};

// A loss above mean + sigma x standard deviation of the last `window` steps that changed weights.
struct SpikeConfig {
  int64_t window = 128;  // 0: not looked for
  double sigma = 6;
  std::string action = "warn";  // warn | skip | stop
  bool operator==(const SpikeConfig&) const = default;
};

struct GuardConfig {
  std::string non_finite = "stop";  // stop | skip
  SpikeConfig spike;
  bool operator==(const GuardConfig&) const = default;
};

struct LogConfig {
  int64_t every = 1, norms_every = 10;  // steps
  bool tensorboard = true, mfu = true;
  bool operator==(const LogConfig&) const = default;
};

struct Config {
  RunConfig run;
  ModelConfig model;
  ParallelConfig parallel;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  ValidateConfig validate;
  CheckpointConfig checkpoint;
  GuardConfig guard;
  LogConfig log;
  std::vector<std::string> notes;  // what the reader should tell the user once
  OptionNode source;               // what it was read from: later checks name its places
};

// Reads a YAML file with everything it extends, then applies "a.b.c=value" settings. Throws
// ConfigError that names file, line, column, what was expected and the nearest known key.
Config load_config(const std::string& path, const std::vector<std::string>& sets);

// The same where files that the model section names (model.config, model.init_from) are gone: the
// model is that of `resolved`, a text of config_text, but for what the file says itself. Empty:
// nothing takes their place.
Config load_config(const std::string& path, const std::vector<std::string>& sets,
                   const std::string& resolved);
// Where such a file is gone: the run section, to find a checkpoint of the run by.
std::optional<RunConfig> run_of_missing_model(const std::string& path,
                                              const std::vector<std::string>& sets);

// A resolved configuration as config_text wrote it; `where` names it in errors.
Config parse_config(const std::string& text, const std::string& where);

// Defaults with this model, then the settings: for commands that read no YAML.
Config probe_config(const ModelConfig& model, const std::vector<std::string>& sets);

// What only training needs; `ranks` is the size of the world. Throws ConfigError.
void check_for_training(const Config& config, int ranks);

// Resolved YAML, every option written out; load_config and parse_config read back the same.
std::string config_text(const Config& config);
bool same_settings(const Config& a, const Config& b);  // all sections equal
std::string config_help();  // every option: path, type, default, range, help

}  // namespace ft

#include "app/config.h"

#include "core/options.h"
#include "models/falcon_h1/hf_config.h"

#include <filesystem>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {
const OptionRange kPositive{.min = 0, .open_min = true};
const OptionRange kRatio{.min = 0, .max = 1};
const OptionRange kNonNegative{.min = 0};
}  // namespace

void describe(OptionVisitor& v, RunConfig& c) {
  v.text("name", c.name, "the run folder is directory/name");
  v.text("directory", c.directory, "where run folders lie");
  v.integer("seed", c.seed, "of initial weights and of the order of the data");
  v.choice("device", c.device, "where to compute", {"auto", "cuda", "cpu"});
  v.integer("threads", c.threads, "CPU threads of a rank; 0: its share of the machine's cores", 0, 4096);
  v.number("timeout", c.timeout, "how long ranks wait for a silent one before all stop", kPositive, "s");
  v.integer("stop_before", c.stop_before, "save and stop this long after the start (for time limits); 0: never", 0,
            int64_t{1} << 40, "s");
}

void describe(OptionVisitor& v, ParallelConfig& c) {
  v.integer("tensor", c.tensor, "ranks that share every layer", 1, 65536);
  v.integer("pipeline", c.pipeline, "ranks that share the sequence of layers", 1, 65536);
  v.integer("context", c.context, "ranks that share a sequence", 1, 65536);
  v.integer("virtual_stages", c.virtual_stages, "pipeline stages of a rank", 1, 65536);
  v.integer("zero", c.zero, "1 shards optimizer states over the data-parallel ranks", 0, 1);
  v.flag("sequence", c.sequence, "shard norms and residuals over the tensor ranks");
}

void describe(OptionVisitor& v, DataSource& c) {
  v.text("name", c.name, "names the source in logs and fixes its order; empty: its path");
  v.text("path", c.path, "prefix of PATH.bin and PATH.idx");
  v.number("weight", c.weight, "relative share of the samples; training only", kPositive);
}

void describe(OptionVisitor& v, DataConfig& c) {
  v.integer("sequence_length", c.sequence_length, "length of a sample; training needs it", 0, int64_t{1} << 30, "tokens");
  v.list("train", c.train, "sources to train on");
  v.list("validation", c.validation, "sets to validate on");
  v.flag("isolate_documents", c.isolate_documents,
         "attention, positions, convolution and SSM state begin anew at every document");
  v.text("tokenizer", c.tokenizer, "bytes, or the path of a tokenizer.json; empty: what PATH.json says");
}

void describe(OptionVisitor& v, TrainConfig& c) {
  v.integer("tokens", c.tokens, "how long to train; training needs it", 0, std::numeric_limits<int64_t>::max(), "tokens");
  v.integer("global_batch", c.global_batch, "sequences of a step, over all ranks", 1, int64_t{1} << 30, "sequences");
  v.integer("micro_batch", c.micro_batch, "sequences a rank computes at a time", 1, int64_t{1} << 30, "sequences");
  v.choice("precision", c.precision, "of matrix products and activations", {"fp32", "bf16"});
  v.choice("residual", c.residual, "of the residual stream; empty: as precision", {"", "fp32", "bf16"});
  v.choice("recompute", c.recompute, "what backward computes again instead of keeping",
           {"auto", "none", "selective", "full"});
  v.flag("deterministic", c.deterministic, "the same bits from the same run");
  v.number("z_loss", c.z_loss, "weight of the squared logarithm of the softmax sum", kNonNegative);
}

void describe(OptionVisitor& v, OptimizerGroup& c) {
  v.text("match", c.match, "parameter names, with * for any text");
  v.optional_number("lr_multiplier", c.lr_multiplier, "on the learning rate", kNonNegative);
  v.optional_number("weight_decay", c.weight_decay, "instead of optimizer.weight_decay", kNonNegative);
}

void describe(OptionVisitor& v, OptimizerConfig& c) {
  v.choice("type", c.type, "the optimizer", {"adamw"});
  v.number("lr", c.lr, "peak learning rate", kNonNegative);
  v.numbers("betas", c.betas.data(), 2, "decay of the two moments; below 1", kRatio);
  v.number("eps", c.eps, "added to the root of the second moment", kPositive);
  v.number("weight_decay", c.weight_decay, "decoupled; on 2-D weights unless a group says otherwise", kNonNegative);
  v.number("clip", c.clip, "largest norm of the gradient; 0: no clipping", kNonNegative);
  v.choice("state", c.state, "precision of the moments", {"fp32", "bf16", "fp8"});
  v.list("groups", c.groups, "exceptions by parameter name; the last match wins");
}

void describe(OptionVisitor& v, ScheduleConfig& c) {
  v.choice("type", c.type, "shape of the learning rate", {"constant", "linear", "cosine", "wsd"});
  v.integer("warmup", c.warmup, "linear rise from 0", 0, std::numeric_limits<int64_t>::max(), "tokens");
  v.integer("decay", c.decay, "length of the final decay of wsd", 0, std::numeric_limits<int64_t>::max(), "tokens");
  v.number("final_ratio", c.final_ratio, "last learning rate over the peak", kRatio);
  v.choice("decay_shape", c.decay_shape, "of wsd's decay", {"exponential", "linear", "cosine"});
}

void describe(OptionVisitor& v, ValidateConfig& c) {
  v.integer("every", c.every, "validate this often; 0: never", 0, std::numeric_limits<int64_t>::max(), "steps");
  v.integer("sequences", c.sequences, "of each set; 0: all", 0, std::numeric_limits<int64_t>::max(), "sequences");
}

void describe(OptionVisitor& v, CheckpointConfig& c) {
  v.integer("every", c.every, "save this often; 0: only at the end", 0, std::numeric_limits<int64_t>::max(), "steps");
  v.integer("keep_last", c.keep_last, "newest checkpoints that are kept", 1, std::numeric_limits<int64_t>::max());
  v.integer("keep_every", c.keep_every, "kept for ever this often; 0: none", 0, std::numeric_limits<int64_t>::max(),
            "steps");
  v.flag("async", c.async, "write while training goes on");
}

void describe(OptionVisitor& v, GuardConfig& c) {
  v.choice("non_finite", c.non_finite, "at a loss or gradient that is no number: stop, or skip the step",
           {"stop", "skip"});
}

void describe(OptionVisitor& v, LogConfig& c) {
  v.integer("every", c.every, "print this often", 1, std::numeric_limits<int64_t>::max(), "steps");
}

void describe(OptionVisitor& v, Config& c) {
  v.consumed("extends", "another YAML file (relative to this one) to lie beneath this one", "");
  v.section("run", c.run, "the process");
  v.section("model", c.model, "Hugging Face's config.json names, and ours");
  v.section("parallel", c.parallel, "how ranks share the work; data parallel = ranks / (tensor * pipeline * context)");
  v.section("data", c.data, "where tokens come from");
  v.section("train", c.train, "a training step");
  v.section("optimizer", c.optimizer, "the update");
  v.section("schedule", c.schedule, "the learning rate over time");
  v.section("validate", c.validate, "held-out loss");
  v.section("checkpoint", c.checkpoint, "what is saved");
  v.section("guard", c.guard, "what to do when values go wrong");
  v.section("log", c.log, "what is printed");
}

namespace {

// model.config, or the config.json of model.init_from, lies beneath the model section.
void expand_model(OptionNode& root, std::vector<std::string>* notes) {
  using Kind = OptionNode::Kind;
  OptionNode* model = root.find("model");
  if (!model || model->kind != Kind::Map) return;
  const OptionNode* config = model->find("config");
  const OptionNode* from = model->find("init_from");
  std::string path;
  if (config) {
    FT_CHECK_CONFIG(config->kind == Kind::Scalar, "{}: model.config: expected the path of a config.json", config->where);
    if (!config->scalar.empty()) path = (fs::path(config->file).parent_path() / config->scalar).string();
  } else if (from && from->kind == Kind::Scalar && !from->scalar.empty()) {
    path = (fs::path(from->scalar) / "config.json").string();
  }
  if (path.empty()) return;
  const OptionNode* origin = config ? config : from;
  FT_CHECK_CONFIG(fs::is_regular_file(path), "{}: model.{}: {} does not exist", origin->where,
                  config ? "config" : "init_from", path);
  const std::string where = model->where;
  *model = overlay(read_hf_config(path, notes), std::move(*model));
  model->where = where;
}

void check_together(const Config& c) {
  for (const double beta : c.optimizer.betas)
    FT_CHECK_CONFIG(beta < 1, "optimizer.betas: {} must be below 1", beta);
  const auto check_sources = [](const char* list, const std::vector<DataSource>& sources) {
    std::set<std::string> names;
    for (const DataSource& s : sources) {
      FT_CHECK_CONFIG(!s.path.empty(), "data.{}: a source has no path; write path: PREFIX of PREFIX.bin and PREFIX.idx", list);
      const std::string& name = s.name.empty() ? s.path : s.name;
      FT_CHECK_CONFIG(names.insert(name).second, "data.{}: two sources are called '{}'; give them different names", list,
                      name);
      FT_CHECK_CONFIG(s.weight < std::numeric_limits<double>::infinity(), "data.{}: the weight of '{}' is infinite", list, name);
    }
  };
  check_sources("train", c.data.train);
  check_sources("validation", c.data.validation);
  for (const OptimizerGroup& g : c.optimizer.groups)
    FT_CHECK_CONFIG(!g.match.empty(), "optimizer.groups: a group has no match; write match: \"*.mamba.dt_bias\" or alike");
  FT_CHECK_CONFIG(!c.run.name.empty() && c.run.name != "." && c.run.name != ".." &&
                      c.run.name.find('/') == std::string::npos,
                  "run.name = \"{}\": expected the name of a folder, without /", c.run.name);
}

Config read_config(OptionNode root, const std::string& where) {
  Config config;
  expand_model(root, &config.notes);
  read_options(root, [&](OptionVisitor& v) { describe(v, config); });
  try {
    config.model.finish();
    check_together(config);
  } catch (const ConfigError& error) {
    throw ConfigError(fmt::format("{}: {}", where, error.what()));
  }
  return config;
}

}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& sets) {
  OptionNode root = load_yaml(path);
  for (const std::string& setting : sets) apply_set(root, setting);
  return read_config(std::move(root), path);
}

Config parse_config(const std::string& text, const std::string& where) {
  return read_config(parse_yaml(text, where), where);
}

Config probe_config(const ModelConfig& model, const std::vector<std::string>& sets) {
  Config defaults;
  defaults.model = model;
  OptionNode root = parse_yaml(config_text(defaults), "defaults");
  for (const std::string& setting : sets) apply_set(root, setting);
  return read_config(std::move(root), "settings");
}

std::string config_text(const Config& config) {
  Config copy = config;
  return write_options([&](OptionVisitor& v) { describe(v, copy); });
}

std::string config_help() {
  Config defaults;
  return "Numbers may be written 64k, 2.5B, 1e11; seconds also 10m, 2h, 1d.\n" +
         options_help([&](OptionVisitor& v) { describe(v, defaults); });
}

void check_for_training(const Config& c, int ranks) {
  const auto& p = c.parallel;
  const int64_t shared = int64_t{p.tensor} * p.pipeline * p.context;
  FT_CHECK_CONFIG(shared <= ranks && ranks % shared == 0,
                  "parallel: tensor * pipeline * context = {} does not divide the {} ranks that were started", shared, ranks);
  const char* only = "this build trains with data parallelism only";
  FT_CHECK_CONFIG(p.tensor == 1, "parallel.tensor = {}: {}; use 1", p.tensor, only);
  FT_CHECK_CONFIG(p.pipeline == 1, "parallel.pipeline = {}: {}; use 1", p.pipeline, only);
  FT_CHECK_CONFIG(p.context == 1, "parallel.context = {}: {}; use 1", p.context, only);
  FT_CHECK_CONFIG(p.virtual_stages == 1, "parallel.virtual_stages = {}: {}; use 1", p.virtual_stages, only);
  FT_CHECK_CONFIG(!p.sequence, "parallel.sequence = true: {}; use false", only);
  FT_CHECK_CONFIG(p.zero == 0, "parallel.zero = {}: {}, its states not sharded; use 0", p.zero, only);
  FT_CHECK_CONFIG(c.optimizer.state == "fp32", "optimizer.state = {}: {} and fp32 states; use fp32", c.optimizer.state, only);
  FT_CHECK_CONFIG(!c.checkpoint.async, "checkpoint.async = true: {} and synchronous checkpoints; use false", only);
  const int64_t data_ranks = ranks / shared;
  FT_CHECK_CONFIG(c.train.global_batch % data_ranks == 0,
                  "train.global_batch = {} must be a multiple of the {} data-parallel ranks", c.train.global_batch, data_ranks);
  FT_CHECK_CONFIG(c.train.tokens > 0, "train.tokens is missing: how many tokens to train on, such as 10B");
  FT_CHECK_CONFIG(c.data.sequence_length > 0, "data.sequence_length is missing: tokens of a sample, such as 4096");
  FT_CHECK_CONFIG(!c.data.train.empty(), "data.train is missing: a list of sources, such as [{{path: data/web}}]");
  FT_CHECK_CONFIG(c.validate.every == 0 || !c.data.validation.empty(),
                  "validate.every = {} needs sets to validate on: data.validation is empty", c.validate.every);
  for (const auto* list : {&c.data.train, &c.data.validation})
    for (const DataSource& s : *list)
      for (const char* end : {".bin", ".idx"})
        FT_CHECK_CONFIG(fs::is_regular_file(s.path + end),
                        "data: {}{} does not exist; `falcon-train tokenize` makes it from text", s.path, end);
}

}  // namespace ft

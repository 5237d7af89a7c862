#include "app/config/config.h"

#include "app/config/config_check.h"
#include "core/options.h"
#include "core/param.h"
#include "models/families/config_file.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <sstream>

namespace ft {

namespace {
constexpr Range kCount{0, 9e18};
constexpr Range kPositive{1, 9e18};
constexpr Range kNotNegative{0, std::numeric_limits<double>::max()};
constexpr Range kBatch{1, 1e9};  // times a sequence length fits 63 bits
}  // namespace

template <class V>
void describe(V& v, RunConfig& c) {
  v("name", c.name, "name of the run; its folder is directory/name");
  v("directory", c.directory, "folder of all runs");
  v("seed", c.seed, "seed of starting values and data order", kCount);
  v("device", c.device, "where to compute", Choices{{"auto", "cpu", "cuda"}});
  v("threads", c.threads,
    "threads of a rank; 0: OMP_NUM_THREADS, else the rank's share of the cores that it may run on",
    Range{0, 4096});
  v("timeout", c.timeout,
    "seconds without a sign of work from another rank before the run ends; one call to storage (a "
    "write, an fsync) may take as long, but at least 30, the start of all ranks at least 15",
    Range{1, 1e9});
  v("stop_before", c.stop_before,
    "seconds after which the run saves and ends with exit code 75; 0: never", kCount);
}
template <class V>
void describe(V& v, ParallelConfig& c) {
  v("tensor", c.tensor, "ranks that share each layer", Range{1, 1024});
  v("pipeline", c.pipeline, "stages of consecutive layers", Range{1, 1024});
  v("context", c.context, "ranks that share a sequence", Range{1, 1024});
  v("virtual_stages", c.virtual_stages, "stages a rank holds", Range{1, 1024});
  v("zero", c.zero, "what data-parallel ranks share out", Range{0, 3});
  v("sequence", c.sequence, "norms work on parts of the sequence under tensor parallelism");
}
template <class V>
void describe(V& v, DataSource& c) {
  v("name", c.name, "name; its order depends on it. Default: the path");
  v("path", c.path,
    "prefix of the token set: PATH.bin and PATH.idx. Of train also a folder or pattern "
    "(data/web/*): "
    "each set there, the weight shared by tokens");
  v("weight", c.weight, "share of the samples, relative to the other sources", kNotNegative);
}
template <class V>
void describe(V& v, DataConfig& c) {
  v("sequence_length", c.sequence_length, "tokens of a sample", Range{0, 1e9});
  v("train", c.train, "sources, with weights");
  v("validation", c.validation, "validation sets");
  v("isolate_documents", c.isolate_documents,
    "documents do not see each other: attention, positions, conv, state");
  v("read", c.read, "how tokens are read: pread suits parallel file systems (Lustre, GPFS, NFS)",
    Choices{{"mmap", "pread"}});
  v("tokenizer", c.tokenizer, "bytes, a tokenizer.json or its folder; empty: as the sets say");
}
template <class V>
void describe(V& v, TrainConfig& c) {
  v("tokens", c.tokens, "tokens to train on", kCount);
  v("global_batch", c.global_batch, "sequences of an optimizer step, over all ranks", kBatch);
  v("micro_batch", c.micro_batch, "sequences a rank computes at once", kBatch);
  v("precision", c.precision, "of matrices and activations", Choices{{"fp32", "bf16"}});
  v("residual", c.residual, "of the residual stream; empty: as precision",
    Choices{{"", "fp32", "bf16"}});
  v("recompute", c.recompute, "activations computed again in backward",
    Choices{{"auto", "none", "selective", "full"}});
  v("deterministic", c.deterministic, "reductions in a fixed order; always so on CPUs");
  v("z_loss", c.z_loss, "weight of the squared log-normaliser", kNotNegative);
}
template <class V>
void describe(V& v, OptimizerGroup& c) {
  v("match", c.match,
    "names of tensors, * stands for any text: \"*.mamba.dt_bias\", \"*.in_proj.weight[dt]\"");
  v("class", c.parameters,
    "class of parameters, * stands for any text (\"in_proj_*\"): " +
        fmt::format("{}", fmt::join(parameter_classes(), ", ")) + "; given with match: both hold");
  v("lr_multiplier", c.lr_multiplier, "factor of the learning rate", kNotNegative);
  v("weight_decay", c.weight_decay, "weight decay of these", kNotNegative);
  v("weight_decay_multiplier", c.weight_decay_multiplier,
    "weight decay of these as a multiple of optimizer.weight_decay, vectors and conv taps too",
    kNotNegative);
}
template <class V>
void describe(V& v, OptimizerConfig& c) {
  v("type", c.type, "optimizer", Choices{{"adamw"}});
  v("lr", c.lr, "peak learning rate", kNotNegative);
  v("betas", c.betas, "decay of the two moments", Range{0, 1, false, true});
  v("eps", c.eps, "AdamW's epsilon; squares of gradients far below it must not vanish in fp32",
    kNotNegative);
  v("weight_decay", c.weight_decay,
    "of matrices; vectors and conv taps have none unless a group says so", kNotNegative);
  v("clip", c.clip, "largest global gradient norm; 0: no clipping", kNotNegative);
  v("state", c.state, "precision of the moments", Choices{{"fp32", "bf16"}});
  v("groups", c.groups, "overrides by name or class, applied in order: the last match wins");
}
template <class V>
void describe(V& v, WeightDecayConfig& c) {
  v("type", c.type,
    "factor of the weight decay over the run; auto: power where schedule.type is power, else "
    "constant; lr: the learning rate's factor; linear, cosine: from 1 at start to final_ratio",
    Choices{{"auto", "constant", "linear", "cosine", "power", "lr", "points"}});
  v("start", c.start, "tokens where linear and cosine begin to fall", kCount);
  v("final_ratio", c.final_ratio, "factor at the end, of linear and cosine", kNotNegative);
  v("points", c.points, "[tokens, factor], the line between; two at one place are a jump",
    kNotNegative);
}
template <class V>
void describe(V& v, ScheduleConfig& c) {
  v("type", c.type,
    "shape of the learning rate after the warm-up; wsd: stable, then decay; power: falls with "
    "tokens^-power_exponent, then decay; points: as given, warm-up included",
    Choices{{"constant", "linear", "cosine", "wsd", "power", "points"}});
  v("warmup", c.warmup, "tokens of linear warm-up", kCount);
  v("decay", c.decay, "tokens of the final decay of wsd and power", kCount);
  v("final_ratio", c.final_ratio,
    "learning rate at the end over the peak (wsd, power: over that before the decay)", Range{0, 1});
  v("decay_shape", c.decay_shape, "of the final decay of wsd and power",
    Choices{{"exponential", "linear", "cosine"}});
  v("power_start", c.power_start, "tokens from which power falls; 0: the end of the warm-up",
    kCount);
  v("power_exponent", c.power_exponent, "of power, for learning rate and weight decay",
    Range{0, 10});
  v("points", c.points, "[tokens, factor of the peak], the line between; two at one place: a jump",
    kNotNegative);
  v("weight_decay", c.weight_decay, "how the weight decay changes");
  v("batch_ramp", c.batch_ramp,
    "[tokens, sequences]: the global batch from so many tokens on; begins at 0, ends with "
    "train.global_batch; empty: always that",
    kCount);
  v("batch_ramp_lr", c.batch_ramp_lr,
    "learning rate during the ramp; sqrt: times sqrt(batch / train.global_batch)",
    Choices{{"none", "sqrt"}});
}
template <class V>
void describe(V& v, ValidateConfig& c) {
  v("every", c.every, "steps between validations; 0: never", kCount);
  v("sequences", c.sequences, "samples of each set; 0: all", kCount);
  v("at_start", c.at_start, "also before the first step");
}
template <class V>
void describe(V& v, CheckpointConfig& c) {
  v("every", c.every, "steps between checkpoints; 0: at the end only", kCount);
  v("keep_last", c.keep_last, "newest checkpoints to keep", kPositive);
  v("keep_every", c.keep_every, "also keep those whose step is a multiple; 0: none", kCount);
  v("retry", c.retry,
    "seconds that the last save of a run is tried again where it fails (a full disk)", kCount);
  v("async", c.async, "write while training goes on");
}
template <class V>
void describe(V& v, SpikeConfig& c) {
  v("window", c.window,
    "steps that the loss is compared with, 2 or more; 0: spikes are not looked for", Range{0, 1e6});
  v("sigma", c.sigma, "standard deviations above their mean that make a spike", Range{0, 1e6});
  v("action", c.action, "what a spike leads to", Choices{{"warn", "skip", "stop"}});
}
template <class V>
void describe(V& v, GuardConfig& c) {
  v("non_finite", c.non_finite, "when loss or gradients are not finite", Choices{{"stop", "skip"}});
  v("spike", c.spike,
    "a loss above mean + sigma x standard deviation of the last `window` steps (0: off); "
    "action: warn | skip | stop");
}
template <class V>
void describe(V& v, LogConfig& c) {
  v("every", c.every, "steps between lines on the terminal and in log.txt", kPositive);
  v("norms_every", c.norms_every,
    "steps between norms by class of parameters in metrics.jsonl; 0: never", kCount);
  v("tensorboard", c.tensorboard, "write TensorBoard event files into the run's folder");
  v("mfu", c.mfu,
    "measure the machine's matrix product when the run begins (one to two seconds), the yardstick "
    "of MFU");
}

namespace {

// Calls f(name, section) for all sections but `model`, in the order of the file.
template <class F>
void for_sections(Config& c, F&& f) {
  f("run", c.run), f("parallel", c.parallel), f("data", c.data), f("train", c.train),
      f("optimizer", c.optimizer);
  f("schedule", c.schedule), f("validate", c.validate), f("checkpoint", c.checkpoint),
      f("guard", c.guard);
  f("log", c.log);
}

Config read_config(const OptionNode& root, bool with_model) {
  Config c;
  c.source = root;
  std::vector<std::string> known{"model"};
  for_sections(c, [&](const char* name, auto& section) {
    known.push_back(name);
    const OptionNode node = root.at(name);
    if (!node.present() || node.is_null()) return;
    if (!node.is_map()) option_error(node, fmt::format("{} must be a map of settings", name));
    OptionReader reader(node, name);
    describe(reader, section);
    reader.finish();
  });
  check_keys(root, "", known);
  if (with_model) with_place(root, [&] { c.model = read_model(root.at("model"), &c.notes); });
  for (auto* sources : {&c.data.train, &c.data.validation})
    for (DataSource& s : *sources)
      if (s.name.empty()) s.name = s.path;
  with_place(root, [&] { check_values(c); });
  return c;
}

}  // namespace

namespace {

OptionNode load_options(const std::string& path, const std::vector<std::string>& sets) {
  OptionNode root = OptionNode::load(path);
  for (const std::string& assignment : sets) root.set(assignment);
  return root;
}

// A configuration file's: more is asked of it than of one that a checkpoint holds.
Config read_checked(const OptionNode& root) {
  Config c = read_config(root, true);
  with_place(root, [&] { check_supported(c), check_sense(c); });
  for (std::string& note : notes_of(c)) c.notes.push_back(std::move(note));
  return c;
}

// Settings of the model section that name files which are not there, as "model.init_from: FILE".
std::vector<std::string> missing_files(const OptionNode& root) {
  std::vector<std::string> missing;
  for (const auto& [key, file] : {std::pair{"config", ""}, {"init_from", "config.json"}}) {
    const OptionNode node = root.at("model").at(key);
    if (!node.is_scalar() || node.scalar().empty()) continue;
    const auto named = std::filesystem::path(node.folder()) / node.scalar();
    const auto whole = *file ? named / file : named;
    if (!std::filesystem::exists(whole))
      missing.push_back(fmt::format("model.{}: {}", key, whole.lexically_normal().string()));
  }
  return missing;
}

}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& sets) {
  return read_checked(load_options(path, sets));
}

Config load_config(const std::string& path, const std::vector<std::string>& sets,
                   const std::string& resolved) {
  OptionNode root = load_options(path, sets);
  const auto missing = missing_files(root);
  if (resolved.empty() || missing.empty()) return read_checked(root);
  std::istringstream lines(model_text(parse_config(resolved, "the checkpoint").model, 0));
  for (std::string line; std::getline(lines, line);) {
    const std::string key = line.substr(0, line.find(':'));
    if (!root.at("model").at(key).present())
      root.set("model." + key + "=" + line.substr(line.find(':') + 2));
  }
  const OptionNode from = root.at("model").at("init_from");
  const std::string folder = from.is_scalar() ? from.scalar() : "";
  for (const char* key : {"config", "init_from"}) root.set(fmt::format("model.{}=null", key));
  Config c = read_checked(root);
  c.model.init_from = folder;
  for (const std::string& file : missing)
    c.notes.push_back(file + " is not there any more; the model is the checkpoint's");
  return c;
}

std::optional<RunConfig> run_of_missing_model(const std::string& path,
                                              const std::vector<std::string>& sets) {
  const OptionNode root = load_options(path, sets);
  if (missing_files(root).empty()) return std::nullopt;
  RunConfig run;
  if (root.at("run").is_map()) {
    OptionReader reader(root.at("run"), "run");
    describe(reader, run);
  }
  return run;
}

Config parse_config(const std::string& text, const std::string& where) {
  OptionNode root = OptionNode::parse(text, where);
  // All fields are written out: the folder the weights once came from may be gone.
  if (root.at("model").is_map()) root.set("model.init_from=null");
  return read_config(root, true);
}

Config probe_config(const ModelConfig& model, const std::vector<std::string>& sets) {
  OptionNode root = OptionNode::parse("{}", "--set");
  for (std::string assignment : sets) {
    if (assignment.rfind("device=", 0) == 0) assignment = "run." + assignment;
    root.set(assignment);
  }
  const OptionNode section = root.at("model");
  for (const std::string& key : section.keys())
    if (key != "linear")
      option_error(section.at(key), "only model.linear can be set here; the model says the rest");
  Config c = read_config(root, false);
  ModelConfig asked = model;
  if (section.at("linear").present()) asked.linear = section.at("linear").scalar();
  c.model = asked;
  with_place(root, [&] { check_supported(c); });
  c.model = model;
  return c;
}

std::string config_text(const Config& config) {
  Config c = config;
  std::string text = "model:\n" + model_text(c.model, 2);
  for_sections(c, [&](const char* name, auto& section) {
    OptionWriter writer(2);
    describe(writer, section);
    text += fmt::format("{}:\n{}", name, writer.text());
  });
  return text;
}

bool same_settings(const Config& a, const Config& b) {
  return a.run == b.run && a.model == b.model && a.parallel == b.parallel && a.data == b.data &&
         a.train == b.train && a.optimizer == b.optimizer && a.schedule == b.schedule &&
         a.validate == b.validate && a.checkpoint == b.checkpoint && a.guard == b.guard &&
         a.log == b.log;
}

std::string config_help() {
  Config c;
  std::string text =
      "Settings of the YAML file, by path; `--set PATH=VALUE` overrides one. Numbers may be "
      "written "
      "64k, 2.5B, 1e11;\nnull means the default. `extends: FILE` (relative to its own file) puts "
      "another file beneath this one.\n\n" +
      model_help();
  for_sections(c, [&](const char* name, auto& section) {
    OptionHelp help(name);
    describe(help, section);
    text += "\n" + help.text();
  });
  return text;
}

}  // namespace ft

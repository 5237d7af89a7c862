#include "app/config.h"

#include "core/options.h"

#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {
constexpr Range kCount{0, 9e18};
constexpr Range kPositive{1, 9e18};
constexpr Range kNotNegative{0, 1e300};
}  // namespace

template <class V>
void describe(V& v, RunConfig& c) {
  v("name", c.name, "name of the run; its folder is directory/name");
  v("directory", c.directory, "folder of all runs");
  v("seed", c.seed, "seed of starting values and data order", kCount);
  v("device", c.device, "where to compute", Choices{{"auto", "cpu", "cuda"}});
  v("threads", c.threads, "threads of a rank; 0: cores divided by the ranks of the node",
    Range{0, 4096});
  v("timeout", c.timeout, "seconds without an answer from another rank before the run ends",
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
    "prefix of the token set: PATH.bin and PATH.idx. Of train also a folder or pattern (data/web/*): "
    "each set there, the weight shared by tokens");
  v("weight", c.weight, "share of the samples, relative to the other sources", kNotNegative);
}
template <class V>
void describe(V& v, DataConfig& c) {
  v("sequence_length", c.sequence_length, "tokens of a sample", kCount);
  v("train", c.train, "sources, with weights");
  v("validation", c.validation, "validation sets");
  v("isolate_documents", c.isolate_documents,
    "documents do not see each other: attention, positions, conv, state");
  v("read", c.read, "how tokens are read: pread suits parallel file systems (Lustre, GPFS, NFS)",
    Choices{{"mmap", "pread"}});
  v("tokenizer", c.tokenizer, "bytes, or what the token sets say");
}
template <class V>
void describe(V& v, TrainConfig& c) {
  v("tokens", c.tokens, "tokens to train on", kCount);
  v("global_batch", c.global_batch, "sequences of an optimizer step, over all ranks", kPositive);
  v("micro_batch", c.micro_batch, "sequences a rank computes at once", kPositive);
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
  v("match", c.match, "names of tensors; * stands for any text");
  v("lr_multiplier", c.lr_multiplier, "factor of the learning rate");
  v("weight_decay", c.weight_decay, "weight decay of these");
}
template <class V>
void describe(V& v, OptimizerConfig& c) {
  v("type", c.type, "optimizer", Choices{{"adamw"}});
  v("lr", c.lr, "peak learning rate", kNotNegative);
  v("betas", c.betas, "decay of the two moments");
  v("eps", c.eps, "AdamW's epsilon", kNotNegative);
  v("weight_decay", c.weight_decay,
    "of matrices; vectors and conv taps have none unless a group says so", kNotNegative);
  v("clip", c.clip, "largest global gradient norm; 0: no clipping", kNotNegative);
  v("state", c.state, "precision of the moments", Choices{{"fp32"}});
  v("groups", c.groups, "overrides by name; the last match wins");
}
template <class V>
void describe(V& v, ScheduleConfig& c) {
  v("type", c.type, "shape of the learning rate", Choices{{"constant", "linear", "cosine", "wsd"}});
  v("warmup", c.warmup, "tokens of linear warm-up", kCount);
  v("decay", c.decay, "tokens of the final decay of wsd", kCount);
  v("final_ratio", c.final_ratio, "learning rate at the end over the peak", Range{0, 1});
  v("decay_shape", c.decay_shape, "of wsd's decay", Choices{{"exponential", "linear", "cosine"}});
}
template <class V>
void describe(V& v, ValidateConfig& c) {
  v("every", c.every, "steps between validations; 0: never", kCount);
  v("sequences", c.sequences, "samples of each set; 0: all", kCount);
}
template <class V>
void describe(V& v, CheckpointConfig& c) {
  v("every", c.every, "steps between checkpoints; 0: at the end only", kCount);
  v("keep_last", c.keep_last, "newest checkpoints to keep", kPositive);
  v("keep_every", c.keep_every, "also keep those whose step is a multiple; 0: none", kCount);
  v("async", c.async, "write while training goes on");
}
template <class V>
void describe(V& v, GuardConfig& c) {
  v("non_finite", c.non_finite, "when loss or gradients are not finite", Choices{{"stop", "skip"}});
}
template <class V>
void describe(V& v, LogConfig& c) {
  v("every", c.every, "steps between lines on the terminal", kPositive);
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

void check_values(const Config& c) {
  FT_CHECK_CONFIG(c.optimizer.betas.size() == 2 && c.optimizer.betas[0] >= 0 &&
                      c.optimizer.betas[0] < 1 && c.optimizer.betas[1] >= 0 &&
                      c.optimizer.betas[1] < 1,
                  "optimizer.betas must be two numbers from 0 to below 1");
  for (const auto* sources : {&c.data.train, &c.data.validation})
    for (const DataSource& s : *sources)
      FT_CHECK_CONFIG(!s.path.empty(), "data: a source has no path (prefix of its .bin and .idx)");
}

Config read_config(const OptionNode& root, const std::string& folder, bool with_model) {
  Config c;
  std::vector<std::string> known{"model", "extends"};
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
  if (with_model) c.model = read_model(root.at("model"), folder, &c.notes);
  for (auto* sources : {&c.data.train, &c.data.validation})
    for (DataSource& s : *sources)
      if (s.name.empty()) s.name = s.path;
  check_values(c);
  return c;
}

}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& sets) {
  OptionNode root = OptionNode::load(path);
  for (const std::string& assignment : sets) root.set(assignment);
  return read_config(root, fs::path(path).parent_path().string(), true);
}

Config parse_config(const std::string& text, const std::string& where) {
  OptionNode root = OptionNode::parse(text, where);
  root.set("model.init_from=");  // all fields are written out: the folder the weights once came
                                 // from may be gone
  return read_config(root, "", true);
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
  if (section.at("linear").present() && section.at("linear").scalar() != "bf16")
    option_error(section.at("linear"),
                 "model.linear: this build has ordinary linears only; expected bf16");
  Config c = read_config(root, "", false);
  c.model = model;
  return c;
}

void check_for_training(const Config& c, int ranks) {
  const auto& p = c.parallel;
  FT_CHECK_CONFIG(
      p.tensor == 1 && p.pipeline == 1 && p.context == 1 && p.virtual_stages == 1 && p.zero == 0 &&
          !p.sequence,
      "parallel: this build trains with data parallelism only; set tensor, pipeline, context and "
      "virtual_stages to 1, zero to 0, sequence to false");
  FT_CHECK_CONFIG(!c.checkpoint.async,
                  "checkpoint.async: this build saves while training waits; set it to false");
  FT_CHECK_CONFIG(c.data.sequence_length > 0, "data.sequence_length must be given");
  FT_CHECK_CONFIG(!c.data.train.empty(),
                  "data.train must name at least one source, e.g. [{{path: data/train}}]");
  FT_CHECK_CONFIG(c.train.tokens > 0, "train.tokens must be given: how many tokens to train on");
  FT_CHECK_CONFIG(c.train.global_batch % ranks == 0,
                  "train.global_batch = {} does not divide by {} data-parallel ranks; make it a "
                  "multiple, or start "
                  "another number of ranks",
                  c.train.global_batch, ranks);
  for (const auto* sources : {&c.data.train, &c.data.validation})
    for (const DataSource& s : *sources)
      for (const char* suffix : {".bin", ".idx"})
        FT_CHECK_CONFIG(fs::exists(s.path + suffix),
                        "{}{}: is missing; make it with falcon-train tokenize --out {}", s.path,
                        suffix, s.path);
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

std::string config_help() {
  Config c;
  std::string text = model_help();
  for_sections(c, [&](const char* name, auto& section) {
    OptionHelp help(name);
    describe(help, section);
    text += help.text();
  });
  return text;
}

}  // namespace ft

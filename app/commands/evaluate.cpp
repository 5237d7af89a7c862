#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/commands/evaluate.h"

#include "app/commands/numbers.h"
#include "app/commands/outputs.h"
#include "app/run/metrics.h"
#include "app/text/model_text.h"
#include "app/text/run_text.h"
#include "app/train/engine.h"
#include "app/train/rank_facts.h"
#include "core/file.h"
#include "core/log.h"
#include "core/nan.h"
#include "core/terminal.h"
#include "parallel/mesh.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr size_t kBuckets = 40;  // of context: 1, 2-3, 4-7, ... tokens
constexpr int64_t kDefaultLength = 2048;

// Sums over labels. `bytes`: of text that the labels stand for.
struct Sums {
  double nats = 0, labels = 0, bytes = 0;
  double loss() const { return nats / labels; }
  double bits_per_byte() const { return nats / std::log(2.0) / bytes; }
};
static_assert(sizeof(Sums) == 3 * sizeof(double));  // reduced over ranks as a run of numbers

// What is known of the text behind a set's tokens.
struct Text {
  std::vector<double> bytes;  // that each token stands for; empty: only the mean is known,
  double bytes_a_token = 0;   // or nothing: 0
  double of(int32_t label) const {
    if (bytes.empty()) return bytes_a_token;
    return static_cast<size_t>(label) < bytes.size() ? bytes[static_cast<size_t>(label)] : 0;
  }
};

// The set's tokenizer, or its mean as PREFIX.json has it. --tokenizer goes before the one that the
// set names, the model's tokenizer is that of a set which names none.
Text text_of_set(const std::string& prefix, const EvaluateOptions& o, const ModelText& model) {
  const auto info = read_set_info(prefix);
  Text text;
  if (info && info->bytes > 0 && info->tokens > 0)
    text.bytes_a_token = static_cast<double>(info->bytes) / static_cast<double>(info->tokens);
  std::unique_ptr<Tokenizer> named;
  if (o.tokenizer.empty() && info && !info->tokenizer.empty()) {
    try {
      named = tokenizer_of_set(prefix, info->tokenizer);
    } catch (const ConfigError&) {  // it may be gone since
      return text;
    }
  }
  const Tokenizer* tokenizer = named ? named.get() : model.tokenizer.get();
  for (int64_t id = 0; tokenizer && id < tokenizer->vocab_size(); ++id)
    text.bytes.push_back(static_cast<double>(tokenizer->shown(id).size()));
  return text;
}

struct Set {
  DataSource source;
  Text text;
  std::vector<Sums> by_context = std::vector<Sums>(kBuckets);
  Sums all() const {
    Sums sum;
    for (const Sums& s : by_context)
      sum.nats += s.nats, sum.labels += s.labels, sum.bytes += s.bytes;
    return sum;
  }
};

// PREFIX, or NAME=PREFIX where no token set is called that.
DataSource source_of(const std::string& text) {
  const size_t equals = text.find('=');
  DataSource source;
  if (equals == std::string::npos || fs::exists(text + ".idx")) source = {text, text};
  else source = {text.substr(0, equals), text.substr(equals + 1)};
  for (const char* suffix : {".bin", ".idx"})
    if (source.path.ends_with(suffix)) source.path.resize(source.path.size() - 4);
  FT_CHECK_CONFIG(!source.path.empty() && !source.name.empty(),
                  "--data {}: the {} is empty; expected NAME=PREFIX", text,
                  source.path.empty() ? "prefix" : "name");
  return source;
}

// A set of another tokenizer has ids that mean other text to the model: its loss is a number without
// a meaning. --tokenizer is the user's word that all is well.
void check_tokenizers(const std::string& model, const ModelText& text, const DataSource& source) {
  const auto info = known_of_set(source.path);
  FT_CHECK_CONFIG(
      !info || !other_tokenizer(text.known, *info),
      "{} was trained with the tokenizer {}, the token set {} was made with {}: its ids "
      "mean other text to the model; make the set with the model's tokenizer, or name "
      "the one that is right for both: --tokenizer FILE",
      model, tokenizer_words(text.known), source.path, tokenizer_words(*info));
}

std::vector<Set> sets_of(const EvaluateOptions& o, const DataConfig& data, const ModelText& text) {
  std::vector<Set> sets;
  if (o.data.empty())
    for (const DataSource& source : data.validation) sets.push_back({source, {}});
  for (const std::string& text : o.data) sets.push_back({source_of(text), {}});
  FT_CHECK_CONFIG(!sets.empty(),
                  "{}: its configuration names no validation sets (data.validation); say what to "
                  "evaluate on: "
                  "--data PREFIX (PREFIX.bin and PREFIX.idx) or --score FILE.jsonl",
                  o.model);
  for (Set& set : sets) {
    if (o.tokenizer.empty()) check_tokenizers(o.model, text, set.source);
    set.text = text_of_set(set.source.path, o, text);
  }
  return sets;
}

// Settings of the run that made the checkpoint, below --set and the options.
DataConfig data_config(const EvaluateOptions& o, const ModelSource& source, const Config& set) {
  DataConfig data = source.data;
  const auto given = [&](const std::string& key) {
    return std::any_of(o.sets.begin(), o.sets.end(),
                       [&](const std::string& s) { return s.starts_with(key + "="); });
  };
  if (given("data.isolate_documents")) data.isolate_documents = set.data.isolate_documents;
  if (given("data.sequence_length")) data.sequence_length = set.data.sequence_length;
  if (o.sequence_length > 0) data.sequence_length = o.sequence_length;
  if (data.sequence_length == 0)
    data.sequence_length = std::min(kDefaultLength, source.model.max_position_embeddings);
  return data;
}

// Adds this rank's rows of a set; `shown` is told how many are done.
void add_rows(Engine& engine, ValidationBatches& batches, Set& set,
              const std::function<void(int64_t)>& shown) {
  Ctx c = engine.context();
  int64_t done = 0;
  while (const std::optional<Batch> read = batches.next()) {
    const Batch& batch = *read;
    shown(done);
    done += batch.sequences;
    const Extent extent = engine.feed(0, batch);
    engine.model().forward(c, 0, extent);
    engine.model().loss(c, 0, extent, Grad::Overwrite);
    const auto losses =
        engine.memory().transfer().download<float>(engine.model().token_losses(extent));
    for (size_t t = 0; t < losses.size(); ++t) {
      if (batch.labels[t] < 0) continue;
      const auto context = static_cast<uint64_t>(static_cast<int64_t>(t) - batch.docs[t] + 1);
      Sums& sums = set.by_context[static_cast<size_t>(std::bit_width(context)) - 1];
      sums.nats += losses[t], sums.labels += 1, sums.bytes += set.text.of(batch.labels[t]);
    }
  }
}

std::string row(const std::string& name, const Sums& s, size_t width) {
  return fmt::format("{:<{}}{:>14}{:>11.4f}{:>13.5g}{:>11}\n", name, width,
                     grouped_count(static_cast<int64_t>(s.labels)), unsigned_nan(s.loss()),
                     unsigned_nan(std::exp(s.loss())),
                     s.bytes > 0 ? fmt::format("{:.4f}", unsigned_nan(s.bits_per_byte())) : "n/a");
}

std::string range(size_t bucket) {
  const int64_t from = int64_t{1} << bucket;
  return bucket == 0 ? "1" : fmt::format("{}-{}", from, 2 * from - 1);
}

std::string table(const std::vector<Set>& sets) {
  size_t width = 20;
  for (const Set& set : sets) width = std::max(width, set.source.name.size() + 2);
  std::string text = fmt::format("{:<{}}{:>14}{:>11}{:>13}{:>11}\n", "data set", width, "tokens",
                                 "loss", "perplexity", "bits/byte");
  for (const Set& set : sets) text += row(set.source.name, set.all(), width);
  for (const Set& set : sets) {
    text += fmt::format("\n{} by tokens of context\n", set.source.name);
    for (size_t b = 0; b < kBuckets; ++b)
      if (set.by_context[b].labels > 0) text += row(range(b), set.by_context[b], width);
  }
  return text;
}

json numbers(const Sums& s) {
  return {{"tokens", static_cast<int64_t>(s.labels)},
          {"loss", finite_or_null(s.loss())},
          {"perplexity", finite_or_null(std::exp(s.loss()))},
          {"bits_per_byte", s.bytes > 0 ? finite_or_null(s.bits_per_byte()) : json(nullptr)}};
}

json numbers(const Set& set) {
  json object = numbers(set.all());
  object["name"] = set.source.name, object["path"] = set.source.path;
  object["by_context"] = json::array();
  for (size_t b = 0; b < kBuckets; ++b) {
    if (set.by_context[b].labels == 0) continue;
    json one = numbers(set.by_context[b]);
    one["from"] = int64_t{1} << b, one["to"] = (int64_t{2} << b) - 1;
    object["by_context"].push_back(one);
  }
  return object;
}

void show(const EvaluateOptions& o, const Config& config, const DataConfig& data,
          const std::vector<Set>& sets, double seconds) {
  double tokens = 0;
  for (const Set& set : sets) tokens += set.all().labels;
  if (o.json != "-") {
    fmt::print("{}", table(sets));
    fmt::print("\n{} tokens in {:.1f} s, {} tok/s; sequences of {}, {}\n",
               grouped_count(static_cast<int64_t>(tokens)), seconds, rate_text(tokens / seconds),
               data.sequence_length, config.train.precision);
  }
  if (!o.json.empty()) {
    json all = {{"model", o.model},
                {"sequence_length", data.sequence_length},
                {"precision", config.train.precision},
                {"isolate_documents", data.isolate_documents},
                {"seconds", seconds},
                {"sets", json::array()}};
    for (const Set& set : sets) all["sets"].push_back(numbers(set));
    write_json(o.json, all);
  }
  for (const Set& set : sets)
    if (!std::isfinite(set.all().nats))
      log_warn("{}: the loss is not finite; some weight or logit of {} is not", set.source.name,
               o.model);
}

}  // namespace

int evaluate(World& world, const EvaluateOptions& o) {
  if (!o.score.empty()) return score(world, o);
  const ModelSource source = open_model(o.model);
  const Config config = probe_config(source.model, o.sets);
  world.set_timeout(config.run.timeout);
  const DataConfig data = data_config(o, source, config);
  std::vector<Set> sets = sets_of(o, data, text_of(source, o.model, o.tokenizer));
  std::vector<std::string> inputs = {o.model, o.tokenizer};
  for (const Set& set : sets) inputs.push_back(set.source.path);
  if (!o.json.empty()) check_output("--json", o.json, inputs);
  const int64_t T = data.sequence_length,
                rows = o.batch > 0 ? o.batch : std::max<int64_t>(1, kTokensAtOnce / T);
  Group& ranks = world.all();
  std::vector<ValidationBatches> batches;  // opened first: a missing set shows at once
  int64_t largest = 1;
  for (const Set& set : sets) {
    batches.emplace_back(set.source, data, source.model.vocab_size, o.sequences, rows, ranks.rank(),
                         ranks.size());
    largest = std::max(largest, batches.back().largest());
  }

  const auto device = open_device(config.run, world);
  Engine engine(*device, {.model = config.model,
                          .precision = precision_of(config.train),
                          .plan = {.largest = {largest, T}, .positions = T, .training = false}});
  load_weights(engine, source);
  std::string read;
  for (size_t i = 0; i < sets.size(); ++i)
    read += fmt::format("{}: {} rows of {} tokens, {} at once\n", sets[i].source.name,
                        batches[i].rows(), T, batches[i].largest());
  agree(ranks, {config_fact(config), text_fact("data", read), weights_fact(engine)});
  const auto begin = std::chrono::steady_clock::now();
  const bool watched = ranks.rank() == 0 && terminal().present;
  for (size_t i = 0; i < sets.size(); ++i) {
    add_rows(engine, batches[i], sets[i], [&](int64_t done) {
      if (watched)
        log_status(fmt::format("{}: {} of {} sequences{}", sets[i].source.name, done * ranks.size(),
                               batches[i].rows() * ranks.size(),
                               i + 1 < sets.size() ? ", then other sets" : ""));
    });
    ranks.all_reduce(Tensor(sets[i].by_context.data(), Dtype::F64, {3 * kBuckets}), Reduce::Sum)
        .wait();
  }
  log_status("");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (ranks.rank() == 0) show(o, config, data, sets, seconds.count());
  return 0;
}

void add_evaluate(CLI::App& app, Run& run) {
  const auto o = std::make_shared<EvaluateOptions>();
  auto* c = app.add_subcommand(
      "evaluate", "Loss, perplexity and bits per byte of a model, or scores of continuations");
  c->footer(
      "Examples:\n"
      "  falcon-train evaluate runs/quickstart\n"
      "  mpirun -n 2 falcon-train evaluate HF_DIR --data web=data/web-val --json web.json\n"
      "  falcon-train evaluate runs/quickstart --score requests.jsonl --out scores.jsonl\n"
      "A line of requests.jsonl: {\"id\": 7, \"context\": \"2 + 2 =\", \"continuation\": \" 4\"}, "
      "or "
      "token ids as context_ids and continuation_ids");
  c->add_option("MODEL", o->model, "Run, checkpoint or Hugging Face folder")->required();
  auto* data = c->add_option("--data", o->data,
                             "Token set to evaluate on (repeatable). Default: the validation sets "
                             "of the run")
                   ->type_name("[NAME=]PREFIX")
                   ->allow_extra_args(false)
                   ->take_all()
                   ->group("Token sets");
  c->add_option("--sequence-length", o->sequence_length,
                "Tokens of a sequence. Default: the run's, else 2048")
      ->transform(whole(1))
      ->group("Token sets");
  c->add_option("--sequences", o->sequences, "Sequences of each set. Default: all")
      ->transform(whole(1))
      ->group("Token sets");
  c->add_option("--batch", o->batch, "Sequences at once. Default: 4096 tokens of them")
      ->transform(whole(1))
      ->group("Token sets");
  auto* json = c->add_option("--json", o->json, "Also write the numbers to a file; -: only them")
                   ->type_name("FILE")
                   ->group("Token sets");
  auto* score =
      c->add_option("--score", o->score,
                    "Score each line's continuation instead: log-probability, greedy match")
          ->type_name("FILE.jsonl")
          ->excludes(data)
          ->excludes(json)
          ->group("Continuations");
  c->add_option("--out", o->out, "File for the scores. Default, or -: standard output")
      ->type_name("FILE")
      ->needs(score)
      ->group("Continuations");
  c->add_option(
       "--max-length", o->max_length,
       "Tokens of context and continuation; longer contexts lose their beginning. Default: "
       "the model's max_position_embeddings")
      ->transform(whole(1))
      ->needs(score)
      ->group("Continuations");
  c->add_option("--tokenizer", o->tokenizer,
                "tokenizer.json, its folder, or bytes, for bits per byte and for lines of text. "
                "Default: what the token set, the run or the model's folder says")
      ->type_name("FILE");
  add_sets(c, o->sets, "train.precision=bf16");
  c->callback([o, &run] {
    run = [o](World& world) {
      log_to_stderr();
      return evaluate(world, *o);
    };
  });
}

}  // namespace ft

// generate: sampling with a key/value cache and the state of the mixer.
#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/text/model_text.h"
#include "app/train/engine.h"
#include "core/log.h"
#include "core/rng.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>

namespace ft {

namespace {

struct GenerateOptions {
  std::string model, prompt;
  std::string tokenizer;  // "bytes", a tokenizer.json or its folder; empty: what the model says
  std::vector<int64_t> prompt_ids;
  int64_t tokens = 200;
  double temperature = 1;
  int64_t top_k = 0;  // 0: all
  double top_p = 1;
  uint64_t seed = 0;
  int64_t samples = 1;
  bool ignore_end = false;      // go on past the end of a document
  std::string format = "auto";  // auto | text | bytes | ids
  std::vector<std::string> sets;
};

constexpr int64_t kPiece = 2048;  // tokens of a long prompt that are read at once

// Temperature, then the k likeliest, then the smallest set whose probability reaches p.
int64_t choose(const std::vector<float>& logits, const GenerateOptions& o, uint64_t sample,
               uint64_t index) {
  for (float x : logits)
    FT_CHECK(std::isfinite(x),
             "token {}: a logit is {}; some weight of {} is not finite, or "
             "train.precision is too narrow for it",
             index, x, o.model);
  const auto likelier = [&](int64_t a, int64_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
  const auto best = std::max_element(logits.begin(), logits.end());  // the first of equals
  if (o.temperature <= 0 || o.top_k == 1) return best - logits.begin();
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  if (o.top_k > 0 && o.top_k < static_cast<int64_t>(order.size())) {
    std::nth_element(order.begin(), order.begin() + o.top_k, order.end(), likelier);
    order.resize(static_cast<size_t>(o.top_k));
  }
  std::sort(order.begin(), order.end(), likelier);
  std::vector<double> weight;
  for (int64_t id : order)
    weight.push_back(std::exp((static_cast<double>(logits[id]) - *best) / o.temperature));
  double total = std::accumulate(weight.begin(), weight.end(), 0.0), sum = 0;
  if (o.top_p < 1) {
    size_t keep = 0;
    while (keep < weight.size() && (keep == 0 || sum < o.top_p * total)) sum += weight[keep++];
    weight.resize(keep);
    total = sum;
  }
  double u = random_uniform(o.seed, Purpose::Sampling, sample, index) * total;
  for (size_t i = 0; i + 1 < weight.size(); ++i)
    if ((u -= weight[i]) <= 0) return order[i];
  return order[weight.size() - 1];
}

// What the user sees of the tokens.
class Printer {
 public:
  Printer(const GenerateOptions& o, const ModelText& text) : tokenizer_(text.tokenizer.get()) {
    if (o.format == "ids" || (o.format == "auto" && !tokenizer_)) return;
    text.require("--format " + o.format, "use --format ids, or name a tokenizer.json: --tokenizer");
    kind_ = o.format == "bytes" ? Kind::Bytes : Kind::Text;
  }
  bool shows_prompt() const { return kind_ != Kind::Ids; }
  void add(int64_t id) {
    if (kind_ == Kind::Ids) fmt::print("{}{}", count_++ ? " " : "", id);
    else if (tokenizer_->special(id)) put(utf8_.finish());
    else if (kind_ == Kind::Bytes) put(tokenizer_->token(id));
    else
      for (const char c : tokenizer_->token(id)) put(utf8_.add(static_cast<uint8_t>(c)));
    std::fflush(stdout);
  }
  void finish() { put(utf8_.finish() + "\n"), count_ = 0; }

 private:
  enum class Kind { Text, Bytes, Ids };
  static void put(std::string_view s) { std::fwrite(s.data(), 1, s.size(), stdout); }
  const Tokenizer* tokenizer_;
  Kind kind_ = Kind::Ids;
  Utf8Stream utf8_;
  int64_t count_ = 0;
};

std::vector<int32_t> prompt_of(const GenerateOptions& o, const ModelSource& source,
                               const ModelText& text) {
  const int64_t vocab = source.model.vocab_size;
  FT_CHECK_CONFIG(o.prompt.empty() || o.prompt_ids.empty(),
                  "give either --prompt or --prompt-ids, not both");
  std::vector<int32_t> ids;
  for (int64_t id : o.prompt_ids) {
    FT_CHECK_CONFIG(id >= 0 && id < vocab, "--prompt-ids: {} is outside the vocabulary of {}", id,
                    vocab);
    ids.push_back(static_cast<int32_t>(id));
  }
  if (!ids.empty()) return ids;
  if (!o.prompt.empty())
    text.require("--prompt", "name its tokenizer.json (--tokenizer), or give --prompt-ids 1,2,3");
  if (text.tokenizer) ids = text.tokenizer->encode_prompt(o.prompt);
  if (ids.empty() && text.start) ids.push_back(*text.start);
  FT_CHECK_CONFIG(!ids.empty(),
                  "the prompt is empty, and the model's configuration has no "
                  "bos_token_id to start from: give --prompt-ids 1,2,3");
  return ids;
}

// Reads tokens that follow what the cache holds; logits of the last one.
void read(Engine& engine, Model::Cache& cache, const std::vector<int32_t>& ids, const Tensor& out,
          std::vector<float>& logits) {
  Ctx c = engine.context();
  for (size_t begin = 0; begin < ids.size(); begin += kPiece) {
    const size_t n = std::min(ids.size() - begin, static_cast<size_t>(kPiece));
    // The document began cache.length tokens before this piece.
    const Batch batch{.sequences = 1,
                      .length = static_cast<int64_t>(n),
                      .ids = {ids.begin() + static_cast<int64_t>(begin),
                              ids.begin() + static_cast<int64_t>(begin + n)},
                      .labels = std::vector<int32_t>(n, Batch::kIgnore),
                      .docs = std::vector<int32_t>(n, static_cast<int32_t>(-cache.length))};
    engine.feed(0, batch);
    engine.model().decode(c, cache, batch.length, out);
  }
  engine.memory().transfer().download(out, logits.data());
}

int generate(const GenerateOptions& o) {
  const ModelSource source = open_model(o.model);
  const Config config = probe_config(source.model, o.sets);
  const ModelText text = text_of(source, o.model, o.tokenizer);
  const std::vector<int32_t> ids = prompt_of(o, source, text);
  Printer printer(o, text);
  const auto prompt = static_cast<int64_t>(ids.size()), capacity = prompt + o.tokens;
  const auto device = open_device(config.run);
  Engine engine(*device, {.model = config.model,
                          .precision = precision_of(config.train),
                          .plan = {.largest = {1, std::min(prompt, kPiece)},
                                   .positions = capacity,
                                   .training = false}});
  load_weights(engine, source);
  Model::Cache cache = engine.model().make_cache(engine.memory(), capacity);
  const Tensor out = engine.memory().make("inputs", Dtype::F32, {1, config.model.vocab_size});
  std::vector<float> logits(static_cast<size_t>(config.model.vocab_size));
  for (int64_t s = 0; s < o.samples; ++s) {
    cache.length = 0;  // a document that starts at 0 sees nothing of what the cache still holds
    if (s > 0 && printer.shows_prompt()) printer.finish();  // an empty line between texts
    if (printer.shows_prompt())
      for (int32_t id : ids) printer.add(id);
    read(engine, cache, ids, out, logits);
    for (int64_t i = 0; i < o.tokens; ++i) {
      const int64_t id = choose(logits, o, static_cast<uint64_t>(s), static_cast<uint64_t>(i));
      if (!o.ignore_end && std::count(text.ends.begin(), text.ends.end(), id) > 0) break;
      printer.add(id);
      if (i + 1 < o.tokens) read(engine, cache, {static_cast<int32_t>(id)}, out, logits);
    }
    printer.finish();
  }
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Run& run) {
  const auto o = std::make_shared<GenerateOptions>();
  auto* c = app.add_subcommand("generate", "Sample from a model");
  c->footer(
      "Example: falcon-train generate runs/quickstart --prompt \"The function\" --tokens 200 "
      "--temperature 0.8");
  c->add_option("MODEL", o->model, "Run, checkpoint or Hugging Face folder")->required();
  c->add_option("--prompt", o->prompt, "Text to continue");
  c->add_option_function<std::string>(
       "--prompt-ids",
       [o](const std::string& text) { o->prompt_ids = whole_list("--prompt-ids", text); },
       "Token ids to continue, comma-separated")
      ->type_name("IDS");
  c->add_option("--tokenizer", o->tokenizer,
                "tokenizer.json, its folder, or bytes. Default: what the run, its token set or "
                "the model's folder says")
      ->type_name("FILE");
  c->add_option("--tokens", o->tokens, "Tokens to sample at most")
      ->transform(whole(1))
      ->capture_default_str();
  c->add_option("--temperature", o->temperature, "0: always the likeliest")
      ->transform(real(Range{.low = 0}))
      ->capture_default_str();
  c->add_option("--top-k", o->top_k, "Only the K likeliest; 0: all")
      ->transform(whole(0))
      ->capture_default_str();
  c->add_option("--top-p", o->top_p, "Only the likeliest that together reach P")
      ->transform(real(Range{0, 1}))
      ->capture_default_str();
  c->add_option("--seed", o->seed, "Seed of the sampling")
      ->transform(whole(0, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  c->add_option("--samples", o->samples, "How many texts")
      ->transform(whole(1))
      ->capture_default_str();
  c->add_flag("--ignore-end", o->ignore_end, "Go on past the end of a document");
  c->add_option("--format", o->format,
                "text (UTF-8; other bytes show as U+FFFD), bytes as they are, or ids; auto: text "
                "where the tokenizer is known")
      ->check(one_of({"auto", "text", "bytes", "ids"}))
      ->capture_default_str();
  add_sets(c, o->sets, "train.precision=bf16");
  c->callback([o, &run] {
    run = alone([o] {
      log_to_stderr();
      return generate(*o);
    });
  });
}

}  // namespace ft

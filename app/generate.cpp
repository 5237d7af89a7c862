// generate: sampling with a key/value cache and the state of the mixer.
#include "app/commands.h"
#include "app/engine.h"
#include "core/log.h"
#include "core/rng.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace ft {

namespace {

constexpr int64_t kEndOfDocument = 256;  // of the built-in byte tokenizer

// Temperature, then the k likeliest, then the smallest set whose probability reaches p.
int64_t sample(const std::vector<float>& logits, const GenerateOptions& o, uint64_t index) {
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int64_t a, int64_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
  std::sort(order.begin(), order.end(), likelier);
  if (o.temperature <= 0) return order[0];
  size_t keep = o.top_k > 0 ? std::min(order.size(), static_cast<size_t>(o.top_k)) : order.size();
  std::vector<double> weight(keep);
  for (size_t i = 0; i < keep; ++i)
    weight[i] = std::exp((logits[order[i]] - logits[order[0]]) / o.temperature);
  double total = std::accumulate(weight.begin(), weight.end(), 0.0), sum = 0;
  if (o.top_p < 1) {
    for (size_t i = 0; i < keep; ++i)
      if ((sum += weight[i]) >= o.top_p * total) keep = i + 1;
    total = std::accumulate(weight.begin(), weight.begin() + static_cast<int64_t>(keep), 0.0);
  }
  double u = random_uniform(o.seed, Purpose::Sampling, 0, index) * total;
  for (size_t i = 0; i < keep; ++i)
    if ((u -= weight[i]) <= 0) return order[i];
  return order[keep - 1];
}

}  // namespace

int generate(const GenerateOptions& o) {
  const ModelSource source = open_model(o.model);
  const Config config = probe_config(source.model, o.sets);
  const bool bytes = config.model.vocab_size == kEndOfDocument + 1;
  std::vector<int32_t> ids(o.prompt_ids.begin(), o.prompt_ids.end());
  if (ids.empty()) {
    FT_CHECK_CONFIG(
        bytes,
        "--prompt works with the built-in byte tokenizer (vocabulary 257); this model has a "
        "vocabulary of {}: give token ids with --prompt-ids 1,2,3",
        config.model.vocab_size);
    for (unsigned char byte : o.prompt) ids.push_back(byte);
    if (ids.empty()) ids.push_back(kEndOfDocument);
  }
  for (int32_t id : ids)
    FT_CHECK_CONFIG(id >= 0 && id < config.model.vocab_size,
                    "--prompt-ids: {} is outside the vocabulary of {}", id,
                    config.model.vocab_size);

  const auto prompt = static_cast<int64_t>(ids.size()), capacity = prompt + o.tokens;
  const auto device = open_device(config.run, 0);
  Engine engine(*device,
                {.model = config.model,
                 .precision = precision_of(config.train),
                 .plan = {.largest = {1, prompt}, .positions = capacity, .training = false}});
  load_weights(engine, source);
  Model::Cache cache = engine.model().make_cache(engine.memory(), capacity);
  const Tensor out = engine.memory().make("inputs", Dtype::F32, {1, config.model.vocab_size});
  Ctx c = engine.context();
  std::vector<float> logits(static_cast<size_t>(config.model.vocab_size));
  Batch batch{.sequences = 1,
              .length = prompt,
              .ids = ids,
              .labels = ids,
              .docs = std::vector<int32_t>(ids.size(), 0)};
  if (bytes) std::fputs(o.prompt.c_str(), stdout);
  for (int64_t i = 0; i < o.tokens; ++i) {
    engine.feed(0, batch);
    engine.model().decode(c, cache, batch.length, out);
    device->copy(logits.data(), out.data, logits.size() * sizeof(float), {});
    device->synchronize({});
    const int64_t id = sample(logits, o, static_cast<uint64_t>(i));
    if (bytes && id == kEndOfDocument) break;
    if (bytes) std::fputc(static_cast<int>(id), stdout);
    else std::printf("%s%lld", i ? " " : "", static_cast<long long>(id));
    std::fflush(stdout);
    // The document began cache.length tokens before this one.
    batch = {.sequences = 1,
             .length = 1,
             .ids = {static_cast<int32_t>(id)},
             .labels = {Batch::kIgnore},
             .docs = {static_cast<int32_t>(-cache.length)}};
  }
  std::fputc('\n', stdout);
  return 0;
}

}  // namespace ft

#include "data/loader.h"

#include "core/tensor.h"
#include "data/mix.h"
#include "data/order.h"
#include "data/tokens.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <future>
#include <optional>

namespace ft {

using nlohmann::json;

namespace {

// Reads spans as one row of `length` inputs and next-token labels. missing: tokens at the end that do not exist.
void fill_row(const TokenSet& set, const std::vector<Span>& spans, int64_t length, bool isolate, int64_t vocab,
              int64_t row, Batch& batch) {
  std::vector<int32_t> tokens(static_cast<size_t>(length) + 1, 0), docs(tokens.size(), 0);
  std::vector<bool> ends(tokens.size(), false);
  int64_t at = 0;
  for (const Span& span : spans) {
    set.read(span.document, span.begin, span.count, tokens.data() + at);
    for (int64_t i = at; i < at + span.count; ++i) {
      const int32_t id = tokens[static_cast<size_t>(i)];
      FT_CHECK(id < vocab, "{}.bin: document {}, token {}: id {} is outside the vocabulary of {}; the set was made with "
               "another tokenizer, or model.vocab_size is wrong",
               set.prefix(), span.document, span.begin + i - at, id, vocab);
      docs[static_cast<size_t>(i)] = static_cast<int32_t>(isolate ? at : 0);
    }
    at += span.count;
    if (span.ends) ends[static_cast<size_t>(at - 1)] = true;
  }
  const int64_t base = row * length;
  for (int64_t i = 0; i < length; ++i) {
    const auto from = static_cast<size_t>(i);
    const bool labelled = i + 1 < at && !(isolate && ends[from]);
    batch.ids[static_cast<size_t>(base + i)] = tokens[from];
    batch.labels[static_cast<size_t>(base + i)] = labelled ? tokens[from + 1] : Batch::kIgnore;
    batch.docs[static_cast<size_t>(base + i)] = static_cast<int32_t>(base) + (i < at ? docs[from] : static_cast<int32_t>(i));
    batch.valid += labelled;
  }
}

Batch empty_batch(int64_t sequences, int64_t length) {
  const auto n = static_cast<size_t>(sequences * length);
  Batch batch{.sequences = sequences, .length = length, .ids = std::vector<int32_t>(n, 0),
              .labels = std::vector<int32_t>(n, Batch::kIgnore), .docs = std::vector<int32_t>(n, 0)};
  for (size_t i = 0; i < n; ++i) batch.docs[i] = static_cast<int32_t>(i);
  return batch;
}

struct Source {
  DataSource config;
  TokenSet set;
  SourceOrder order;
  Source(const DataSource& c, uint64_t seed) : config(c), set(c.path), order(set, c.name, seed) {}
};

// One sample of a step, wherever it goes.
struct Sample {
  size_t source;
  std::vector<Span> spans;
};

}  // namespace

struct Loader::Impl {
  DataConfig config;
  int64_t vocab;
  int dp_rank, dp_size;
  std::vector<std::unique_ptr<Source>> sources;
  std::map<std::string, Cursor> cursors;      // by name; sources that left keep theirs
  std::map<std::string, std::string> identities;
  Blend blend;
  json history = json::array();               // blends of the run: {sample, weights by name, sequence_length}
  int64_t samples = 0;                        // given so far

  // The step under preparation, and where the stream stood before it.
  struct Ahead {
    int64_t global_batch, micro_batch;
    DataState before;
    std::future<StepBatches> batches;
  };
  std::optional<Ahead> ahead;

  void begin_blend() {
    double sum = 0;
    for (const auto& s : sources) sum += s->config.weight;
    FT_CHECK_CONFIG(sum > 0, "data.train: the weights add up to 0");
    blend = {};
    json weights = json::object();
    for (const auto& s : sources) {
      blend.weights.push_back(s->config.weight / sum);
      blend.taken.push_back(0);
      weights[s->config.name] = s->config.weight / sum;
    }
    history.push_back({{"sample", samples}, {"weights", weights}, {"sequence_length", config.sequence_length}});
  }

  DataState state() const {
    json cursors_json = json::object(), taken = json::object();
    for (const auto& [name, c] : cursors)
      cursors_json[name] = {{"epoch", c.epoch}, {"document", c.document}, {"offset", c.offset},
                            {"identity", identities.at(name)}};
    for (size_t i = 0; i < sources.size(); ++i) taken[sources[i]->config.name] = blend.taken[i];
    return json{{"samples", samples}, {"history", history}, {"taken", taken}, {"cursors", cursors_json}}.dump();
  }

  StepBatches prepare(int64_t global_batch, int64_t micro_batch) {
    StepBatches step;
    std::vector<Sample> mine;
    for (int64_t i = 0; i < global_batch; ++i) {
      const auto s = static_cast<size_t>(blend.next());
      const std::string& name = sources[s]->config.name;
      auto spans = sources[s]->order.take(cursors.at(name), config.sequence_length);
      step.per_source[name] += config.sequence_length;
      if (i % dp_size == dp_rank) mine.push_back({s, std::move(spans)});
      ++samples;
    }
    step.tokens = global_batch * config.sequence_length;
    for (const auto& s : sources) step.epochs[s->config.name] = s->order.epochs(cursors.at(s->config.name));
    for (size_t i = 0; i < mine.size(); i += static_cast<size_t>(micro_batch)) {
      const size_t n = std::min(mine.size() - i, static_cast<size_t>(micro_batch));
      Batch batch = empty_batch(static_cast<int64_t>(n), config.sequence_length);
      for (size_t r = 0; r < n; ++r)
        fill_row(sources[mine[i + r].source]->set, mine[i + r].spans, config.sequence_length, config.isolate_documents,
                 vocab, static_cast<int64_t>(r), batch);
      step.micro.push_back(std::move(batch));
    }
    return step;
  }

  void start(int64_t global_batch, int64_t micro_batch) {
    ahead.emplace(Ahead{global_batch, micro_batch, state(), {}});
    ahead->batches = std::async(std::launch::async, [=, this] { return prepare(global_batch, micro_batch); });
  }
  // Ends what runs ahead and goes back to where the stream stood.
  void rewind() {
    if (!ahead) return;
    ahead->batches.wait();
    const DataState before = ahead->before;
    ahead.reset();
    restore(before);
  }

  void restore(const DataState& text) {
    const json s = json::parse(text);
    samples = s.at("samples");
    history = s.at("history");
    for (const auto& [name, c] : s.at("cursors").items()) {
      const std::string identity = c.at("identity");
      const auto known = identities.find(name);
      FT_CHECK_CONFIG(known == identities.end() || known->second == identity,
                      "data source {}: its files changed since the checkpoint (sizes and ends {} then, {} now); give the "
                      "new files another name to start them afresh", name, identity, known->second);
      identities[name] = identity;
      cursors[name] = {c.at("epoch"), c.at("document"), c.at("offset")};
    }
    const json last = history.empty() ? json::object() : history.back();
    begin_blend();
    json now = history.back();
    if (last.contains("weights") && last["weights"] == now["weights"]) {   // the same blend goes on
      now["sample"] = last["sample"];
      history.erase(history.size() - 1);
      if (last["sequence_length"] != now["sequence_length"]) history.push_back(now);
      for (size_t i = 0; i < sources.size(); ++i) blend.taken[i] = s.at("taken").at(sources[i]->config.name);
    }
  }
};

Loader::Loader(const DataConfig& config, int64_t vocab_size, uint64_t seed, int dp_rank, int dp_size)
    : impl_(std::make_unique<Impl>()) {
  impl_->config = config;
  impl_->vocab = vocab_size;
  impl_->dp_rank = dp_rank, impl_->dp_size = dp_size;
  for (const DataSource& source : config.train) {
    FT_CHECK_CONFIG(!impl_->cursors.count(source.name), "data.train: two sources are named {}; give one another name",
                    source.name);
    impl_->sources.push_back(std::make_unique<Source>(source, seed));
    const TokenSet& set = impl_->sources.back()->set;
    FT_CHECK_CONFIG(set.tokens() > 0 && set.documents() > 0, "{}: the set is empty", source.path);
    impl_->cursors[source.name] = {};
    impl_->identities[source.name] = set.identity();
  }
  impl_->begin_blend();
}

Loader::~Loader() {
  if (impl_ && impl_->ahead && impl_->ahead->batches.valid()) impl_->ahead->batches.wait();
}

StepBatches Loader::next(int64_t global_batch, int64_t micro_batch) {
  Impl& i = *impl_;
  if (i.ahead && (i.ahead->global_batch != global_batch || i.ahead->micro_batch != micro_batch)) i.rewind();
  if (!i.ahead) i.start(global_batch, micro_batch);
  StepBatches step = i.ahead->batches.get();   // rethrows
  i.ahead.reset();
  i.start(global_batch, micro_batch);
  return step;
}

DataState Loader::state() const { return impl_->ahead ? impl_->ahead->before : impl_->state(); }

void Loader::restore(const DataState& state) {
  if (impl_->ahead) impl_->ahead->batches.wait();
  impl_->ahead.reset();
  impl_->restore(state);
}

std::string Loader::description() const {
  std::string text = "data:";
  for (size_t i = 0; i < impl_->sources.size(); ++i) {
    const Source& s = *impl_->sources[i];
    text += fmt::format("\n  {}: {} documents, {} tokens ({}), weight {:.3f}, at epoch {:.3f}", s.config.name,
                        s.set.documents(), s.set.tokens(), s.set.dtype_name(), impl_->blend.weights[i],
                        s.order.epochs(impl_->cursors.at(s.config.name)));
  }
  return text;
}

std::vector<Batch> validation_batches(const DataSource& source, const DataConfig& config, int64_t vocab_size,
                                      int64_t max_sequences, int64_t micro_batch, int dp_rank, int dp_size) {
  const TokenSet set(source.path);
  const int64_t length = config.sequence_length;
  std::vector<Batch> batches;
  int64_t document = 0, offset = 0, sample = 0;
  std::vector<std::vector<Span>> mine;
  while (document < set.documents() && (max_sequences == 0 || sample < max_sequences)) {
    std::vector<Span> spans;
    int64_t left = length + 1, d = document, o = offset;
    while (left > 0 && d < set.documents()) {
      const int64_t size = set.document_length(d), n = std::min(left, size - o);
      if (n > 0) spans.push_back({d, o, n, o + n == size});
      left -= n, o += n;
      if (left == 0) document = d, offset = o - 1;   // the last token is a label only
      if (o >= size) ++d, o = 0;
    }
    if (left > 0) document = set.documents();
    if (spans.empty()) break;
    if (sample++ % dp_size == dp_rank) mine.push_back(std::move(spans));
  }
  // Ranks get equally many rows; the missing ones are all padding.
  const auto rows = static_cast<size_t>((sample + dp_size - 1) / dp_size);
  for (size_t i = 0; i < rows; i += static_cast<size_t>(micro_batch)) {
    const size_t n = std::min(rows - i, static_cast<size_t>(micro_batch));
    Batch batch = empty_batch(static_cast<int64_t>(n), length);
    for (size_t r = 0; r < n && i + r < mine.size(); ++r)
      fill_row(set, mine[i + r], length, config.isolate_documents, vocab_size, static_cast<int64_t>(r), batch);
    batches.push_back(std::move(batch));
  }
  return batches;
}

Batch make_batch(int64_t sequences, int64_t length, const std::vector<int64_t>& ids,
                 const std::vector<int64_t>& document_ids, const std::vector<int64_t>& labels) {
  Batch batch = empty_batch(sequences, length);
  for (int64_t i = 0; i < sequences * length; ++i) {
    const auto at = static_cast<size_t>(i);
    const bool first = i % length == 0, last = i % length == length - 1;
    const bool fresh = first || (!document_ids.empty() && document_ids[at] != document_ids[at - 1]);
    const bool leaves = last || (!document_ids.empty() && document_ids[at] != document_ids[at + 1]);
    batch.ids[at] = narrow<int32_t>(ids[at]);
    batch.docs[at] = fresh ? static_cast<int32_t>(i) : batch.docs[at - 1];
    const int64_t label = !labels.empty() ? labels[at] : leaves ? Batch::kIgnore : ids[at + 1];
    batch.labels[at] = label < 0 ? Batch::kIgnore : narrow<int32_t>(label);
    batch.valid += label >= 0;
  }
  return batch;
}

}  // namespace ft

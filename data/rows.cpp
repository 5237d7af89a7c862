#include "data/rows.h"

#include "core/check.h"
#include "core/heartbeat.h"
#include "core/tensor.h"

#include <algorithm>
#include <numeric>

namespace ft {

namespace {

void check_ids(const TokenSet& set, const Span& span, const int32_t* ids, int64_t vocab) {
  int32_t highest = 0;
  for (int64_t k = 0; k < span.count; ++k) highest = std::max(highest, ids[k]);
  if (highest < vocab) return;
  const int64_t bad =
      std::find_if(ids, ids + span.count, [&](auto id) { return id >= vocab; }) - ids;
  throw Error(fmt::format(
      "{}.bin: document {}, token {}: id {} is outside the vocabulary of {}; the set was made with "
      "another tokenizer, or model.vocab_size is too small",
      set.prefix(), span.document, span.begin + bad, ids[bad], vocab));
}

// The tokens of a sample, and of a masked set whether each counts as a label.
struct Sample {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> counts;
};

Sample read_sample(const TokenSet& set, const std::vector<Span>& spans, int64_t most,
                   int64_t vocab) {
  int64_t total = 0;
  for (const Span& span : spans) total += span.count;
  FT_CHECK(total <= most, "{}: a sample of {} tokens, more than {}", set.prefix(), total, most);
  Sample sample;
  sample.tokens.resize(static_cast<size_t>(total));
  if (set.has_mask()) sample.counts.resize(static_cast<size_t>(total));
  const StorageCall call("reading", set.prefix());
  int64_t at = 0;
  for (const Span& span : spans) {
    int32_t* tokens = sample.tokens.data() + at;
    set.read(span.document, span.begin, span.count, tokens);
    check_ids(set, span, tokens, vocab);
    if (set.has_mask())
      set.read_mask(span.document, span.begin, span.count, sample.counts.data() + at);
    at += span.count;
  }
  return sample;
}

}  // namespace

Batch padding_batch(int64_t sequences, int64_t length) {
  const auto n = static_cast<size_t>(sequences * length);
  narrow<int32_t>(n);  // positions in a batch are 32-bit
  Batch batch{.sequences = sequences,
              .length = length,
              .ids = std::vector<int32_t>(n, 0),
              .labels = std::vector<int32_t>(n, Batch::kIgnore),
              .docs = std::vector<int32_t>(n),
              .sources = std::vector<int32_t>(static_cast<size_t>(sequences), 0)};
  std::iota(batch.docs.begin(), batch.docs.end(), 0);
  return batch;
}

void fill_row(const TokenSet& set, const std::vector<Span>& spans, bool isolate, int64_t vocab,
              int64_t row, Batch& batch) {
  const int64_t length = batch.length, base = row * length;
  const Sample sample = read_sample(set, spans, length + 1, vocab);
  const int32_t* tokens = sample.tokens.data();
  const auto total = static_cast<int64_t>(sample.tokens.size());
  const int64_t inputs = std::min(total, length), predicted = std::max<int64_t>(0, total - 1);
  int32_t* labels = batch.labels.data() + base;
  std::copy_n(tokens, inputs, batch.ids.data() + base);
  if (predicted > 0) std::copy_n(tokens + 1, predicted, labels);
  for (int64_t begin = 0; const Span& span : spans) {
    const int64_t end = begin + span.count;
    if (begin < inputs)
      std::fill(batch.docs.data() + base + begin, batch.docs.data() + base + std::min(end, inputs),
                narrow<int32_t>(base + (isolate ? begin : 0)));
    // What follows a document's last token is another document's.
    if (isolate && span.ends && end <= length) labels[end - 1] = Batch::kIgnore;
    begin = end;
  }
  for (int64_t i = 0; i < predicted && set.has_mask(); ++i)
    if (!sample.counts[static_cast<size_t>(i + 1)]) labels[i] = Batch::kIgnore;
  batch.valid += predicted - std::count(labels, labels + predicted, Batch::kIgnore);
}

Batch make_batch(int64_t sequences, int64_t length, const std::vector<int64_t>& ids,
                 const std::vector<int64_t>& document_ids, const std::vector<int64_t>& labels) {
  const auto n = static_cast<size_t>(sequences * length);
  FT_CHECK(ids.size() == n && (document_ids.empty() || document_ids.size() == n) &&
               (labels.empty() || labels.size() == n),
           "{} sequences of {} tokens need {} ids, document ids and labels; there are {}, {}, {}",
           sequences, length, n, ids.size(), document_ids.size(), labels.size());
  Batch batch = padding_batch(sequences, length);
  const auto differ = [&](size_t a, size_t b) {
    return !document_ids.empty() && document_ids[a] != document_ids[b];
  };
  const auto row = static_cast<size_t>(length);
  for (size_t i = 0; i < n; ++i) {
    const bool fresh = i % row == 0 || differ(i, i - 1);
    const bool leaves = i % row == row - 1 || differ(i, i + 1);
    batch.ids[i] = narrow<int32_t>(ids[i]);
    batch.docs[i] = fresh ? narrow<int32_t>(i) : batch.docs[i - 1];
    const int64_t label = !labels.empty() ? labels[i] : leaves ? Batch::kIgnore : ids[i + 1];
    batch.labels[i] = label < 0 ? Batch::kIgnore : narrow<int32_t>(label);
    batch.valid += label >= 0;
  }
  return batch;
}

}  // namespace ft

#include "data/rows.h"

#include "core/check.h"
#include "core/tensor.h"

#include <algorithm>

namespace ft {

namespace {

void check_ids(const TokenSet& set, const Span& span, const int32_t* ids, int64_t vocab) {
  for (int64_t k = 0; k < span.count; ++k)
    FT_CHECK(ids[k] < vocab,
             "{}.bin: document {}, token {}: id {} is outside the vocabulary of {}; the set was "
             "made with another "
             "tokenizer, or model.vocab_size is too small",
             set.prefix(), span.document, span.begin + k, ids[k], vocab);
}

}  // namespace

Batch padding_batch(int64_t sequences, int64_t length) {
  const auto n = static_cast<size_t>(sequences * length);
  Batch batch{.sequences = sequences,
              .length = length,
              .ids = std::vector<int32_t>(n, 0),
              .labels = std::vector<int32_t>(n, Batch::kIgnore),
              .docs = std::vector<int32_t>(n, 0)};
  for (size_t i = 0; i < n; ++i) batch.docs[i] = narrow<int32_t>(i);
  return batch;
}

void fill_row(const TokenSet& set, const std::vector<Span>& spans, bool isolate, int64_t vocab,
              int64_t row, Batch& batch) {
  const int64_t length = batch.length, base = row * length;
  std::vector<int32_t> tokens(static_cast<size_t>(length) + 1, 0);
  int64_t begin = 0, total = 0;
  for (const Span& span : spans) {
    FT_CHECK(span.count <= length + 1 - total, "{}: a sample of more than {} tokens", set.prefix(),
             length + 1);
    set.read(span.document, span.begin, span.count, tokens.data() + total);
    check_ids(set, span, tokens.data() + total, vocab);
    total += span.count;
  }
  for (const Span& span : spans) {
    for (int64_t i = begin; i < std::min(begin + span.count, length); ++i) {
      const auto to = static_cast<size_t>(base + i);
      const bool document_end = span.ends && i == begin + span.count - 1;
      batch.ids[to] = tokens[static_cast<size_t>(i)];
      batch.docs[to] = narrow<int32_t>(base + (isolate ? begin : 0));
      if (i + 1 < total && !(isolate && document_end)) {
        batch.labels[to] = tokens[static_cast<size_t>(i + 1)];
        ++batch.valid;
      }
    }
    begin += span.count;
  }
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

// Validation sets: once over, in file order.
#include "core/check.h"
#include "data/rows.h"

#include <algorithm>

namespace ft {

namespace {

// The next sample's spans, at most length + 1 tokens; (document, offset) move on by `length`
// tokens.
std::vector<Span> next_spans(const TokenSet& set, int64_t length, int64_t& document,
                             int64_t& offset) {
  std::vector<Span> spans;
  int64_t left = length + 1;
  while (left > 0 && document < set.documents()) {
    const int64_t size = set.document_length(document), n = std::min(left, size - offset);
    if (n > 0) spans.push_back({document, offset, n, offset + n == size});
    left -= n, offset += n;
    if (left == 0) --offset;  // a label only: the next sample begins with it
    else ++document, offset = 0;
  }
  return spans;
}

}  // namespace

std::vector<Batch> validation_batches(const DataSource& source, const DataConfig& config,
                                      int64_t vocab_size, int64_t max_sequences,
                                      int64_t micro_batch, int dp_rank, int dp_size) {
  FT_CHECK_CONFIG(config.sequence_length > 0 && micro_batch > 0,
                  "validation needs data.sequence_length and train.micro_batch "
                  "of 1 or more; they are {} and {}",
                  config.sequence_length, micro_batch);
  const TokenSet set(source.path, access_of(config.read));
  int64_t document = 0, offset = 0, samples = 0;
  std::vector<std::vector<Span>> mine;
  while (document < set.documents() && (max_sequences == 0 || samples < max_sequences)) {
    auto spans = next_spans(set, config.sequence_length, document, offset);
    int64_t tokens = 0;
    for (const Span& span : spans) tokens += span.count;
    if (tokens < 2) break;  // nothing left to predict
    if (samples++ % dp_size == dp_rank) mine.push_back(std::move(spans));
  }
  FT_CHECK_CONFIG(samples > 0, "{}: a validation set needs two tokens at least, it has {}",
                  source.path, set.tokens());
  // Ranks get equally many rows; the missing ones are all padding.
  const auto rows = static_cast<size_t>((samples + dp_size - 1) / dp_size);
  std::vector<Batch> batches;
  for (size_t i = 0; i < rows; i += static_cast<size_t>(micro_batch)) {
    const size_t n = std::min(rows - i, static_cast<size_t>(micro_batch));
    Batch batch = padding_batch(static_cast<int64_t>(n), config.sequence_length);
    for (size_t r = 0; r < n && i + r < mine.size(); ++r)
      fill_row(set, mine[i + r], config.isolate_documents, vocab_size, static_cast<int64_t>(r),
               batch);
    batches.push_back(std::move(batch));
  }
  return batches;
}

}  // namespace ft

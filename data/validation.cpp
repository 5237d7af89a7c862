// Validation sets: once over, in file order.
#include "core/check.h"
#include "core/heartbeat.h"
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

struct ValidationBatches::Impl {
  TokenSet set;
  DataConfig config;
  int64_t vocab_size, micro_batch, samples, rows;  // samples: of all ranks; rows: of one
  int rank, ranks;
  int64_t document = 0, offset = 0, sample = 0, row = 0;  // what comes next

  // This rank's next sample; empty: none is left.
  std::vector<Span> own_spans() {
    while (sample < samples) {
      const StorageCall call("reading", set.prefix());
      auto spans = next_spans(set, config.sequence_length, document, offset);
      if (sample++ % ranks == rank) return spans;
    }
    return {};
  }
};

ValidationBatches::ValidationBatches(const DataSource& source, const DataConfig& config,
                                     int64_t vocab_size, int64_t max_sequences, int64_t micro_batch,
                                     int dp_rank, int dp_size) {
  const int64_t length = config.sequence_length;
  FT_CHECK_CONFIG(length > 0 && micro_batch > 0,
                  "validation needs data.sequence_length and train.micro_batch "
                  "of 1 or more; they are {} and {}",
                  length, micro_batch);
  const StorageCall call("opening", source.path);
  TokenSet set(source.path, access_of(config.read));
  FT_CHECK_CONFIG(set.tokens() > 1, "{}: a validation set needs two tokens at least, it has {}",
                  source.path, set.tokens());
  int64_t samples = (set.tokens() - 1 + length - 1) / length;  // each has a label at least
  if (max_sequences > 0) samples = std::min(samples, max_sequences);
  impl_.reset(new Impl{.set = std::move(set),
                       .config = config,
                       .vocab_size = vocab_size,
                       .micro_batch = micro_batch,
                       .samples = samples,
                       .rows = (samples + dp_size - 1) / dp_size,
                       .rank = dp_rank,
                       .ranks = dp_size});
}

ValidationBatches::~ValidationBatches() = default;
ValidationBatches::ValidationBatches(ValidationBatches&&) noexcept = default;

int64_t ValidationBatches::rows() const { return impl_->rows; }
int64_t ValidationBatches::largest() const { return std::min(impl_->rows, impl_->micro_batch); }

std::optional<Batch> ValidationBatches::next() {
  Impl& v = *impl_;
  const int64_t n = std::min(v.rows - v.row, v.micro_batch);
  if (n == 0) return std::nullopt;
  Batch batch = padding_batch(n, v.config.sequence_length);
  for (int64_t r = 0; r < n; ++r) {
    const auto spans = v.own_spans();
    if (spans.empty()) break;  // the last row of some ranks is all padding
    fill_row(v.set, spans, v.config.isolate_documents, v.vocab_size, r, batch);
  }
  v.row += n;
  return batch;
}

}  // namespace ft

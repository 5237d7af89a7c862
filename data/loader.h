// Training batches: which tokens make sample i is a pure function of (seed, sources, history of
// blends, i); see data/order.h and data/mix.h. Every rank advances every source's cursor (lengths
// only) and reads just its own samples; a prefetch thread prepares the next step.
#pragma once

#include "data/config.h"
#include "data/source_match.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// One micro-batch on the host: `sequences` rows of `length` tokens, flattened.
struct Batch {
  static constexpr int32_t kIgnore = -100;
  int64_t sequences = 0;
  int64_t length = 0;
  std::vector<int32_t> ids;      // [T]
  std::vector<int32_t> labels;   // [T] the next token, or kIgnore (document end, mask, padding)
  std::vector<int32_t> docs;     // [T] index (in this batch) of the token's document start
  std::vector<int32_t> sources;  // [sequences] place in Loader::source_names(); else 0
  int64_t valid = 0;             // labels that count
};

// One optimizer step of one data-parallel rank.
struct StepBatches {
  std::vector<Batch> micro;                   // in order
  int64_t tokens = 0;                         // tokens consumed by all ranks in this step
  std::map<std::string, int64_t> per_source;  // of all ranks: tokens of each source that gave any
  std::map<std::string, double> epochs;       // by tokens, after this step, of the same sources
};

// Where the data stream stands; text that checkpoints keep (JSON): cursors, history of blends,
// files' identity.
using DataState = std::string;

class Loader {
 public:
  // Opens and checks all sources; throws ConfigError naming file and fault.
  Loader(const DataConfig& config, int64_t vocab_size, uint64_t seed, int dp_rank, int dp_size);
  // Waits for what is being read, but not for storage that hangs while an error is on its way out.
  ~Loader();

  // The next `global_batch` samples of the run; this rank's share comes in micro-batches of at most
  // micro_batch sequences (rank r takes samples r, r + dp, r + 2 dp, ... of the step). Throws where
  // a token id is >= vocab.
  StepBatches next(int64_t global_batch, int64_t micro_batch);

  // The position before the sample that next() will return first. Independent of prefetching.
  DataState state() const;
  // Continues from there; the present blend may differ from the saved one (weights, new sources,
  // sequence length). A source goes on wherever its files lie now and whatever it is called: says
  // what differs. Throws ConfigError where the files of a name changed since.
  SourceChanges restore(const DataState& state);
  // In the order of the configuration.
  const std::vector<std::string>& source_names() const;
  // Tokens, documents, epochs per source: lines for the start of a run. Of many, the first few.
  std::string description() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // also of the thread that reads ahead
};

// A validation set, once over in file order: at most `max_sequences` samples (0 = all), the last
// padded. This rank's micro-batches only, read one at a time; the samples are dealt out as in
// Loader, ranks get equally many (padded) rows.
class ValidationBatches {
 public:
  ValidationBatches(const DataSource& source, const DataConfig& config, int64_t vocab_size,
                    int64_t max_sequences, int64_t micro_batch, int dp_rank, int dp_size);
  ~ValidationBatches();
  ValidationBatches(ValidationBatches&&) noexcept;
  int64_t rows() const;         // of all batches of a rank
  int64_t largest() const;      // rows of the largest batch
  std::optional<Batch> next();  // none: that was the last

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Documents' start positions and next-token labels of given rows (probe, golden tests):
// document_ids [B * length] may be empty (one document a row). labels may be empty: the next token
// of the same document.
Batch make_batch(int64_t sequences, int64_t length, const std::vector<int64_t>& ids,
                 const std::vector<int64_t>& document_ids, const std::vector<int64_t>& labels);

}  // namespace ft

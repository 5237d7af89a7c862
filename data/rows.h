// From spans of tokens to the rows of a batch.
#pragma once

#include "data/loader.h"
#include "data/order.h"
#include "data/tokens.h"

namespace ft {

// Rows of padding alone: id 0, no labels, every token a document of its own.
Batch padding_batch(int64_t sequences, int64_t length);

// Reads a sample into row `row`. Up to length + 1 tokens; where there are fewer, the rest of the
// row stays padding. Labels that the set's mask leaves out are ignored. A document that began
// before the row starts at the row's start: its state is fresh.
void fill_row(const TokenSet& set, const std::vector<Span>& spans, bool isolate_documents,
              int64_t vocab_size, int64_t row, Batch& batch);

}  // namespace ft

// The order of one source: documents permuted anew each epoch by a keyed permutation (a Feistel
// network with cycle walking, so no table), their tokens one endless stream, read by a cursor. A
// function of (seed, key, epoch) alone; the key is the source's first name.
#pragma once

#include "data/tokens.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

// Position `index` of a permutation of [0, size) under a key.
int64_t permuted(uint64_t key, int64_t size, int64_t index);

struct Cursor {
  int64_t epoch = 0;
  int64_t document = 0;  // place in the epoch's order
  int64_t offset = 0;    // tokens of that document already taken
};

// A run of tokens of one document inside a sample.
struct Span {
  int64_t document;      // in the token set
  int64_t begin, count;  // tokens of the document
  bool ends;             // the document's last token is the span's last
};

class SourceOrder {
 public:
  SourceOrder(const TokenSet& set, const std::string& key, uint64_t seed);
  // The next `length + 1` tokens as spans; the cursor moves on by `length`. Looks at lengths only.
  std::vector<Span> take(Cursor& cursor, int64_t length) const;
  // Epochs done, as a fraction of documents (not of tokens: that would need a sum over all
  // lengths).
  double epochs(const Cursor& cursor) const;

 private:
  int64_t document_at(const Cursor& cursor) const;
  void next_document(Cursor& cursor) const;

  const TokenSet* set_;
  uint64_t key_;
};

}  // namespace ft

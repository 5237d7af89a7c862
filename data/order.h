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
  int64_t tokens = 0;    // taken in this epoch
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
  // Epochs done: whole ones, and of the present one the share of the set's tokens that is taken.
  double epochs(const Cursor& cursor) const;
  // Cursor::tokens of a cursor that does not know it, summed over the documents before it.
  int64_t tokens_before(const Cursor& cursor) const;

 private:
  int64_t document_at(const Cursor& cursor) const;
  void next_document(Cursor& cursor) const;

  const TokenSet* set_;
  uint64_t key_;
};

}  // namespace ft

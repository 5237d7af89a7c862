#include "data/order.h"

#include "core/check.h"
#include "core/rng.h"

#include <algorithm>
#include <bit>

namespace ft {

int64_t permuted(uint64_t key, int64_t size, int64_t index) {
  if (size <= 1) return index;
  const int half =
      std::max(1, (static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1))) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << half) - 1;
  auto x = static_cast<uint64_t>(index);
  do {
    uint64_t left = x >> half, right = x & mask;
    for (uint32_t round = 0; round < 6; ++round) {
      const auto w =
          philox(key, {static_cast<uint32_t>(right), static_cast<uint32_t>(right >> 32), round, 0});
      const uint64_t mixed = left ^ ((static_cast<uint64_t>(w[1]) << 32 | w[0]) & mask);
      left = right;
      right = mixed;
    }
    x = left << half | right;
  } while (x >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(x);
}

SourceOrder::SourceOrder(const TokenSet& set, const std::string& key, uint64_t seed) : set_(&set) {
  const auto w = random_words(seed, Purpose::DataOrder, name_hash(key.data(), key.size()) >> 8, 0);
  key_ = static_cast<uint64_t>(w[1]) << 32 | w[0];
}

int64_t SourceOrder::document_at(const Cursor& c) const {
  const uint64_t key = key_ ^ (0x9E3779B97F4A7C15ull * static_cast<uint64_t>(c.epoch + 1));
  return permuted(key, set_->documents(), c.document);
}

void SourceOrder::next_document(Cursor& c) const {
  c.offset = 0;
  if (++c.document == set_->documents()) c.document = 0, c.tokens = 0, ++c.epoch;
}

std::vector<Span> SourceOrder::take(Cursor& cursor, int64_t length) const {
  std::vector<Span> spans;
  Cursor c = cursor;
  int64_t left = length + 1, empty = 0;
  while (left > 0) {
    const int64_t document = document_at(c), size = set_->document_length(document);
    const int64_t n = std::min(left, size - c.offset);
    if (n > 0) {
      spans.push_back({document, c.offset, n, c.offset + n == size});
      left -= n, c.offset += n, c.tokens += n, empty = 0;
      // The sample's last token is a label only: the next sample begins with it.
      if (left == 0) cursor = {c.epoch, c.document, c.offset - 1, c.tokens - 1};
    } else {
      // Two epochs meet in a sample, and each may have its empty documents on that side.
      FT_CHECK(++empty <= 2 * set_->documents(), "{}: all documents are empty", set_->prefix());
    }
    if (c.offset >= size) next_document(c);
  }
  return spans;
}

double SourceOrder::epochs(const Cursor& c) const {
  const auto all = static_cast<double>(std::max<int64_t>(1, set_->tokens()));
  return static_cast<double>(c.epoch) + std::min(1.0, static_cast<double>(c.tokens) / all);
}

int64_t SourceOrder::tokens_before(const Cursor& cursor) const {
  int64_t tokens = cursor.offset;
  for (Cursor c{cursor.epoch}; c.document < cursor.document; ++c.document)
    tokens += set_->document_length(document_at(c));
  return tokens;
}

}  // namespace ft

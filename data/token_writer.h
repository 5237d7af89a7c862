// Writes token sets; the format is in data/tokens.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace ft {

// PREFIX.bin, PREFIX.idx and, when asked for, PREFIX.mask.bin. They appear whole, at finish(), or
// not at all; a mask that an older set left there is removed, for it would belong to other tokens.
class TokenWriter {
 public:
  // uint16 where vocab < 65500, else int32 (Megatron's rule).
  TokenWriter(const std::string& prefix, int64_t vocab_size, bool with_mask = false);
  ~TokenWriter();
  // Tokens of the open sequence, written at once. mask: one byte each, or null: all count. Throws
  // where a token is outside the vocabulary or the sequence too long for the format.
  void add(const int32_t* tokens, int64_t count, const uint8_t* mask = nullptr);
  void add(const uint16_t* tokens, int64_t count, const uint8_t* mask = nullptr);
  void end_sequence();
  void add_sequence(const int32_t* tokens, int64_t count, const uint8_t* mask = nullptr);
  void end_document();
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ft

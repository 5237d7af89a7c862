// Megatron's .bin/.idx token files, read. Opening a set never scans it. data/token_writer.h writes.
// Layout of .idx, little endian, unaligned: "MMIDIDX\0\0", u64 version 1, u8 dtype code, u64 S
// sequences, u64 D = documents + 1, int32 length[S], int64 byte offset[S], int64 document
// boundary[D] (sequence numbers).
// PREFIX.mask.bin may stand beside them: one byte for each token of the .bin, in its order; not 0:
// the token counts in the loss as a label.
#pragma once

#include "data/data_file.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ft {

// One set of documents. A document is one or more sequences (or none: empty documents occur); its
// tokens are those of its sequences one after another, which need not be adjacent in the .bin.
class TokenSet {
 public:
  // The .idx is always mapped; the .bin and mask as `access` says. Throws ConfigError: file,
  // offset, what is wrong.
  explicit TokenSet(const std::string& prefix, Access access = Access::Map);
  ~TokenSet();
  TokenSet(TokenSet&&) noexcept;

  const std::string& prefix() const;
  int64_t documents() const;
  int64_t sequences() const;
  int64_t tokens() const;
  int64_t document_length(int64_t document) const;  // tokens
  // Tokens [begin, begin + count) of a document, widened; throws on ids outside int32.
  void read(int64_t document, int64_t begin, int64_t count, int32_t* out) const;
  bool has_mask() const;
  // The mask bytes of the same tokens; only where has_mask().
  void read_mask(int64_t document, int64_t begin, int64_t count, uint8_t* out) const;
  // These tokens are read soon.
  void expect(int64_t document, int64_t begin, int64_t count) const;
  std::string dtype_name() const;  // "uint16", "int32", ...
  // Lengths and hashes of the files, wherever they lie (data/identity.h); some reading.
  std::string identity() const;
  std::string sparse_identity() const;  // as the first checkpoints have it

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Whether it is of the kind that the first checkpoints have.
bool is_sparse_identity(const std::string& identity);

}  // namespace ft

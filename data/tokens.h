// Megatron's .bin/.idx token files: reading by mmap (opening a set never scans it) and writing.
// Layout of .idx, little endian, unaligned: "MMIDIDX\0\0", u64 version 1, u8 dtype code, u64 S
// sequences, u64 D = documents + 1, int32 length[S], int64 byte offset[S], int64 document
// boundary[D] (sequence numbers).
#pragma once

#include "core/file.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ft {

// One set of documents. A document is one or more sequences (or none: empty documents occur); its
// tokens are those of its sequences one after another, which need not be adjacent in the .bin.
class TokenSet {
 public:
  explicit TokenSet(const std::string& prefix);  // throws ConfigError: file, offset, what is wrong
  ~TokenSet();
  TokenSet(TokenSet&&) noexcept;

  const std::string& prefix() const;
  int64_t documents() const;
  int64_t sequences() const;
  int64_t tokens() const;
  int64_t document_length(int64_t document) const;  // tokens
  // Tokens [begin, begin + count) of a document, widened; throws on ids outside int32.
  void read(int64_t document, int64_t begin, int64_t count, int32_t* out) const;
  std::string dtype_name() const;  // "uint16", "int32", ...
  std::string identity() const;    // lengths of both files and hashes of 16 blocks of each

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Writes PREFIX.bin and PREFIX.idx; they appear whole, at finish(), or not at all.
class TokenWriter {
 public:
  TokenWriter(const std::string& prefix,
              int64_t vocab_size);  // uint16 where vocab < 65500, else int32 (Megatron's rule)
  ~TokenWriter();
  void add_sequence(const int32_t* tokens, int64_t count);
  void end_document();
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ft

// Byte-pair encoding: a vocabulary of strings and ranked merges of two of them into a third.
#pragma once

#include "data/text/json_part.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ft {

// A key for strings that views find too.
struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, TextHash, std::equal_to<>>;

class Bpe {
 public:
  explicit Bpe(const JsonPart& model);  // "model" of a tokenizer.json

  // Appends the ids of one piece of pre-tokenized text, in time n log n. Characters that the
  // vocabulary lacks become unk_token where there is one, else nothing.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    int32_t rank, id;
  };
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }
  void read_vocabulary(const JsonPart& model);
  void read_merges(const JsonPart& model);
  std::vector<int32_t> characters(std::string_view piece) const;
  void merge(std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;
  uint64_t serial_;  // of all that were ever made
  int32_t unknown_ = -1;
  bool fuse_unknown_ = false, ignore_merges_ = false;
};

inline constexpr int64_t kHighestTokenId = (1 << 24) - 1;

}  // namespace ft

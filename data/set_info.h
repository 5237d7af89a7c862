// PREFIX.json, the note that may stand beside a token set: which tokenizer made it. And what sets
// and notes show of a run before a token is trained on.
#pragma once

#include "data/config.h"

#include <cstdint>
#include <optional>
#include <string>

namespace ft {

struct SetInfo {
  std::string tokenizer;         // "bytes", or the name of a tokenizer.json; empty: not said
  std::string tokenizer_hash;    // Tokenizer::hash(); empty: not said
  int64_t vocab_size = 0;        // 0: not said
  int64_t end_of_document = -1;  // id; -1: not said, or none
  int64_t documents = -1, tokens = -1;
  int64_t bytes = -1;  // of text in them
};

// Nothing where there is no such file, or where it is none of ours: not JSON, an object of other
// things, or larger than a note can be (no more than that is read). Such a file is the user's.
// Throws ConfigError where it is there and cannot be read.
std::optional<SetInfo> read_set_info(const std::string& prefix);

// Whether the two are known to come from different tokenizers: what is not said differs from
// nothing.
bool other_tokenizer(const SetInfo& a, const SetInfo& b);

// What can be known of a run's sets before its first step; sources must be expanded
// (data/sources.h). Throws ConfigError, naming the set and the fault, where
// * a set is damaged, empty, or without a single label: documents of one token, a mask of zeros; a
//   validation set within its first `validation_sequences` samples (0: all)
// * the vocabulary that a note names does not fit the model's
// * two sets, or a set and data.tokenizer, are known to come from different tokenizers
// * data.tokenizer cannot be read
// One process's work: it reads every index, little more.
void check_sets(const DataConfig& data, int64_t vocab_size, int64_t validation_sequences);

}  // namespace ft

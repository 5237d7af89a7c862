// What a model's tokens mean: its tokenizer, and the ids that begin and end its documents.
#pragma once

#include "app/train/engine.h"
#include "data/set_info.h"
#include "data/text/tokenizer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// "bytes", or the path of a tokenizer.json or of its folder. Throws ConfigError.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name);
// The tokenizer that PREFIX.json names, a path being relative to where we are, or else to the set.
std::unique_ptr<Tokenizer> tokenizer_of_set(const std::string& prefix, const std::string& name);

struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;  // null: not known, or it cannot be used
  std::string why;                       // then: the reason
  SetInfo known;                         // of the tokenizer, or of what the run says of it
  std::optional<int32_t> start;          // what an empty text begins with
  std::vector<int64_t> ends;             // of documents

  // Throws ConfigError that begins with `user`, says why and ends with the other way.
  const Tokenizer& require(const std::string& user, const std::string& otherwise) const;
};

// The tokenizer is the one that --tokenizer names (an error where it cannot be used), else the
// tokenizer.json in the folder of the model, the checkpoint or its run (app/text/run_text.h), what
// data.tokenizer or the first token set of the run names, or bytes where the vocabulary is theirs.
ModelText text_of(const ModelSource& source, const std::string& path, const std::string& option);

}  // namespace ft

// Tokens of a tokenizer.json that are found in the text before anything else is done to it.
#pragma once

#include "data/text/bpe.h"
#include "data/text/json_part.h"

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;                 // no text: left out of what is shown
  bool normalized = false;              // looked for in normalized text
  bool single_word = false;             // only where no word goes on before or after it
  bool lstrip = false, rstrip = false;  // takes the whitespace before, after it
};
AddedToken read_added_token(const JsonPart& part);

// Finds tokens: the leftmost first, of those the longest.
class AddedTokens {
 public:
  void add(AddedToken token, std::string pattern);
  struct Part {
    std::string_view text;
    int32_t id;  // -1: text without added tokens
  };
  std::vector<Part> split(std::string_view text) const;

 private:
  const AddedToken* match(std::string_view text, size_t at, size_t& length) const;

  std::vector<AddedToken> tokens_;
  Vocabulary patterns_;             // to positions in tokens_
  std::vector<size_t> lengths_;     // of patterns, longest first
  std::array<bool, 256> begins_{};  // bytes that begin a pattern
};

}  // namespace ft

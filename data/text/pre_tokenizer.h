// How a tokenizer.json cuts text into the pieces that byte-pair encoding never merges across.
#pragma once

#include "data/text/json_part.h"
#include "data/text/regex.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

// Bytes as the printable characters that stand for them in byte-level vocabularies (GPT-2).
const std::string& character_of_byte(uint8_t byte);
// The bytes of a token that consists of such characters; any other token is its own text.
std::string bytes_of_token(std::string_view token);

class PreTokenizer {
 public:
  PreTokenizer() = default;                     // none: a text is one piece
  explicit PreTokenizer(const JsonPart& part);  // "pre_tokenizer", not null

  // Pieces of valid UTF-8, none empty.
  std::vector<std::string> operator()(std::string_view text) const;

 private:
  enum class Keep { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };
  struct Step {
    bool prefix_space = false;   // begin with a space
    std::optional<Regex> regex;  // what separates
    Keep keep = Keep::Isolated;  // what becomes of separators
    bool invert = false;         // what lies between matches separates
    bool bytes = false;          // then write bytes as characters
  };
  void add(const JsonPart& part);
  static Keep keep_of(const JsonPart& part, const char* absent);
  static Regex pattern_of(const JsonPart& part);
  static std::vector<std::string_view> cut(const Step& step, std::string_view text);

  std::vector<Step> steps_;
};

}  // namespace ft

// Text and tokens, as the commands that take and show text use them: the built-in tokenizer (one
// token a byte) or a Hugging Face tokenizer.json (data/text/tokenizer_json.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

// Of the built-in tokenizer.
inline constexpr int32_t kByteEndOfDocument = 256;
inline constexpr int64_t kByteVocab = 257;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;    // "bytes", or the file
  virtual int64_t vocab_size() const = 0;  // one above the highest id
  // Of all tokens and their ids, eight hexadecimal digits: equal wherever ids mean the same.
  virtual std::string hash() const = 0;
  virtual std::vector<int32_t> encode(
      std::string_view text) const = 0;                    // U+FFFD for what is no UTF-8
  virtual const std::vector<int32_t>& prefix() const = 0;  // what stands before every prompt
  // The token's bytes, which may be a part of a character; a special one's name. Empty for an id
  // outside the vocabulary.
  virtual std::string_view token(int64_t id) const = 0;
  virtual bool special(int64_t id) const = 0;  // stands for no text; so do ids outside
  // The id of a token as its tokenizer.json writes it; -1: there is none.
  virtual int64_t id_of(std::string_view name) const = 0;

  // The prefix, unless the text has it, and the text.
  std::vector<int32_t> encode_prompt(std::string_view text) const;
  // Bytes of text that the token stands for.
  std::string_view shown(int64_t id) const { return special(id) ? "" : token(id); }
};

std::unique_ptr<Tokenizer> byte_tokenizer();

// Tokenizer::hash() of tokens by their ids: CRC-32 over "ID TOKEN\n" of each, in their order.
std::string vocabulary_hash(const std::map<int64_t, std::string_view>& tokens);

// Turns bytes that come one by one into valid UTF-8: a character is given out when it is complete,
// and U+FFFD stands for what is no UTF-8.
class Utf8Stream {
 public:
  std::string add(uint8_t byte);  // what can be shown now; may be empty
  std::string finish();           // what an unfinished character becomes

 private:
  std::string pending_;
  int missing_ = 0;  // continuation bytes still to come
};

std::string valid_utf8(std::string_view bytes);

// Of valid UTF-8: bytes of the character that begins so, the last character, and the bytes of
// whitespace (White_Space of Unicode) that a text begins and ends with.
size_t character_bytes(char first);
std::string_view last_character(std::string_view text);
size_t leading_space(std::string_view text);
size_t trailing_space(std::string_view text);

}  // namespace ft

// The built-in tokenizer, one token a byte, as the commands that take and show text use it.
#pragma once

#include "app/engine.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

inline constexpr int32_t kEndOfDocument = 256;

// Whether the model reads bytes: data.tokenizer says so, or its vocabulary is 257.
bool reads_bytes(const ModelSource& source);
std::vector<int32_t> byte_ids(std::string_view text);

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

}  // namespace ft

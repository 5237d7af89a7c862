// PREFIX.json, the notes that may stand beside a token set: which tokenizer made it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ft {

struct SetInfo {
  std::string tokenizer;         // "bytes", or the name of a tokenizer.json; empty: not said
  int64_t vocab_size = 0;        // 0: not said
  int64_t end_of_document = -1;  // id; -1: not said, or none
  int64_t documents = -1, tokens = -1;
};

// Nothing where the set has no such file. Throws ConfigError where it is damaged.
std::optional<SetInfo> read_set_info(const std::string& prefix);

}  // namespace ft

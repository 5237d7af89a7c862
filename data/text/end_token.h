// The token that ends a document in the sets that a tokenizer makes.
#pragma once

#include "data/text/tokenizer.h"

#include <optional>
#include <string>

namespace ft {

// wanted: a token, an id, or "none"; empty: what the files beside the tokenizer.json name (the
// eos_token of tokenizer_config.json or special_tokens_map.json, the eos_token_id of
// generation_config.json or config.json), else a token with a usual name. Nothing: none. Throws
// ConfigError where that is no token, or nothing is named.
std::optional<int32_t> end_token(const Tokenizer& tokenizer, const std::string& wanted);

}  // namespace ft

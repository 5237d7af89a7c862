// Reads a whole token set and checks it.
#pragma once

#include "data/set_info.h"
#include "data/tokens.h"

#include <cstdint>
#include <optional>

namespace ft {

struct SetSummary {
  int64_t empty_documents = 0, longest_document = 0;  // tokens
  int64_t counted = 0;                                // tokens that the mask lets count
  int64_t ended = 0;                                  // documents whose last token is the end id
  int32_t highest = -1;                               // id
};

// Every length, place and token; ids against the vocabulary that `info` names, and what else it
// says. Throws ft::Error at the first fault: file, document, token.
SetSummary verify_set(const TokenSet& set, const std::optional<SetInfo>& info);

}  // namespace ft

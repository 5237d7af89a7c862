// Which files tokenize reads, and whether it may write where it is asked to.
#pragma once

#include "app/commands/tokenize.h"

#include <string>
#include <vector>

namespace ft {

// The files of all inputs, in order; those of a folder sorted. Of folders, hidden files and what is
// no text (data/file_kind.h) are left out, with a line for each kind. Throws ConfigError for an
// input that is not there or no text, for an input that the set's files would replace, under
// whatever name, and where one of those is there already and belongs to no token set.
std::vector<std::string> tokenize_inputs(const TokenizeOptions& options);

}  // namespace ft

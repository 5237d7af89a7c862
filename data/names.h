// Names of files and sources, as they enter.
#pragma once

#include <string>
#include <string_view>

namespace ft {

// A name as it may be shown anywhere: what is no UTF-8, and control characters, as \xNN.
std::string escaped(std::string_view name);

// Where the first byte stands that is no UTF-8; npos: there is none.
size_t first_odd_byte(std::string_view text);

// Throws ConfigError where a name is not UTF-8: configurations, checkpoints and logs are, and
// could not hold it. what: "data.train", say.
void check_name(std::string_view what, std::string_view name);

}  // namespace ft

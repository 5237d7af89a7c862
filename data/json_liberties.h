// JSON as Python's json module writes and reads it, turned into JSON as the standard says.
#pragma once

#include <string>
#include <string_view>

namespace ft {

// NaN, Infinity and -Infinity become null, half a surrogate pair U+FFFD, and numbers with an
// exponent or of more than 18 characters 0. For readers that look at text and at ids. What is no
// JSON either way stays wrong.
std::string strict_json(std::string_view text);

}  // namespace ft

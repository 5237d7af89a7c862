// JSON as Python's json module writes and reads it, turned into JSON as the standard says.
#pragma once

#include <string>
#include <string_view>

namespace ft {

// NaN, Infinity and -Infinity become null, numbers of any size 0, and half a surrogate pair U+FFFD.
// For readers that look at text only. What is no JSON either way stays wrong.
std::string strict_json(std::string_view text);

}  // namespace ft

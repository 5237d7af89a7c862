#include "data/names.h"

#include "core/check.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>

namespace ft {

namespace {

// Bytes of the character that a text begins with; 0: it is none.
size_t character(std::string_view text) {
  utf8proc_int32_t value = 0;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &value);
  return bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

}  // namespace

std::string escaped(std::string_view name) {
  std::string shown;
  while (!name.empty()) {
    const size_t bytes = character(name);
    const auto first = static_cast<uint8_t>(name[0]);
    if (bytes > 0 && first >= 32 && first != 127) shown += name.substr(0, bytes);
    else shown += fmt::format("\\x{:02x}", first);
    name.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return shown;
}

size_t first_odd_byte(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (static_cast<uint8_t>(text[at]) < 128) {
      ++at;
      continue;
    }
    const size_t bytes = character(text.substr(at));
    if (bytes == 0) return at;
    at += bytes;
  }
  return std::string_view::npos;
}

void check_name(std::string_view what, std::string_view name) {
  FT_CHECK_CONFIG(first_odd_byte(name) == std::string_view::npos,
                  "{}: the name {} is not UTF-8; rename it (mv, or convmv -f latin1 -t utf8)", what,
                  escaped(name));
}

}  // namespace ft

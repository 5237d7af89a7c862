#include "data/names.h"

#include "core/check.h"
#include "data/text/tokenizer.h"

#include <utf8proc.h>

namespace ft {

std::string escaped(std::string_view name) {
  std::string shown;
  while (!name.empty()) {
    utf8proc_int32_t character = 0;
    const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(name.data()),
                                        static_cast<utf8proc_ssize_t>(name.size()), &character);
    const size_t n = bytes > 0 ? static_cast<size_t>(bytes) : 1;
    if (bytes > 0 && character >= 32 && character != 127) shown += name.substr(0, n);
    else shown += fmt::format("\\x{:02x}", static_cast<uint8_t>(name[0]));
    name.remove_prefix(n);
  }
  return shown;
}

void check_name(std::string_view what, std::string_view name) {
  FT_CHECK_CONFIG(valid_utf8(name) == name,
                  "{}: the name {} is not UTF-8; rename it (mv, or convmv -f latin1 -t utf8)", what,
                  escaped(name));
}

}  // namespace ft

#include "core/check.h"
#include "parallel/checkpoint/io.h"
#include "tests/fuzz/targets.h"

#include <cstdlib>

namespace ft::fuzz {

void manifest(const uint8_t* data, size_t size) {
  detail::Manifest found;
  try {
    found = detail::parse_manifest("manifest.json",
                                   std::string(reinterpret_cast<const char*>(data), size));
  } catch (const Error&) {
    return;
  }
  const std::string text = detail::manifest_text(found);
  if (detail::manifest_text(detail::parse_manifest("again", text)) != text) std::abort();
}

}  // namespace ft::fuzz

#include "app/config/config.h"
#include "core/check.h"
#include "tests/fuzz/targets.h"

#include <cstdlib>

namespace ft::fuzz {

void yaml(const uint8_t* data, size_t size) {
  Config config;
  try {
    config = parse_config(std::string(reinterpret_cast<const char*>(data), size), "fuzz.yaml");
  } catch (const Error&) {
    return;
  }
  // What a run writes of a configuration that it accepted is read back by its resume.
  const std::string text = config_text(config);
  if (config_text(parse_config(text, "again.yaml")) != text) std::abort();
}

}  // namespace ft::fuzz

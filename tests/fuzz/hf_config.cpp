#include "core/check.h"
#include "models/families/config_file.h"
#include "tests/fuzz/targets.h"

namespace ft::fuzz {

void hf_config(const uint8_t* data, size_t size) {
  try {
    std::vector<std::string> notes;
    (void)load_hf_config(memory_file(0, data, size), &notes);
  } catch (const Error&) {
  }
}

}  // namespace ft::fuzz

#include "core/safetensors.h"

#include "core/check.h"
#include "tests/fuzz/targets.h"

namespace ft::fuzz {

void safetensors(const uint8_t* data, size_t size) {
  try {
    const SafetensorsFile file(memory_file(0, data, size));
    for (const auto& [name, info] : file.tensors()) {
      for (const bool whole_numbers : {false, true}) try {
          if (whole_numbers) (void)file.read_i64(name);
          else (void)file.read_f32(name);
        } catch (const Error&) {  // not of that kind
        }
    }
  } catch (const Error&) {
  }
}

}  // namespace ft::fuzz

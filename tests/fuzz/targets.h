// Readers of files that others wrote, each fed with any bytes. A target returns where the reader
// refuses them with ft::Error; all else that is thrown, a crash, a hang or a huge allocation is a
// fault of ours. Coverage-guided by scripts/fuzz.sh; tests/fuzz/corpus/NAME is replayed by ctest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ft::fuzz {

void idx(const uint8_t* data, size_t size);          // token sets: .idx and .bin
void yaml(const uint8_t* data, size_t size);         // a run's configuration
void hf_config(const uint8_t* data, size_t size);    // Hugging Face's config.json
void safetensors(const uint8_t* data, size_t size);  // weights
void manifest(const uint8_t* data, size_t size);     // checkpoints

// The path of a file in memory with these bytes; `slot` 0 to 3, each holding the latest.
std::string memory_file(int slot, const uint8_t* data, size_t size);

}  // namespace ft::fuzz

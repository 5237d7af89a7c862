// What reader and writer of token files share.
#pragma once

#include <bit>
#include <cstdint>

namespace ft::token_format {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr int64_t kHeader = 34;          // magic 9, version 8, dtype 1, sequences 8, documents 8
constexpr int64_t kUint16Vocab = 65500;  // Megatron writes uint16 below this vocabulary
constexpr uint8_t kInt32 = 4, kUint16 = 8;

}  // namespace ft::token_format

// Randomness is a function: Philox4x32-10 (Salmon et al. 2011) of a key and a counter. No state to
// save.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace ft {

// What the numbers are for; part of the key, so purposes never share a stream.
enum class Purpose : uint32_t { Init = 1, DataOrder = 2, Sampling = 3, Test = 4 };

inline std::array<uint32_t, 4> philox(uint64_t key, std::array<uint32_t, 4> c) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// Four words for (seed, purpose, stream, index).
inline std::array<uint32_t, 4> random_words(uint64_t seed, Purpose purpose, uint64_t stream,
                                            uint64_t index) {
  const uint64_t mixed = stream ^ (static_cast<uint64_t>(purpose) << 56);
  return philox(seed, {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                       static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)});
}

inline double unit(uint32_t high, uint32_t low) {  // in (0, 1)
  return ((static_cast<double>(high >> 6) * 134217728.0 + static_cast<double>(low >> 5)) + 0.5) /
         9007199254740992.0;
}
inline double random_uniform(uint64_t seed, Purpose purpose, uint64_t stream, uint64_t index) {
  const auto w = random_words(seed, purpose, stream, index);
  return unit(w[0], w[1]);
}
inline double random_normal(uint64_t seed, Purpose purpose, uint64_t stream,
                            uint64_t index) {  // Box-Muller
  const auto w = random_words(seed, purpose, stream, index);
  return std::sqrt(-2.0 * std::log(unit(w[0], w[1]))) *
         std::cos(6.283185307179586476925 * unit(w[2], w[3]));
}

// FNV-1a, for stream numbers from names. Stable across machines and versions.
inline uint64_t name_hash(const char* text, size_t length) {
  uint64_t h = 14695981039346656037ull;
  for (size_t i = 0; i < length; ++i)
    h = (h ^ static_cast<unsigned char>(text[i])) * 1099511628211ull;
  return h;
}

}  // namespace ft

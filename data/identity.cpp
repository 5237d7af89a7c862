#include "data/identity.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace ft {

namespace {

constexpr int64_t kBlock = 4096;

class Hash {
 public:
  Hash() { XXH64_reset(state_.get(), 0); }
  void add(const DataFile& file, int64_t begin, int64_t bytes) {
    XXH64_update(state_.get(), file.bytes(begin, bytes, room_), static_cast<size_t>(bytes));
  }
  uint64_t value() const { return XXH64_digest(state_.get()); }

 private:
  std::unique_ptr<XXH64_state_t, XXH_errorcode (*)(XXH64_state_t*)> state_{XXH64_createState(),
                                                                           XXH64_freeState};
  std::vector<uint8_t> room_;
};

// A number without a pattern (splitmix64).
uint64_t scattered(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

}  // namespace

uint64_t content_hash(const DataFile& file, int64_t whole) {
  constexpr int64_t kBlocks = 1024, kPiece = int64_t{1} << 20;
  Hash hash;
  const int64_t size = file.size();
  if (size <= std::max(whole, kBlocks * kBlock)) {
    for (int64_t at = 0; at < size; at += kPiece) hash.add(file, at, std::min(kPiece, size - at));
    return hash.value();
  }
  // Each block lies somewhere in its own part of the file. Read, not mapped: a mapping would fetch
  // more around each, one after another.
  const int64_t part = size / kBlocks;
  const auto place = [&](int64_t b) {
    if (b == 0) return int64_t{0};
    if (b == kBlocks - 1) return size - kBlock;
    const uint64_t within = scattered(static_cast<uint64_t>(b)) % static_cast<uint64_t>(part);
    return std::min(b * part + static_cast<int64_t>(within), size - kBlock);
  };
  const DataFile read(file.path(), Access::Read);
  for (int64_t b = 0; b < kBlocks; ++b) read.expect(place(b), kBlock);
  for (int64_t b = 0; b < kBlocks; ++b) hash.add(read, place(b), kBlock);
  return hash.value();
}

uint64_t sparse_hash(const DataFile& file) {
  constexpr int64_t kBlocks = 16;
  XXH64_hash_t hash = 0;
  std::vector<uint8_t> room;
  const int64_t last = std::max<int64_t>(0, file.size() - kBlock);
  const auto place = [&](int64_t b) {
    return last / (kBlocks - 1) * b + last % (kBlocks - 1) * b / (kBlocks - 1);
  };
  if (file.size() == 0) return hash;
  for (int64_t b = 0; b < kBlocks; ++b) file.expect(place(b), kBlock);
  for (int64_t b = 0; b < kBlocks; ++b) {
    const int64_t n = std::min(kBlock, file.size() - place(b));
    hash = XXH64(file.bytes(place(b), n, room), static_cast<size_t>(n), hash);
  }
  return hash;
}

}  // namespace ft

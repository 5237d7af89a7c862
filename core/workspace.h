// What ops take for themselves beside their arguments: a CPU thread's workspaces, which live for as
// long as the thread and grow to the largest that any op asked for (cpu/common.h). A counting pass
// adds up the same without running.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace ft {

class WorkspaceNeed {
 public:
  static constexpr int kSlots = 16;

  // Bytes in a slot of the thread that hands out the work, or of each thread that does it.
  void main(int slot, int64_t bytes) { grow(main_, slot, bytes); }
  void each(int slot, int64_t bytes) { grow(each_, slot, bytes); }
  // Becomes enough for both.
  void add(const WorkspaceNeed& other) {
    for (int slot = 0; slot < kSlots; ++slot)
      main(slot, other.at(other.main_, slot)), each(slot, other.at(other.each_, slot));
  }
  int64_t total(int threads) const {
    int64_t sum = 0;
    for (int slot = 0; slot < kSlots; ++slot)
      sum += std::max(at(main_, slot), at(each_, slot)) + (threads - 1) * at(each_, slot);
    return sum;
  }

 private:
  using Slots = std::array<int64_t, kSlots>;
  static int64_t at(const Slots& slots, int slot) { return slots[static_cast<size_t>(slot)]; }
  static void grow(Slots& slots, int slot, int64_t bytes) {
    int64_t& most = slots[static_cast<size_t>(slot)];
    most = std::max(most, bytes);
  }
  Slots main_{}, each_{};
};

}  // namespace ft

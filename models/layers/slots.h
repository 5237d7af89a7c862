// Planned memory of what backward needs. A layer declares its slots once, in one function that
// serves the plan (every slot at its largest) and the run (views of the micro-batch's size).
#pragma once

#include "core/memory.h"

#include <map>
#include <string>
#include <vector>

namespace ft {

enum class Recompute : uint8_t { None, Selective, Full };

// When a slot's memory is shared by all blocks and refilled by replay: Cheap ones (norms, conv,
// products) from `selective` on, the rest of a block under `full`.
enum class Fate : uint8_t { Cheap, Block };

// Tokens of a micro-batch: B sequences of equal length.
struct Extent {
  int64_t sequences = 0;
  int64_t length = 0;
  int64_t tokens() const { return sequences * length; }
};

// A piece of memory behind a slot.
struct Place {
  void* memory = nullptr;
  int64_t bytes = 0;  // what lies behind `memory`; while planning: the largest wish so far
};

// Slots that are not kept: one set for all blocks, by name. Blocks of a pattern differ, so memory
// is taken when all have said what they need.
class SharedSlots {
 public:
  Place* want(const std::string& name, int64_t bytes);  // stays where it is
  void allocate(Memory& memory);                        // once, after the last want()

 private:
  std::map<std::string, Place> places_;
  bool allocated_ = false;
};

// Memory behind the slots of one block, in order of declaration.
class SlotBank {
 public:
  SlotBank(Memory& memory, SharedSlots& shared, Recompute policy)
      : memory_(&memory), shared_(&shared), policy_(policy) {}

  // A view of slot number `next` with this extent's shape; the first walk (planning) reserves the
  // memory, and its views of shared slots have none yet. Throws where the memory is too small.
  Slot slot(const std::string& name, Fate fate, Dtype dtype, std::initializer_list<int64_t> shape);
  void rewind() { next_ = 0; }

 private:
  struct Entry {
    Place own;      // where the slot is kept
    Place* shared;  // else
  };
  Memory* memory_;
  SharedSlots* shared_;
  Recompute policy_;
  size_t next_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace ft

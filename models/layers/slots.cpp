#include "models/layers/slots.h"

#include <algorithm>

namespace ft {

Place* SharedSlots::want(const std::string& name, int64_t bytes) {
  FT_CHECK(!allocated_, "slot {} is planned after the memory of shared slots was taken", name);
  Place& place = places_[name];
  place.bytes = std::max(place.bytes, bytes);
  return &place;
}

void SharedSlots::allocate(Memory& memory) {
  for (auto& [name, place] : places_)
    place.memory = memory.bytes("activations (shared by blocks)", place.bytes);
  allocated_ = true;
}

Slot SlotBank::slot(const std::string& name, Fate fate, Dtype dtype,
                    std::initializer_list<int64_t> shape) {
  Slot slot;
  slot.tensor = Tensor(nullptr, dtype, shape);
  const int64_t bytes = slot.tensor.bytes();
  if (next_ == entries_.size()) {
    const bool kept =
        policy_ == Recompute::None || (policy_ == Recompute::Selective && fate == Fate::Block);
    if (kept) entries_.push_back({{memory_->bytes("activations", bytes), bytes}, nullptr});
    else entries_.push_back({{}, shared_->want(name, bytes)});
  }
  const Entry& entry = entries_[next_++];
  const Place& place = entry.shared ? *entry.shared : entry.own;
  FT_CHECK(bytes <= place.bytes,
           "slot {}: {} bytes are wanted and {} were planned: the run differs from its plan", name,
           bytes, place.bytes);
  slot.tensor.data = place.memory;
  slot.kept = !entry.shared;
  return slot;
}

}  // namespace ft

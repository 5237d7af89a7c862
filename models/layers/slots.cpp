#include "models/layers/slots.h"

namespace ft {

Slot SlotBank::slot(const std::string& name, Fate fate, Dtype dtype,
                    std::initializer_list<int64_t> shape) {
  Slot slot;
  slot.tensor = Tensor(nullptr, dtype, shape);
  if (next_ == places_.size()) {
    const bool kept =
        policy_ == Recompute::None || (policy_ == Recompute::Selective && fate == Fate::Block);
    void* memory = nullptr;
    if (kept) {
      memory = memory_->bytes("activations", slot.tensor.bytes());
    } else {
      const auto [at, fresh] = shared_->try_emplace(name, nullptr);
      if (fresh) at->second = memory_->bytes("activations (shared by blocks)", slot.tensor.bytes());
      memory = at->second;
    }
    places_.push_back({memory, kept, slot.tensor.bytes()});
  }
  const Place& place = places_[next_++];
  FT_CHECK(slot.tensor.bytes() <= place.capacity, "slot {} was planned with {} bytes, not {}", name,
           place.capacity, slot.tensor.bytes());
  slot.tensor.data = place.memory;
  slot.kept = place.kept;
  return slot;
}

}  // namespace ft

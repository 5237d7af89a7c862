#include "core/memory.h"

#include <algorithm>

namespace ft {

namespace {
constexpr int64_t kAlign = 128;
int64_t align(int64_t bytes) {
  return (std::max<int64_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
}
}  // namespace

Memory::~Memory() {
  if (!blocks_.empty()) device_.synchronize({});  // work may still use them
  for (void* block : blocks_) device_.release(block);
}

void* Memory::bytes(const std::string& segment, int64_t size) {
  const int64_t padded = align(size);
  auto at = std::find_if(ledger_.begin(), ledger_.end(),
                         [&](const auto& e) { return e.first == segment; });
  if (at == ledger_.end()) at = ledger_.insert(ledger_.end(), {segment, 0});
  at->second += padded;
  if (virtual_) return nullptr;
  blocks_.push_back(device_.allocate(static_cast<size_t>(padded)));
  return blocks_.back();
}

Tensor Memory::make(const std::string& segment, Dtype dtype, std::initializer_list<int64_t> shape) {
  Tensor tensor(nullptr, dtype, shape);
  tensor.data = bytes(segment, tensor.bytes());
  return tensor;
}

int64_t Memory::total() const {
  int64_t sum = 0;
  for (const auto& [name, size] : ledger_) sum += size;
  return sum;
}

int64_t Scratch::take(int64_t bytes) {
  const int64_t size = align(bytes);
  int64_t offset = 0;
  for (const auto& [begin, length] : used_) {
    if (begin - offset >= size) break;
    offset = begin + length;
  }
  FT_CHECK(capacity_ < 0 || offset + size <= capacity_,
           "scratch of {} bytes is too small for {} more at {}: the run differs from its plan",
           capacity_, size, offset);
  used_[offset] = size;
  high_water_ = std::max(high_water_, offset + size);
  return offset;
}

void Scratch::give(int64_t offset) {
  if (forks_ > 0) {
    deferred_.push_back(offset);
  } else {
    used_.erase(offset);
  }
}

void Scratch::close_fork() {
  if (--forks_ > 0) return;
  for (int64_t offset : deferred_) used_.erase(offset);
  deferred_.clear();
}

Temp::Temp(Scratch& scratch, Dtype dtype, std::initializer_list<int64_t> shape)
    : scratch_(&scratch), tensor_(nullptr, dtype, shape) {
  offset_ = scratch.take(tensor_.bytes());
  tensor_.data = scratch.at(offset_);
}

Temp::Temp(Temp&& other) noexcept
    : scratch_(other.scratch_), offset_(other.offset_), tensor_(other.tensor_) {
  other.scratch_ = nullptr;
}

Temp::~Temp() {
  if (scratch_) scratch_->give(offset_);
}

}  // namespace ft

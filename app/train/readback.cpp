#include "app/train/readback.h"

#include <utility>

namespace ft {

Readback::Readback(Device& device, std::vector<Tensor> tensors)
    : device_(device), tensors_(std::move(tensors)) {
  for (const Tensor& t : tensors_)
    host_.push_back(device_.allocate_host(static_cast<size_t>(t.bytes())));
}

Readback::~Readback() {
  for (void* memory : host_) device_.release_host(memory);
}

void Readback::start() {
  for (size_t i = 0; i < tensors_.size(); ++i)
    device_.copy(host_[i], tensors_[i].data, static_cast<size_t>(tensors_[i].bytes()), {});
}

std::vector<double> Readback::values(size_t i) const {
  const int64_t n = tensors_[i].size();
  if (tensors_[i].dtype == Dtype::F64) {
    const auto* from = static_cast<const double*>(host_[i]);
    return {from, from + n};
  }
  FT_CHECK(tensors_[i].dtype == Dtype::F32, "{} is not read back", name_of(tensors_[i].dtype));
  const auto* from = static_cast<const float*>(host_[i]);
  return {from, from + n};
}

}  // namespace ft

#include "app/readback.h"

#include <utility>

namespace ft {

Readback::Readback(Device& device, std::vector<Tensor> tensors)
    : device_(device), tensors_(std::move(tensors)) {
  for (const Tensor& t : tensors_) host_.emplace_back(static_cast<size_t>(t.bytes()));
}

void Readback::start() {
  for (size_t i = 0; i < tensors_.size(); ++i)
    device_.copy(host_[i].data(), tensors_[i].data, host_[i].size(), {});
}

std::vector<double> Readback::values(size_t i) const {
  const int64_t n = tensors_[i].size();
  const void* host = host_[i].data();
  if (tensors_[i].dtype == Dtype::F64) {
    const auto* from = static_cast<const double*>(host);
    return {from, from + n};
  }
  FT_CHECK(tensors_[i].dtype == Dtype::F32, "{} is not read back", name_of(tensors_[i].dtype));
  const auto* from = static_cast<const float*>(host);
  return {from, from + n};
}

}  // namespace ft

#include "core/tensor.h"

namespace ft {

int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F64:
    case Dtype::I64:
      return 8;
    case Dtype::F32:
    case Dtype::I32:
      return 4;
    case Dtype::BF16:
    case Dtype::I16:
    case Dtype::U16:
      return 2;
    case Dtype::U8:
    case Dtype::I8:
      return 1;
  }
  throw Error("unknown dtype");
}

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
      return "fp32";
    case Dtype::BF16:
      return "bf16";
    case Dtype::F64:
      return "fp64";
    case Dtype::I32:
      return "int32";
    case Dtype::I64:
      return "int64";
    case Dtype::U8:
      return "uint8";
    case Dtype::I8:
      return "int8";
    case Dtype::I16:
      return "int16";
    case Dtype::U16:
      return "uint16";
  }
  return "?";
}

Tensor::Tensor(void* memory, Dtype type, std::initializer_list<int64_t> sizes)
    : data(memory), dtype(type), dims(static_cast<int>(sizes.size())) {
  FT_CHECK(dims <= kMaxDims, "a tensor has at most {} dimensions, not {}", kMaxDims, dims);
  int i = 0;
  for (int64_t n : sizes) shape[i++] = n;
  int64_t step = 1;
  for (i = dims - 1; i >= 0; --i) {
    stride[i] = step;
    step *= shape[i];
  }
}

int64_t Tensor::size() const {
  int64_t n = 1;
  for (int i = 0; i < dims; ++i) n *= shape[i];
  return n;
}

int64_t Tensor::bytes() const { return size() * size_of(dtype); }

bool Tensor::dense() const {
  int64_t step = 1;
  for (int i = dims - 1; i >= 0; --i) {
    if (shape[i] != 1 && stride[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

Tensor Tensor::columns(int64_t begin, int64_t end) const {
  FT_CHECK(dims == 2 && begin >= 0 && begin <= end && end <= shape[1],
           "columns [{}, {}) of a tensor with {} dims and {} columns", begin, end, dims, cols());
  Tensor t = *this;
  if (data) t.data = static_cast<char*>(data) + begin * stride[1] * size_of(dtype);
  t.shape[1] = end - begin;
  return t;
}

Tensor Tensor::row_range(int64_t begin, int64_t end) const {
  FT_CHECK(dims >= 1 && begin >= 0 && begin <= end && end <= shape[0],
           "rows [{}, {}) of a tensor with {} rows", begin, end, shape[0]);
  Tensor t = *this;
  if (data) t.data = static_cast<char*>(data) + begin * stride[0] * size_of(dtype);
  t.shape[0] = end - begin;
  return t;
}

Tensor Tensor::view(std::initializer_list<int64_t> sizes) const {
  FT_CHECK(dense(), "only dense memory can change its shape");
  Tensor t(data, dtype, sizes);
  FT_CHECK(t.size() == size(), "view of {} elements as {}", size(), t.size());
  return t;
}

}  // namespace ft

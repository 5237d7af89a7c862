// Tensor: a view of memory, passed by value. It owns nothing; whoever made the memory keeps it
// alive. Dims in comments: T tokens (all sequences of a micro-batch, flattened), B sequences, H
// heads, P head dim, N state, G groups, V vocabulary, C channels.
#pragma once

#include "core/check.h"

#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

namespace ft {

enum class Dtype : uint8_t { F32, BF16, F64, I32, I64, U8, I8, I16, U16 };

int64_t size_of(Dtype dtype);      // bytes of one element
const char* name_of(Dtype dtype);  // "fp32", "bf16", ...

// bfloat16: the upper half of a float, rounded to nearest even.
struct bf16 {
  uint16_t bits;
  bf16() = default;
  explicit bf16(float value) {
    uint32_t u = std::bit_cast<uint32_t>(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? static_cast<uint16_t>((u >> 16) | 0x40u)
               : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

// Checked conversion between integer types.
template <class To, class From>
To narrow(From value) {
  const auto out = static_cast<To>(value);
  FT_CHECK(static_cast<From>(out) == value && (out < To{}) == (value < From{}),
           "number {} does not fit in {} bytes", value, sizeof(To));
  return out;
}

// A strided view of up to four dimensions; strides count elements. The last dimension is dense
// unless a view says otherwise; ops ask for what they need.
struct Tensor {
  static constexpr int kMaxDims = 4;

  void* data = nullptr;
  Dtype dtype = Dtype::F32;
  int dims = 0;
  std::array<int64_t, kMaxDims> shape{};
  std::array<int64_t, kMaxDims> stride{};

  Tensor() = default;
  Tensor(void* memory, Dtype type, std::initializer_list<int64_t> sizes);  // dense

  int64_t size() const;   // elements
  int64_t bytes() const;  // size() * element size
  bool dense() const;     // no gaps: one run of memory
  int64_t rows() const { return shape[0]; }
  int64_t cols() const { return dims > 1 ? shape[1] : 1; }

  // Views. columns/row_range keep the dims, view changes the shape of dense memory.
  Tensor columns(int64_t begin, int64_t end) const;    // [:, begin:end] of a 2-D tensor
  Tensor row_range(int64_t begin, int64_t end) const;  // [begin:end, ...]
  Tensor view(std::initializer_list<int64_t> sizes) const;

  // Typed access; throws where the dtype differs.
  template <class E>
  E* ptr() const;
  float* f32() const { return ptr<float>(); }
  int32_t* i32() const { return ptr<int32_t>(); }
};

template <class E>
constexpr Dtype dtype_of();
template <>
constexpr Dtype dtype_of<float>() {
  return Dtype::F32;
}
template <>
constexpr Dtype dtype_of<bf16>() {
  return Dtype::BF16;
}
template <>
constexpr Dtype dtype_of<double>() {
  return Dtype::F64;
}
template <>
constexpr Dtype dtype_of<int32_t>() {
  return Dtype::I32;
}
template <>
constexpr Dtype dtype_of<int64_t>() {
  return Dtype::I64;
}
template <>
constexpr Dtype dtype_of<uint8_t>() {
  return Dtype::U8;
}
template <>
constexpr Dtype dtype_of<int8_t>() {
  return Dtype::I8;
}
template <>
constexpr Dtype dtype_of<int16_t>() {
  return Dtype::I16;
}
template <>
constexpr Dtype dtype_of<uint16_t>() {
  return Dtype::U16;
}

template <class E>
E* Tensor::ptr() const {
  FT_CHECK(dtype == dtype_of<std::remove_const_t<E>>(), "tensor holds {}, not {}", name_of(dtype),
           name_of(dtype_of<std::remove_const_t<E>>()));
  return static_cast<E*>(data);
}

// Planned memory of a value that backward needs. `kept` = it survives until backward; otherwise its
// memory is shared by all blocks and a replay of forward fills it again (see core/context.h).
struct Slot {
  Tensor tensor;
  bool kept = true;
  operator const Tensor&() const { return tensor; }
  Slot columns(int64_t begin, int64_t end) const { return {tensor.columns(begin, end), kept}; }
};

// Arguments of ops. None has a default constructor, so a forgotten argument does not compile.
struct In : Tensor {
  In(const Tensor& t) : Tensor(t) {}
  In(const Slot& s) : Tensor(s.tensor) {}
};
struct Out : Tensor {
  bool kept = false;
  Out(const Tensor& t) : Tensor(t) {}
  Out(const Slot& s) : Tensor(s.tensor), kept(s.kept) {}
};
// Read and written in place. Its fate is that of its storage: a replay leaves a kept one alone.
struct InOut : Out {
  using Out::Out;
};

// What a gradient op does with its output.
enum class Grad : uint8_t { Overwrite, Accumulate };

}  // namespace ft

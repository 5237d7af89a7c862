// What the check() of an op is made of. Each function looks at one argument and throws what it
// holds and what is wanted; the gateway, which runs check() before any kernel, adds layer and op:
//   model.layers.3: ssd: b is bf16 [128, 96], wanted fp32 [128, 64]
#pragma once

#include "core/tensor.h"

#include <initializer_list>
#include <optional>
#include <string>

namespace ft::ops {

// The dtypes that an argument may have.
class Dtypes {
 public:
  constexpr Dtypes(Dtype one) : set_(1u << static_cast<unsigned>(one)) {}
  constexpr Dtypes operator|(Dtypes other) const { return Dtypes(set_ | other.set_); }
  bool contains(Dtype dtype) const { return set_ >> static_cast<unsigned>(dtype) & 1u; }
  std::string text() const;  // "fp32 or bf16"

 private:
  explicit constexpr Dtypes(unsigned set) : set_(set) {}
  unsigned set_;
};
inline constexpr Dtypes kF32 = Dtype::F32, kF64 = Dtype::F64, kI32 = Dtype::I32;
inline constexpr Dtypes kFloat = kF32 | Dtype::BF16;  // of activations

inline constexpr int64_t kAny = -1;  // an extent that nothing else says

using Extents = std::initializer_list<int64_t>;

// This shape with dense columns; rows may lie apart.
void check_rows(const char* name, const Tensor& t, Dtypes dtypes, Extents shape);
// This shape in one run of memory.
void check_dense(const char* name, const Tensor& t, Dtypes dtypes, Extents shape);

// One or two dims with dense columns; and the shape of another argument that is so.
void check_matrix(const char* name, const Tensor& t, Dtypes dtypes);
void check_same(const char* name, const Tensor& t, Dtypes dtypes, const Tensor& other);

// The same where the argument is present.
template <class T>
void check_rows(const char* name, const std::optional<T>& t, Dtypes dtypes, Extents shape) {
  if (t) check_rows(name, *t, dtypes, shape);
}
template <class T>
void check_dense(const char* name, const std::optional<T>& t, Dtypes dtypes, Extents shape) {
  if (t) check_dense(name, *t, dtypes, shape);
}

// An argument that comes with another one, or not at all.
void check_goes_with(const char* name, bool present, const char* other, bool other_present);

// Tokens are sequences of equal length.
void check_sequences(int64_t tokens, int64_t sequences);

}  // namespace ft::ops

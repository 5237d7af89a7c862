// What the op structs of core/ops/ are made of; core/ops.h has the conventions.
#pragma once

#include "core/ops/check.h"
#include "core/tensor.h"

// Every op has: kName; args(f), which calls f(name, argument) for each present argument; check(),
// which throws where dtypes or shapes do not fit together, and reads no data; flops().
// One that reads or writes part of an argument also has touched(), the bytes that move. Those that
// make up a model's FLOPs by the usual convention (matrix products, attention, the scan) also have
// model_flops(): without what only alignment adds.

#define FT_OP(name)                          \
  static constexpr const char* kName = name; \
  template <class F>                         \
  void args(F&& f) const
#define FT_OPTIONAL(field) \
  if (field) f(#field, *(field))

// Arguments that an op and its gradient share are a struct of their own, their member `in`.
#define FT_INPUTS    \
  template <class F> \
  void args(F&& f) const

// One table of dtypes.
#pragma once

#include "core/tensor.h"

namespace ft {

struct Precision {
  Dtype compute = Dtype::F32;   // matrices and activations: fp32 or bf16
  Dtype residual = Dtype::F32;  // the residual stream and its gradient
  // Always fp32: master weights, gradients in accumulation, optimizer moments, checkpoints,
  // exports.
};

}  // namespace ft

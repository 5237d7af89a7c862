// Matrix products on our own kernels.
#pragma once

#include "core/ops.h"

namespace ft::cpu {

// op.y = alpha op(a) op(b) + residual + y where it accumulates. fp32 and bf16, gathered in fp32.
// Every element is summed in an order that depends on K alone.
void multiply_panels(const ops::Gemm& op);
void need_of_panels(const ops::Gemm& op, WorkspaceNeed& n);

}  // namespace ft::cpu

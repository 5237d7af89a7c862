// Matrix products on our own kernels.
#pragma once

#include "core/ops.h"
#include "cpu/gemm/pair_kernels.h"

namespace ft::cpu {

// op.y = alpha op(a) op(b) + residual + y where it accumulates. fp32 and bf16, gathered in fp32.
// Every element is summed in an order that depends on K alone.
void multiply_packed(const ops::Gemm& op, const MicroKernels& kernels = micro_kernels());
void need_of_packed(const ops::Gemm& op, WorkspaceNeed& n);
// The same of bf16 operands on the processor's bf16 products.
void multiply_pairs(const ops::Gemm& op, const PairKernels& kernels);
void need_of_pairs(const ops::Gemm& op, const PairKernels& kernels, WorkspaceNeed& n);

}  // namespace ft::cpu

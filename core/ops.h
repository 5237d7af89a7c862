// SEAM 2: the mathematics. Every op is a struct of named arguments, declared once, in core/ops/: a
// header for each family of ops, whose name its sources and tests share.
// cpu/*.cpp (and cuda/*.cu) define `template <> void run(const ops::X&, Stream)`; code above the
// seam hands ops to the gateway (core/context.h) and never calls run() itself.
//
// Conventions
//  * T = tokens of a micro-batch: B sequences of equal length, one after another. Activations are
//    [T, columns], row stride free (column views of merged projections), columns dense.
//  * docs [T] int32: where the token's document starts, as a token index of the same numbering. It
//    is below the sequence's first token when the document began in an earlier slice (carried
//    state). Position in the document = t - docs[t]. Documents never cross a sequence start else.
//  * Activation dtype is fp32 or bf16; statistics, states, weights' gradients and everything marked
//    f32 are fp32 whatever the activations are. Outputs and inputs of one kind share a dtype.
//  * Weight gradients honour Grad (overwrite or accumulate); activation gradients overwrite.
//  * Reductions have a fixed order that depends on shapes only, never on the number of threads.
#pragma once

#include "core/device.h"
#include "core/ops/attention.h"
#include "core/ops/conv.h"
#include "core/ops/copy.h"
#include "core/ops/embedding.h"
#include "core/ops/linear.h"
#include "core/ops/loss.h"
#include "core/ops/mlp.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/reduce.h"
#include "core/ops/ssd.h"
#include "core/workspace.h"

#include <type_traits>

namespace ft::ops {

// All ops: the gateway takes no other, and the tests want each of them.
template <class... Op>
struct List {
  template <class T>
  static constexpr bool has = (std::is_same_v<T, Op> || ...);
  // f(std::type_identity<Op>) for each.
  template <class F>
  static void each(F&& f) {
    (f(std::type_identity<Op>{}), ...);
  }
};
using All = List<Gemm, AddBias, AddBiasGrad, Embedding, EmbeddingGrad, RmsNorm, RmsNormGrad,
                 GatedNorm, GatedNormGrad, Conv1d, Conv1dGrad, Ssd, SsdGrad, DtPeak, RopeTable,
                 Rope, Attention, AttentionGrad, SwiGlu, SwiGluGrad, CrossEntropy, Sum, AbsMax,
                 SumByRow, SumSquares, ComputeCopies, StepVerdict, AdamW, Copy, Add, Fill>;

}  // namespace ft::ops

namespace ft {
namespace cpu {
template <class Op>
void run(const Op& op, Stream stream);
// The workspaces that run() will take for arguments of these shapes, on as many threads as OpenMP
// uses now. Reads no data.
template <class Op>
void need(const Op& op, WorkspaceNeed& n);
}  // namespace cpu
namespace cuda {
template <class Op>
void run(const Op& op, Stream stream);
template <class Op>
void need(const Op& op, WorkspaceNeed& n);
}  // namespace cuda
}  // namespace ft

// Rows of a table by token id, and the gradient of the table in token order.
#include "cpu/common.h"

namespace ft::cpu {

namespace {
// Columns that a task owns, so that each row of the table is summed in token order.
constexpr int64_t kColumns = 64;
}  // namespace

template <>
void need(const ops::Embedding& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, op.y.cols());
}

template <>
void run(const ops::Embedding& op, Stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
  const int32_t* ids = op.ids.i32();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t) {
    float* x = workspace_f32(kRowA, C);
    load(op.weight, ids[t], C, x);
    for (int64_t i = 0; i < C; ++i) x[i] *= op.scale;
    store(op.y, t, C, x);
  }
}

template <>
void need(const ops::EmbeddingGrad&, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, kColumns);
}

template <>
void run(const ops::EmbeddingGrad& op, Stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols(), V = op.dweight.rows();
  const int32_t* ids = op.ids.i32();
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < blocks_of(C, kColumns); ++task) {
    const int64_t begin = task * kColumns, n = std::min(kColumns, C - begin);
    float* x = workspace_f32(kRowA, kColumns);
    if (op.grad == Grad::Overwrite)
      for (int64_t v = 0; v < V; ++v) std::fill_n(row<float>(op.dweight, v) + begin, n, 0.0f);
    const Tensor dy = op.dy.columns(begin, begin + n);
    for (int64_t t = 0; t < T; ++t) {
      if (ids[t] == op.padding_id) continue;
      load(dy, t, n, x);
      float* to = row<float>(op.dweight, ids[t]) + begin;
      for (int64_t i = 0; i < n; ++i) to[i] += op.scale * x[i];
    }
  }
}

}  // namespace ft::cpu

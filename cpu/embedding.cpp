// Rows of a table by token id, and the gradient of the table in token order.
#include "cpu/common.h"

namespace ft::cpu {

namespace {
// Columns that a task owns, so that each row of the table is summed in token order.
constexpr int64_t kColumns = 64;

// Before anything is read or written behind the table.
const int32_t* checked_ids(const Tensor& ids, int64_t rows) {
  const int32_t* id = ids.i32();
  for (int64_t t = 0; t < ids.size(); ++t)
    FT_CHECK(id[t] >= 0 && id[t] < rows, "id {} of token {} is outside the table of {} rows", id[t],
             t, rows);
  return id;
}
}  // namespace

template <>
void need(const ops::Embedding& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, op.y.cols());
}

template <>
void run(const ops::Embedding& op, Stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
  const int32_t* ids = checked_ids(op.ids, op.weight.rows());
  parallel_for(T, [&](int64_t t) {
    float* x = workspace_f32(kRowA, C);
    load(op.weight, ids[t], C, x);
    for (int64_t i = 0; i < C; ++i) x[i] *= op.scale;
    store(op.y, t, C, x);
  });
}

template <>
void need(const ops::EmbeddingGrad&, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, kColumns);
}

template <>
void run(const ops::EmbeddingGrad& op, Stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols(), V = op.dweight.rows();
  const int32_t* ids = checked_ids(op.ids, V);
  parallel_for(blocks_of(C, kColumns), [&](int64_t task) {
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
  });
}

}  // namespace ft::cpu

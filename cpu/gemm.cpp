// Matrix products: fixed tiles of the output, one single-threaded library call a tile, our own threads over tiles.
// So the result does not depend on the number of threads.
#include "cpu/common.h"

#ifdef FT_GEMM_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#else
#include <cblas.h>
#endif

namespace ft::cpu {

namespace {

constexpr int64_t kTileSize = 256;

// A matrix of fp32 with a row stride.
struct Matrix {
  const float* data;
  int64_t stride;
};

// The operand itself, or a widened copy of it.
Matrix widened(const Tensor& t, int slot) {
  if (t.dtype == Dtype::F32) return {t.f32(), t.stride[0]};
  FT_CHECK(t.dtype == Dtype::BF16, "gemm takes fp32 and bf16, not {}", name_of(t.dtype));
  float* wide = workspace_f32(slot, t.size());
  const int64_t rows = t.rows(), cols = t.cols();
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) load(t, r, cols, wide + r * cols);
  return {wide, cols};
}

// c[m, n] = alpha op(a) op(b) + beta c, row-major.
void product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, Matrix a, Matrix b, float beta,
             float* c, int64_t c_stride) {
#ifdef FT_GEMM_ONEDNN
  const dnnl_status_t status = dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, a.data, a.stride,
                                          b.data, b.stride, beta, c, c_stride);
  FT_CHECK(status == dnnl_success, "oneDNN refused a product of {} x {} x {} (status {})", m, n, k,
           static_cast<int>(status));
#else
  cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, narrow<int>(m),
              narrow<int>(n), narrow<int>(k), alpha, a.data, narrow<int>(a.stride), b.data, narrow<int>(b.stride), beta,
              c, narrow<int>(c_stride));
#endif
}

}  // namespace

template <>
void run(const ops::Gemm& op, Stream) {
  const int64_t M = op.y.rows(), N = op.y.cols(), K = op.trans_a ? op.a.rows() : op.a.cols();
  const int64_t b_k = op.trans_b ? op.b.cols() : op.b.rows(), b_n = op.trans_b ? op.b.rows() : op.b.cols();
  FT_CHECK((op.trans_a ? op.a.cols() : op.a.rows()) == M && b_k == K && b_n == N && op.a.dtype == op.b.dtype,
           "gemm: y [{}, {}], a [{}, {}]{}, b [{}, {}]{}", M, N, op.a.rows(), op.a.cols(), op.trans_a ? "^T" : "",
           op.b.rows(), op.b.cols(), op.trans_b ? "^T" : "");
  const Matrix a = widened(op.a, kWideA), b = widened(op.b, kWideB);
  const bool direct = op.y.dtype == Dtype::F32, accumulate = op.grad == Grad::Accumulate;
  const int64_t tiles_m = blocks_of(M, kTileSize), tiles_n = blocks_of(N, kTileSize);
#ifndef FT_GEMM_ONEDNN
  openblas_set_num_threads(1);
#endif
#pragma omp parallel for schedule(static)
  for (int64_t tile = 0; tile < tiles_m * tiles_n; ++tile) {
    const int64_t m0 = tile / tiles_n * kTileSize, n0 = tile % tiles_n * kTileSize;
    const int64_t m = std::min(kTileSize, M - m0), n = std::min(kTileSize, N - n0);
    float* c = direct ? row<float>(op.y, m0) + n0 : workspace_f32(kTile, kTileSize * kTileSize);
    const int64_t stride = direct ? op.y.stride[0] : n;
    float* line = workspace_f32(kRowA, kTileSize);
    // What is added to the product goes into the tile first.
    const bool adds = accumulate || op.residual;
    for (int64_t r = 0; adds && r < m; ++r) {
      const Tensor& first = accumulate ? static_cast<const Tensor&>(op.y) : *op.residual;
      if (!direct || !accumulate) load(first.columns(n0, n0 + n), m0 + r, n, c + r * stride);
      if (accumulate && op.residual) {
        load(op.residual->columns(n0, n0 + n), m0 + r, n, line);
        for (int64_t i = 0; i < n; ++i) c[r * stride + i] += line[i];
      }
    }
    const Matrix at{op.trans_a ? a.data + m0 : a.data + m0 * a.stride, a.stride};
    const Matrix bt{op.trans_b ? b.data + n0 * b.stride : b.data + n0, b.stride};
    product(op.trans_a, op.trans_b, m, n, K, op.alpha, at, bt, adds ? 1.0f : 0.0f, c, stride);
    for (int64_t r = 0; !direct && r < m; ++r) store(op.y.columns(n0, n0 + n), m0 + r, n, c + r * stride);
  }
}

}  // namespace ft::cpu

// Matrix products. Those of few rows, which do not pay for packing: fixed tiles of the output, one
// single-threaded library call a tile, our own threads over tiles, so that the result does not
// depend on the number of threads. All others: gemm/packed.h.
#include "cpu/common.h"
#include "cpu/gemm/packed.h"

#include <omp.h>

#include <atomic>

#ifdef FT_GEMM_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#else
#include <cblas.h>
#endif

namespace ft::cpu {

namespace {

constexpr int64_t kTileSize = 256;
constexpr int64_t kFewRows = 16;

// Part of the output.
struct Tile {
  int64_t m0, n0, m, n;
};

// A matrix of fp32 with a row stride.
struct Matrix {
  const float* data;
  int64_t stride;
};

// The operand itself, or a widened copy of it.
Matrix widened(const Tensor& t, int slot) {
  if (t.dtype == Dtype::F32) return {t.f32(), t.stride[0]};
  float* wide = workspace_f32(slot, t.size());
  const int64_t rows = t.rows(), cols = t.cols();
  parallel_for(rows, [&](int64_t r) { load(t, r, cols, wide + r * cols); });
  return {wide, cols};
}

// c[m, n] = alpha op(a) op(b) + beta c, row-major; false where the library refuses.
bool product(const ops::Gemm& op, const Tile& t, int64_t k, const float* a, int64_t a_stride,
             const float* b, int64_t b_stride, float beta, float* c, int64_t c_stride) {
#ifdef FT_GEMM_ONEDNN
  return dnnl_sgemm(op.trans_a ? 'T' : 'N', op.trans_b ? 'T' : 'N', t.m, t.n, k, op.alpha, a,
                    a_stride, b, b_stride, beta, c, c_stride) == dnnl_success;
#else
  cblas_sgemm(CblasRowMajor, op.trans_a ? CblasTrans : CblasNoTrans,
              op.trans_b ? CblasTrans : CblasNoTrans, static_cast<int>(t.m), static_cast<int>(t.n),
              narrow<int>(k), op.alpha, a, narrow<int>(a_stride), b, narrow<int>(b_stride), beta, c,
              narrow<int>(c_stride));
  return true;
#endif
}

bool tile_f32(const ops::Gemm& op, const Tile& t, int64_t k, Matrix a, Matrix b) {
  const bool direct = op.y.dtype == Dtype::F32, accumulate = op.grad == Grad::Accumulate;
  float* c = direct ? row<float>(op.y, t.m0) + t.n0 : workspace_f32(kTile, kTileSize * kTileSize);
  const int64_t stride = direct ? op.y.stride[0] : t.n;
  const Tensor y = op.y.columns(t.n0, t.n0 + t.n);
  // What is added to the product goes into the tile first.
  if (op.residual || (accumulate && !direct)) {
    const Tensor added = op.residual ? op.residual->columns(t.n0, t.n0 + t.n) : y;
    for (int64_t r = 0; r < t.m; ++r) load(added, t.m0 + r, t.n, c + r * stride);
  }
  const float* at = a.data + (op.trans_a ? t.m0 : t.m0 * a.stride);
  const float* bt = b.data + (op.trans_b ? t.n0 * b.stride : t.n0);
  const float beta = accumulate || op.residual ? 1.0f : 0.0f;
  if (!product(op, t, k, at, a.stride, bt, b.stride, beta, c, stride)) return false;
  for (int64_t r = 0; !direct && r < t.m; ++r) store(y, t.m0 + r, t.n, c + r * stride);
  return true;
}

const PairKernels* pairs_for(const ops::Gemm& op) {
  return op.a.dtype == Dtype::BF16 ? pair_kernels() : nullptr;
}

}  // namespace

template <>
void need(const ops::Gemm& op, WorkspaceNeed& n) {
  if (op.y.rows() >= kFewRows) {
    const PairKernels* pairs = pairs_for(op);
    return pairs ? need_of_pairs(op, *pairs, n) : need_of_packed(op, n);
  }
  if (op.a.dtype != Dtype::F32) {
    main_f32(n, kWideA, op.a.size());
    main_f32(n, kWideB, op.b.size());
  }
  if (op.y.dtype != Dtype::F32) each_f32(n, {kTile}, kTileSize * kTileSize);
}

template <>
void run(const ops::Gemm& op, Stream) {
  const int64_t M = op.y.rows(), N = op.y.cols(), K = op.trans_a ? op.a.rows() : op.a.cols();
  if (M >= kFewRows) {
    const PairKernels* pairs = pairs_for(op);
    return pairs ? multiply_pairs(op, *pairs) : multiply_packed(op);
  }
  const Matrix a = widened(op.a, kWideA), b = widened(op.b, kWideB);
  const int64_t tiles_m = blocks_of(M, kTileSize), tiles_n = blocks_of(N, kTileSize);
#ifndef FT_GEMM_ONEDNN
  openblas_set_num_threads(1);
#endif
  std::atomic<bool> refused = false;
  Thrown thrown;
#pragma omp parallel
  {
    omp_set_num_threads(
        1);  // of this thread until the region ends: the library plans for the threads it may use
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tiles_m * tiles_n; ++i) {
      const int64_t m0 = i / tiles_n * kTileSize, n0 = i % tiles_n * kTileSize;
      const Tile tile{m0, n0, std::min(kTileSize, M - m0), std::min(kTileSize, N - n0)};
      thrown.guard(i, [&] {
        if (!tile_f32(op, tile, K, a, b)) refused = true;
      });
    }
  }
  thrown.rethrow();
  FT_CHECK(!refused,
           "the matrix library refused a product of {} x {} x {} ({}); check its installation", M,
           N, K, name_of(op.a.dtype));
}

namespace {

FT_VECTOR void add_scaled(float* y, const float* x, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += scale * x[i];
}

}  // namespace

template <>
void need(const ops::AddBias& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, op.y.cols());
}

template <>
void run(const ops::AddBias& op, Stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
  const float* bias = op.bias.f32();
  parallel_for(T, [&](int64_t t) {
    float* y = workspace_f32(kRowA, C);
    load(op.y, t, C, y);
    add_scaled(y, bias, C, op.scale);
    store(op.y, t, C, y);
  });
}

template <>
void need(const ops::AddBiasGrad& op, WorkspaceNeed& n) {
  main_f32(n, kPartials, blocks_of(op.dy.rows(), kReduceBlock) * op.dy.cols());
  each_f32(n, {kRowA}, op.dy.cols());
}

template <>
void run(const ops::AddBiasGrad& op, Stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols(), blocks = blocks_of(T, kReduceBlock);
  float* partial = workspace_f32(kPartials, blocks * C);
  for_blocks(T, [&](int64_t block, int64_t begin, int64_t end) {
    float *dy = workspace_f32(kRowA, C), *sum = partial + block * C;
    std::fill_n(sum, C, 0.0f);
    for (int64_t t = begin; t < end; ++t) {
      load(op.dy, t, C, dy);
      add_scaled(sum, dy, C, 1.0f);
    }
  });
  fold(partial, blocks, C, op.grad, op.scale, op.dbias.f32());
}

}  // namespace ft::cpu

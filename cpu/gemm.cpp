// Matrix products: fixed tiles of the output, one single-threaded library call a tile, our own
// threads over tiles. So the result does not depend on the number of threads.
#include "cpu/common.h"
#include "cpu/gemm_panels.h"

#include <omp.h>

#include <atomic>

#ifdef FT_GEMM_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>

#include <map>
#include <tuple>
#else
#include <cblas.h>
#endif

namespace ft::cpu {

namespace {

constexpr int64_t kTileSize = 256;
constexpr int64_t kFewRows = 16;  // fewer would not pay for packing the right factor

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
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) load(t, r, cols, wide + r * cols);
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
  if (accumulate && !direct)
    for (int64_t r = 0; r < t.m; ++r) load(y, t.m0 + r, t.n, c + r * stride);
  if (op.residual) {
    const Tensor residual = op.residual->columns(t.n0, t.n0 + t.n);
    float* line = workspace_f32(kRowA, kTileSize);
    for (int64_t r = 0; r < t.m; ++r) {
      load(residual, t.m0 + r, t.n, line);
      float* to = c + r * stride;
      for (int64_t i = 0; i < t.n; ++i) to[i] = accumulate ? to[i] + line[i] : line[i];
    }
  }
  const float* at = a.data + (op.trans_a ? t.m0 : t.m0 * a.stride);
  const float* bt = b.data + (op.trans_b ? t.n0 * b.stride : t.n0);
  const float beta = accumulate || op.residual ? 1.0f : 0.0f;
  if (!product(op, t, k, at, a.stride, bt, b.stride, beta, c, stride)) return false;
  for (int64_t r = 0; !direct && r < t.m; ++r) store(y, t.m0 + r, t.n, c + r * stride);
  return true;
}

#ifdef FT_GEMM_ONEDNN

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// c [m, n] fp32, dense = op(a) op(b) of bf16, made once per thread and shape: making one takes
// longer than running it.
class Bf16Product {
 public:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, bool,
                         bool>;  // m n k, strides, transposed

  explicit Bf16Product(const Key& key) {
    const auto [m, n, k, a_stride, b_stride, trans_a, trans_b] = key;
    using dnnl::memory;
    const auto desc = [](int64_t rows, int64_t cols, int64_t stride, bool transposed) {
      const memory::dims strides = transposed ? memory::dims{1, stride} : memory::dims{stride, 1};
      return memory::desc({rows, cols}, memory::data_type::bf16, strides);
    };
    const memory::desc a = desc(m, k, a_stride, trans_a), b = desc(k, n, b_stride, trans_b);
    const memory::desc c({m, n}, memory::data_type::f32, memory::dims{n, 1});
#if DNNL_VERSION_MAJOR >= 3
    call_ = dnnl::matmul(dnnl::matmul::primitive_desc(engine(), a, b, c));
#else
    call_ = dnnl::matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, c), engine()));
#endif
    args_ = {{DNNL_ARG_SRC, memory(a, engine(), nullptr)},
             {DNNL_ARG_WEIGHTS, memory(b, engine(), nullptr)},
             {DNNL_ARG_DST, memory(c, engine(), nullptr)}};
  }

  void operator()(const bf16* a, const bf16* b, float* c) {
    args_.at(DNNL_ARG_SRC).set_data_handle(const_cast<bf16*>(a));
    args_.at(DNNL_ARG_WEIGHTS).set_data_handle(const_cast<bf16*>(b));
    args_.at(DNNL_ARG_DST).set_data_handle(c);
    call_.execute(stream_, args_);
    stream_.wait();
  }

  // This thread's product of that shape.
  static Bf16Product& of(const Key& key) {
    thread_local std::map<Key, Bf16Product> made;
    if (made.size() >= 1024 && !made.contains(key))
      made.clear();  // generation passes through many lengths
    return made.try_emplace(key, key).first->second;
  }

 private:
  dnnl::matmul call_;
  dnnl::stream stream_{engine()};
  std::unordered_map<int, dnnl::memory> args_;
};

bool tile_bf16(const ops::Gemm& op, const Tile& t, int64_t k) try {
  const int64_t a_stride = op.a.stride[0], b_stride = op.b.stride[0];
  const bf16* a = op.a.ptr<bf16>() + (op.trans_a ? t.m0 : t.m0 * a_stride);
  const bf16* b = op.b.ptr<bf16>() + (op.trans_b ? t.n0 * b_stride : t.n0);
  float* c = workspace_f32(kTile, kTileSize * kTileSize);
  Bf16Product::of({t.m, t.n, k, a_stride, b_stride, op.trans_a, op.trans_b})(a, b, c);
  const bool accumulate = op.grad == Grad::Accumulate;
  const Tensor y = op.y.columns(t.n0, t.n0 + t.n);
  float* line = workspace_f32(kRowA, kTileSize);
  for (int64_t r = 0; r < t.m; ++r) {
    float* to = c + r * t.n;
    if (op.alpha != 1.0f)
      for (int64_t i = 0; i < t.n; ++i) to[i] *= op.alpha;
    if (accumulate) {
      load(y, t.m0 + r, t.n, line);
      for (int64_t i = 0; i < t.n; ++i) to[i] += line[i];
    }
    if (op.residual) {
      load(op.residual->columns(t.n0, t.n0 + t.n), t.m0 + r, t.n, line);
      for (int64_t i = 0; i < t.n; ++i) to[i] += line[i];
    }
    store(y, t.m0 + r, t.n, to);
  }
  return true;
} catch (const dnnl::error&) {  // an exception may not leave a parallel region
  return false;
}

// Whether bf16 products are faster than widening: the processor has them and the library gets one
// right.
bool has_bf16() {
  static const bool works = [] {
    // Instruction sets are bit masks; those with AMX hold these bits too.
    const auto have = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto need = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
    if ((have & need) != need) return false;
    bf16 a[3 * 5], b[4 * 5];
    for (int i = 0; i < 3 * 5; ++i) a[i] = bf16(static_cast<float>(i - 7));
    for (int i = 0; i < 4 * 5; ++i) b[i] = bf16(static_cast<float>(3 - i));
    float c[3 * 4];
    try {
      Bf16Product({3, 4, 5, 5, 5, false, true})(a, b, c);
    } catch (const dnnl::error&) {
      return false;
    }
    for (int m = 0; m < 3; ++m)
      for (int n = 0; n < 4; ++n) {
        float sum = 0;
        for (int k = 0; k < 5; ++k) sum += to_float(a[m * 5 + k]) * to_float(b[n * 5 + k]);
        if (c[m * 4 + n] != sum) return false;  // small integers: exact
      }
    return true;
  }();
  return works;
}

#else

bool has_bf16() { return false; }
bool tile_bf16(const ops::Gemm&, const Tile&, int64_t) { return false; }

#endif

void check_shapes(const ops::Gemm& op, int64_t M, int64_t N, int64_t K) {
  const int64_t b_k = op.trans_b ? op.b.cols() : op.b.rows(),
                b_n = op.trans_b ? op.b.rows() : op.b.cols();
  FT_CHECK((op.trans_a ? op.a.cols() : op.a.rows()) == M && b_k == K && b_n == N &&
               op.a.dtype == op.b.dtype && K > 0,
           "gemm: y [{}, {}], a [{}, {}]{} of {}, b [{}, {}]{} of {} do not fit together", M, N,
           op.a.rows(), op.a.cols(), op.trans_a ? "^T" : "", name_of(op.a.dtype), op.b.rows(),
           op.b.cols(), op.trans_b ? "^T" : "", name_of(op.b.dtype));
  FT_CHECK(op.a.dtype == Dtype::F32 || op.a.dtype == Dtype::BF16,
           "gemm takes fp32 and bf16, not {}", name_of(op.a.dtype));
}

}  // namespace

template <>
void need(const ops::Gemm& op, WorkspaceNeed& n) {
  const bool narrow_product = op.a.dtype == Dtype::BF16 && has_bf16();
  if (!narrow_product && op.y.rows() >= kFewRows) return need_of_panels(op, n);
  if (!narrow_product && op.a.dtype != Dtype::F32) {
    main_f32(n, kWideA, op.a.size());
    main_f32(n, kWideB, op.b.size());
  }
  if (narrow_product || op.y.dtype != Dtype::F32) each_f32(n, {kTile}, kTileSize * kTileSize);
  if (narrow_product || op.residual) each_f32(n, {kRowA}, kTileSize);
}

template <>
void run(const ops::Gemm& op, Stream) {
  const int64_t M = op.y.rows(), N = op.y.cols(), K = op.trans_a ? op.a.rows() : op.a.cols();
  check_shapes(op, M, N, K);
  const bool narrow_product = op.a.dtype == Dtype::BF16 && has_bf16();
  if (!narrow_product && M >= kFewRows) return multiply_panels(op);
  const Matrix a = narrow_product ? Matrix{} : widened(op.a, kWideA);
  const Matrix b = narrow_product ? Matrix{} : widened(op.b, kWideB);
  const int64_t tiles_m = blocks_of(M, kTileSize), tiles_n = blocks_of(N, kTileSize);
#ifndef FT_GEMM_ONEDNN
  openblas_set_num_threads(1);
#endif
  std::atomic<bool> refused = false;
#pragma omp parallel
  {
    omp_set_num_threads(
        1);  // of this thread until the region ends: the library plans for the threads it may use
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tiles_m * tiles_n; ++i) {
      const int64_t m0 = i / tiles_n * kTileSize, n0 = i % tiles_n * kTileSize;
      const Tile tile{m0, n0, std::min(kTileSize, M - m0), std::min(kTileSize, N - n0)};
      if (!(narrow_product ? tile_bf16(op, tile, K) : tile_f32(op, tile, K, a, b))) refused = true;
    }
  }
  FT_CHECK(!refused,
           "the matrix library refused a product of {} x {} x {} ({}); check its installation", M,
           N, K, name_of(op.a.dtype));
}

}  // namespace ft::cpu

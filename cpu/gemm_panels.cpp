// A product on the kernels of panel.h, after Goto and van de Geijn (2008). The right factor is
// packed into panels as wide as a kernel's result, chunk by chunk and once for all threads; blocks
// of the left factor then pass over the panels. A panel stays in the first cache, a block in the
// second.
#include "cpu/gemm_panels.h"

#include "cpu/gemm_pack.h"
#include "cpu/panel.h"

#include <omp.h>

namespace ft::cpu {

namespace {

constexpr int64_t kDepth = 320;            // of a panel at a time
constexpr int64_t kChunkFloats = 1 << 21;  // of the packed right factor
constexpr int64_t kMostRows = 156;         // of a block of the left factor
constexpr int64_t kWidest = 32;            // result of a kernel

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
// The size of equal parts, at most `most` and a multiple of `unit`.
int64_t even(int64_t n, int64_t most, int64_t unit) {
  return std::max(unit, round_up(blocks_of(n, blocks_of(n, most)), unit));
}

// How a product is cut. `depth` alone touches values: sums are stored and continued at its
// multiples.
struct Cut {
  int64_t M, N, K;
  int64_t depth, chunk_k, chunk_n;  // chunk: of the right factor, packed together
  int64_t rows, columns;            // of a task

  Cut(int64_t m, int64_t n, int64_t k, const Panels& u, int threads) : M(m), N(n), K(k) {
    depth = even(K, kDepth, 8);
    const int64_t width = round_up(N, u.columns);
    const bool narrow = width <= 1024;
    chunk_k = narrow && K * width > kChunkFloats
                  ? std::max(depth, kChunkFloats / width / depth * depth)
              : K <= kChunkFloats / 1024 ? K
                                         : std::max(depth, kChunkFloats / 1024 / depth * depth);
    chunk_k = std::min(chunk_k, round_up(K, depth));
    chunk_n = even(N, std::max<int64_t>(u.columns, kChunkFloats / chunk_k), u.columns);
    rows = even(M, kMostRows, u.rows);
    // A few tasks for each thread, so that none waits long for the last one.
    const int64_t tall = blocks_of(M, rows), wanted = blocks_of(4 * threads, tall);
    columns =
        even(std::min(chunk_n, N), std::max<int64_t>(64, blocks_of(chunk_n, wanted)), u.columns);
    columns = std::min<int64_t>(columns, 512 / u.columns * u.columns);
  }

  int64_t left_stride() const { return round_up(depth, 16) + 16; }
  // Of a copy of a block of the left factor, in rows or in panels of `height`.
  int64_t block_floats(int64_t height) const { return round_up(rows, height) * left_stride(); }
  // Of a chunk of the right factor in panels of `width`.
  int64_t chunk_floats(int64_t width) const { return chunk_k * round_up(chunk_n, width); }
  // Of sums that y cannot hold.
  int64_t sum_floats(Dtype y) const { return y != Dtype::F32 && depth < K ? M * N : 0; }
};

// Where sums wait between two depths: y itself where it is fp32.
struct Sums {
  float* data;
  int64_t stride;
};

// Adds what the product is added to, once, at its first depth: into `to`, [rows, columns].
bool addend(const ops::Gemm& op, int64_t m, int64_t rows, int64_t n, int64_t columns, float* to,
            int64_t stride) {
  const bool accumulate = op.grad == Grad::Accumulate;
  if (!accumulate && !op.residual) return false;
  for (int64_t i = 0; i < rows; ++i) {
    float* line = to + i * stride;
    if (op.residual) load(op.residual->columns(n, n + columns), m + i, columns, line);
    if (!accumulate) continue;
    float own[kWidest];
    load(op.y.columns(n, n + columns), m + i, columns, own);
    for (int64_t j = 0; j < columns; ++j) line[j] = op.residual ? line[j] + own[j] : own[j];
  }
  return true;
}

// Asks for the next panel while this one is at work, so that its first use does not wait.
class Fetcher {
 public:
  Fetcher(const float* from, int64_t count, int64_t calls)
      : at_(from), end_(from ? from + count : nullptr), step_(blocks_of(count, calls)) {}
  void some() {
    const float* to = std::min(end_, at_ + step_);
    for (const float* line = at_; line < to; line += 16) __builtin_prefetch(line, 0, 2);
    at_ = to;
  }

 private:
  const float *at_, *end_;
  int64_t step_;
};

template <class E>
class Multiply {
 public:
  Multiply(const ops::Gemm& op, const Cut& cut, const Panels& u)
      : op_(op),
        cut_(cut),
        u_(u),
        a_{op.a.ptr<E>(), op.a.stride[0], op.trans_a},
        b_{op.b.ptr<E>(), op.b.stride[0], op.trans_b},
        panels_(workspace_f32(kWideB, cut.chunk_floats(u.columns))) {
    direct_ = op.y.dtype == Dtype::F32;
    if (direct_) sums_ = {op.y.f32(), op.y.stride[0]};
    else if (const int64_t count = cut.sum_floats(op.y.dtype))
      sums_ = {workspace_f32(kWideA, count), cut.N};
  }

  void run() {
    for (int64_t n = 0; n < cut_.N; n += cut_.chunk_n)
      for (int64_t k = 0; k < cut_.K; k += cut_.chunk_k) chunk(n, k);
  }

 private:
  // One chunk of the right factor, met by the whole left one.
  void chunk(int64_t n0, int64_t k0) {
    const int64_t wide = std::min(cut_.chunk_n, cut_.N - n0),
                  deep = std::min(cut_.chunk_k, cut_.K - k0);
    const int64_t tall = blocks_of(cut_.M, cut_.rows), across = blocks_of(wide, cut_.columns);
#pragma omp parallel
    {
      // Which thread takes which task differs from step to step; what it may need does not.
      workspace_f32(kTile, cut_.block_floats(u_.rows));
#pragma omp for schedule(static)
      for (int64_t p = 0; p < blocks_of(wide, u_.columns); ++p)
        pack_right(b_, k0, deep, n0 + p * u_.columns,
                   std::min<int64_t>(u_.columns, wide - p * u_.columns), u_.columns,
                   panels_ + p * u_.columns * deep);
#pragma omp for schedule(dynamic)
      for (int64_t task = 0; task < tall * across; ++task) {
        const int64_t m = task / across * cut_.rows, n = task % across * cut_.columns;
        block(m, std::min(cut_.rows, cut_.M - m), n0, n, std::min(wide, n + cut_.columns), k0,
              deep);
      }
    }
  }

  // Rows [m0, m0 + rows) and columns [begin, end) of the chunk.
  void block(int64_t m0, int64_t rows, int64_t n0, int64_t begin, int64_t end, int64_t k0,
             int64_t deep) const {
    for (int64_t k = 0; k < deep; k += cut_.depth) {
      const int64_t depth = std::min(cut_.depth, deep - k);
      const Left left = left_of(m0, rows, k0 + k, depth);
      for (int64_t n = begin; n < end; n += u_.columns) {
        const float* panel = panels_ + n * deep + k * u_.columns;
        Fetcher next(n + u_.columns < end ? panel + u_.columns * deep : nullptr, depth * u_.columns,
                     blocks_of(rows, u_.rows));
        for (int64_t m = 0; m < rows; m += u_.rows) {
          next.some();
          tile({left.data + m * left.row * (op_.trans_a ? depth : 1), left.row, left.step}, m0 + m,
               std::min<int64_t>(u_.rows, rows - m), n0 + n, std::min<int64_t>(u_.columns, end - n),
               k0 + k, depth, panel);
        }
      }
    }
  }

  // A block of the left factor: in place where its rows are fp32 and lie well in the caches.
  Left left_of(int64_t m0, int64_t rows, int64_t k0, int64_t depth) const {
    float* to = workspace_f32(kTile, cut_.block_floats(u_.rows));
    if (op_.trans_a) {
      if (u_.rows == 6) pack_left<6>(a_, m0, rows, k0, depth, to);
      else pack_left<12>(a_, m0, rows, k0, depth, to);
      return {to, 1, u_.rows};
    }
    if constexpr (std::is_same_v<E, float>)
      if (a_.stride % 1024 != 0 && a_.stride <= 4096)
        return {a_.data + m0 * a_.stride + k0, a_.stride, 1};
    const int64_t stride = cut_.left_stride();
    copy_left(a_, m0, rows, k0, depth, stride, to);
    return {to, stride, 1};
  }

  // One result of a kernel.
  void tile(Left a, int64_t m, int64_t rows, int64_t n, int64_t columns, int64_t k, int64_t depth,
            const float* b) const {
    const bool first = k == 0, last = k + depth == cut_.K, whole = columns == u_.columns;
    const Product product = u_.product[rows];
    float* sums = sums_.data ? sums_.data + m * sums_.stride + n : nullptr;
    for (int64_t i = 0; sums && i < rows; ++i) __builtin_prefetch(sums + i * sums_.stride, 1);
    if (whole && direct_) {
      if (!first || !op_.residual) {
        const bool add = !first || op_.grad == Grad::Accumulate;
        return product(depth, a, b, op_.alpha, add ? sums : nullptr, sums_.stride, sums,
                       sums_.stride);
      }
      if (op_.residual->dtype == Dtype::F32 && op_.grad == Grad::Overwrite)
        return product(depth, a, b, op_.alpha, row<float>(*op_.residual, m) + n,
                       op_.residual->stride[0], sums, sums_.stride);
    }
    alignas(64) float added[Panels::kMostRows * kWidest] = {}, out[Panels::kMostRows * kWidest];
    bool add = true;
    if (first) add = addend(op_, m, rows, n, columns, added, u_.columns);
    else
      for (int64_t i = 0; i < rows; ++i)
        std::copy_n(sums + i * sums_.stride, columns, added + i * u_.columns);
    product(depth, a, b, op_.alpha, add ? added : nullptr, u_.columns, out, u_.columns);
    if (last && !direct_) {
      const Tensor y = op_.y.columns(n, n + columns);
      for (int64_t i = 0; i < rows; ++i) store(y, m + i, columns, out + i * u_.columns);
    } else {
      for (int64_t i = 0; i < rows; ++i)
        std::copy_n(out + i * u_.columns, columns, sums + i * sums_.stride);
    }
  }

  const ops::Gemm& op_;
  const Cut& cut_;
  const Panels& u_;
  Operand<E> a_, b_;
  float* panels_;
  Sums sums_{};
  bool direct_;
};

Cut cut_of(const ops::Gemm& op, const Panels& u) {
  return {op.y.rows(), op.y.cols(), op.trans_a ? op.a.rows() : op.a.cols(), u,
          omp_get_max_threads()};
}

}  // namespace

void need_of_panels(const ops::Gemm& op, WorkspaceNeed& n) {
  const Panels& u = panels();
  const Cut cut = cut_of(op, u);
  main_f32(n, kWideB, cut.chunk_floats(u.columns));
  main_f32(n, kWideA, cut.sum_floats(op.y.dtype));
  each_f32(n, {kTile}, cut.block_floats(u.rows));
}

void multiply_panels(const ops::Gemm& op) {
  const Panels& u = panels();
  const Cut cut = cut_of(op, u);
  with_type(op.a.dtype, [&](auto e) { Multiply<decltype(e)>(op, cut, u).run(); });
}

}  // namespace ft::cpu

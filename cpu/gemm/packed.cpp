// A product on the kernels of micro_kernels.h or pair_kernels.h, after Goto and van de Geijn (2008). The
// right factor is packed into panels as wide as a kernel's result, chunk by chunk and once for all
// threads; blocks of the left factor then pass over the panels. A panel stays in the first cache, a
// block in the second.
#include "cpu/gemm/packed.h"

#include "cpu/gemm/pack.h"
#include "cpu/gemm/pair_pack.h"

#include <omp.h>

namespace ft::cpu {

namespace {

constexpr int64_t kChunk = 1 << 21;  // elements of the packed right factor
constexpr int64_t kWidest = 32, kTallest = PairKernels::kMostRows;  // result of a kernel

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
// The size of equal parts, at most `most` and a multiple of `unit`.
int64_t even(int64_t n, int64_t most, int64_t unit) {
  return std::max(unit, round_up(blocks_of(n, blocks_of(n, most)), unit));
}

// What the kernels of a product read: fp32, whatever the operands are, or pairs of bf16.
struct Wide {
  using Element = float;
  const MicroKernels& kernels;
  int64_t rows = kernels.rows, columns = kernels.columns;  // of a result
  int64_t depth = 320, unit = 8;                           // of a panel at a time
  int64_t most_rows = 156;                                 // of a block of the left factor

  static int64_t inner(int64_t k) { return k; }
  void enter() const {}
  void leave() const {}
  void product(int64_t m, int64_t k, Left a, const float* b, float alpha, const float* add,
               int64_t add_stride, float* to, int64_t to_stride) const {
    kernels.product[m](k, a, b, alpha, add, add_stride, to, to_stride);
  }
};

struct Narrow {
  using Element = Pair;
  const PairKernels& kernels;
  int64_t rows = kernels.rows, columns = kernels.columns;
  int64_t depth = 256, unit = kPairUnit;
  int64_t most_rows = 160;

  static int64_t inner(int64_t k) { return round_up(blocks_of(k, 2), kPairUnit); }
  void enter() const { kernels.enter(); }
  void leave() const { kernels.leave(); }
  void product(int64_t m, int64_t k, LeftPairs a, const Pair* b, float alpha, const float* add,
               int64_t add_stride, float* to, int64_t to_stride) const {
    kernels.product(m, k, a, b, alpha, add, add_stride, to, to_stride);
  }
};

// How a product is blocking. `depth` alone touches values: sums are stored and continued at its
// multiples. K and what is blocked of it count elements of the kernels.
struct Blocking {
  int64_t M, N, K;
  int64_t depth, chunk_k, chunk_n;  // chunk: of the right factor, packed together
  int64_t rows, columns;            // of a task

  template <class Kind>
  Blocking(int64_t m, int64_t n, int64_t k, const Kind& u, int threads)
      : M(m), N(n), K(u.inner(k)) {
    depth = even(K, u.depth, u.unit);
    const int64_t width = round_up(N, u.columns);
    const bool narrow = width <= 1024;
    chunk_k = narrow && K * width > kChunk ? std::max(depth, kChunk / width / depth * depth)
              : K <= kChunk / 1024         ? K
                                           : std::max(depth, kChunk / 1024 / depth * depth);
    chunk_k = std::min(chunk_k, round_up(K, depth));
    chunk_n = even(N, std::max<int64_t>(u.columns, kChunk / chunk_k), u.columns);
    rows = even(M, u.most_rows, u.rows);
    // A few tasks for each thread, so that none waits long for the last one.
    const int64_t tall = blocks_of(M, rows), wanted = blocks_of(4 * threads, tall);
    columns =
        even(std::min(chunk_n, N), std::max<int64_t>(64, blocks_of(chunk_n, wanted)), u.columns);
    columns = std::min<int64_t>(columns, 512 / u.columns * u.columns);
  }

  int64_t left_stride() const { return round_up(depth, 16) + 16; }
  // Of a copy of a block of the left factor, in rows or in panels of `height`.
  int64_t block_elements(int64_t height) const { return round_up(rows, height) * left_stride(); }
  // Of a chunk of the right factor in panels of `width`.
  int64_t chunk_elements(int64_t width) const { return chunk_k * round_up(chunk_n, width); }
  // Of sums that y cannot hold.
  int64_t sum_floats(Dtype y) const { return y != Dtype::F32 && depth < K ? M * N : 0; }
};

// Where sums wait between two depths: y itself where it is fp32.
struct Sums {
  float* data;
  int64_t stride;
};

// What the product is added to, once, at its first depth: into `to`, [rows, columns].
bool addend(const ops::Gemm& op, int64_t m, int64_t rows, int64_t n, int64_t columns, float* to,
            int64_t stride) {
  if (op.grad == Grad::Overwrite && !op.residual) return false;
  const Tensor added = (op.residual ? Tensor(*op.residual) : Tensor(op.y)).columns(n, n + columns);
  for (int64_t i = 0; i < rows; ++i) load(added, m + i, columns, to + i * stride);
  return true;
}

// Asks for the next panel while this one is at work, so that its first use does not wait.
template <class T>
class Fetcher {
 public:
  Fetcher(const T* from, int64_t count, int64_t calls)
      : at_(from), end_(from ? from + count : nullptr), step_(blocks_of(count, calls)) {}
  void some() {
    const T* to = std::min(end_, at_ + step_);
    for (const T* line = at_; line < to; line += 64 / sizeof(T)) __builtin_prefetch(line, 0, 2);
    at_ = to;
  }

 private:
  const T *at_, *end_;
  int64_t step_;
};

// E: of the operands.
template <class E, class Kind>
class Multiply {
  using Element = typename Kind::Element;
  using Block = LeftOf<Element>;

 public:
  Multiply(const ops::Gemm& op, const Blocking& blocking, const Kind& u)
      : op_(op),
        blocking_(blocking),
        u_(u),
        a_{op.a.ptr<E>(), op.a.stride[0], op.trans_a},
        b_{op.b.ptr<E>(), op.b.stride[0], op.trans_b},
        panels_(elements(kWideB, blocking.chunk_elements(u.columns))) {
    direct_ = op.y.dtype == Dtype::F32;
    if (direct_) sums_ = {op.y.f32(), op.y.stride[0]};
    else if (const int64_t count = blocking.sum_floats(op.y.dtype))
      sums_ = {workspace_f32(kWideA, count), blocking.N};
  }

  void run() {
    for (int64_t n = 0; n < blocking_.N; n += blocking_.chunk_n)
      for (int64_t k = 0; k < blocking_.K; k += blocking_.chunk_k) chunk(n, k);
  }

 private:
  static Element* elements(int slot, int64_t count) {
    return static_cast<Element*>(workspace(slot, static_cast<size_t>(count) * sizeof(Element)));
  }
  Element* block_memory() const { return elements(kTile, blocking_.block_elements(u_.rows)); }
  int64_t inner() const { return op_.trans_a ? op_.a.rows() : op_.a.cols(); }

  // One chunk of the right factor, met by the whole left one.
  void chunk(int64_t n0, int64_t k0) {
    const int64_t wide = std::min(blocking_.chunk_n, blocking_.N - n0),
                  deep = std::min(blocking_.chunk_k, blocking_.K - k0);
    const int64_t tall = blocks_of(blocking_.M, blocking_.rows),
                  across = blocks_of(wide, blocking_.columns);
    Thrown thrown;
#pragma omp parallel
    {
      // Which thread takes which task differs from step to step; what it may need does not.
      thrown.guard(0, [&] { block_memory(); });
      u_.enter();
#pragma omp for schedule(static)
      for (int64_t p = 0; p < blocks_of(wide, u_.columns); ++p)
        pack_right(b_, inner(), k0, deep, n0 + p * u_.columns,
                   std::min<int64_t>(u_.columns, wide - p * u_.columns), u_.columns,
                   panels_ + p * u_.columns * deep);
#pragma omp for schedule(dynamic)
      for (int64_t task = 0; task < tall * across; ++task) {
        const int64_t m = task / across * blocking_.rows, n = task % across * blocking_.columns;
        thrown.guard(task, [&] {
          block(m, std::min(blocking_.rows, blocking_.M - m), n0, n,
                std::min(wide, n + blocking_.columns), k0, deep);
        });
      }
      u_.leave();
    }
    thrown.rethrow();
  }

  // Rows [m0, m0 + rows) and columns [begin, end) of the chunk.
  void block(int64_t m0, int64_t rows, int64_t n0, int64_t begin, int64_t end, int64_t k0,
             int64_t deep) const {
    for (int64_t k = 0; k < deep; k += blocking_.depth) {
      const int64_t depth = std::min(blocking_.depth, deep - k);
      const Block left = left_of(m0, rows, k0 + k, depth);
      for (int64_t n = begin; n < end; n += u_.columns) {
        const Element* panel = panels_ + n * deep + k * u_.columns;
        Fetcher<Element> next(n + u_.columns < end ? panel + u_.columns * deep : nullptr,
                              depth * u_.columns, blocks_of(rows, u_.rows));
        for (int64_t m = 0; m < rows; m += u_.rows) {
          next.some();
          // Rows one after another, or panels of them.
          const Element* rows_from = left.data + m * (left.step == 1 ? left.row : depth);
          tile({rows_from, left.row, left.step}, m0 + m, std::min<int64_t>(u_.rows, rows - m),
               n0 + n, std::min<int64_t>(u_.columns, end - n), k0 + k, depth, panel);
        }
      }
    }
  }

  // A block of the left factor: in place where its rows are fp32 and lie well in the caches.
  Block left_of(int64_t m0, int64_t rows, int64_t k0, int64_t depth) const {
    Element* to = block_memory();
    if constexpr (std::is_same_v<Element, float>) {
      if (op_.trans_a) {
        if (u_.rows == 6) pack_left<6>(a_, m0, rows, k0, depth, to);
        else pack_left<12>(a_, m0, rows, k0, depth, to);
        return {to, 1, u_.rows};
      }
      if constexpr (std::is_same_v<E, float>)
        if (a_.stride % 1024 != 0 && a_.stride <= 4096)
          return {a_.data + m0 * a_.stride + k0, a_.stride, 1};
    }
    const int64_t stride = blocking_.left_stride();
    copy_left(a_, inner(), m0, rows, k0, depth, stride, to);
    return {to, stride, 1};
  }

  // One result of a kernel.
  void tile(Block a, int64_t m, int64_t rows, int64_t n, int64_t columns, int64_t k, int64_t depth,
            const Element* b) const {
    const bool first = k == 0, last = k + depth == blocking_.K, whole = columns == u_.columns;
    float* sums = sums_.data ? sums_.data + m * sums_.stride + n : nullptr;
    for (int64_t i = 0; sums && i < rows; ++i) __builtin_prefetch(sums + i * sums_.stride, 1);
    if (whole && direct_) {
      if (!first || !op_.residual) {
        const bool add = !first || op_.grad == Grad::Accumulate;
        return u_.product(rows, depth, a, b, op_.alpha, add ? sums : nullptr, sums_.stride, sums,
                          sums_.stride);
      }
      return u_.product(rows, depth, a, b, op_.alpha, row<float>(*op_.residual, m) + n,
                        op_.residual->stride[0], sums, sums_.stride);
    }
    alignas(64) float added[kTallest * kWidest], out[kTallest * kWidest];
    bool add = true;
    if (!whole) std::fill_n(added, rows * kWidest, 0.0f);
    if (first) add = addend(op_, m, rows, n, columns, added, u_.columns);
    else
      for (int64_t i = 0; i < rows; ++i)
        std::copy_n(sums + i * sums_.stride, columns, added + i * u_.columns);
    u_.product(rows, depth, a, b, op_.alpha, add ? added : nullptr, u_.columns, out, u_.columns);
    if (last && !direct_) {
      const Tensor y = op_.y.columns(n, n + columns);
      for (int64_t i = 0; i < rows; ++i) store(y, m + i, columns, out + i * u_.columns);
    } else {
      for (int64_t i = 0; i < rows; ++i)
        std::copy_n(out + i * u_.columns, columns, sums + i * sums_.stride);
    }
  }

  const ops::Gemm& op_;
  const Blocking& blocking_;
  const Kind& u_;
  Operand<E> a_, b_;
  Element* panels_;
  Sums sums_{};
  bool direct_;
};

template <class Kind>
Blocking blocking_of(const ops::Gemm& op, const Kind& kind) {
  return {op.y.rows(), op.y.cols(), op.trans_a ? op.a.rows() : op.a.cols(), kind,
          omp_get_max_threads()};
}

template <class E, class Kind>
void multiply(const ops::Gemm& op, const Kind& kind) {
  const Blocking blocking = blocking_of(op, kind);
  Multiply<E, Kind>(op, blocking, kind).run();
}

template <class Kind>
void need_of(const ops::Gemm& op, const Kind& kind, WorkspaceNeed& n) {
  static_assert(sizeof(typename Kind::Element) == sizeof(float));
  const Blocking blocking = blocking_of(op, kind);
  main_f32(n, kWideB, blocking.chunk_elements(kind.columns));
  main_f32(n, kWideA, blocking.sum_floats(op.y.dtype));
  each_f32(n, {kTile}, blocking.block_elements(kind.rows));
}

}  // namespace

void multiply_packed(const ops::Gemm& op, const MicroKernels& kernels) {
  with_type(op.a.dtype, [&](auto e) { multiply<decltype(e)>(op, Wide{kernels}); });
}

void need_of_packed(const ops::Gemm& op, WorkspaceNeed& n) {
  need_of(op, Wide{micro_kernels()}, n);
}

void multiply_pairs(const ops::Gemm& op, const PairKernels& kernels) {
  multiply<bf16>(op, Narrow{kernels});
}

void need_of_pairs(const ops::Gemm& op, const PairKernels& kernels, WorkspaceNeed& n) {
  need_of(op, Narrow{kernels}, n);
}

}  // namespace ft::cpu

#include "cpu/gemm/pair_kernels.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#define FT_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")))
#define FT_AMX __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,amx-tile,amx-bf16")))

namespace ft::cpu {

namespace {

constexpr int kWidth = 32;  // columns of a result: two vectors or two tiles

// to = alpha sums + add
FT_AVX512 inline void finish(int64_t i, __m512 left, __m512 right, float alpha, const float* add,
                             int64_t add_stride, float* to, int64_t to_stride) {
  const __m512 scale = _mm512_set1_ps(alpha);
  left = _mm512_mul_ps(left, scale), right = _mm512_mul_ps(right, scale);
  if (add) {
    left = _mm512_add_ps(left, _mm512_loadu_ps(add + i * add_stride));
    right = _mm512_add_ps(right, _mm512_loadu_ps(add + i * add_stride + 16));
  }
  _mm512_storeu_ps(to + i * to_stride, left);
  _mm512_storeu_ps(to + i * to_stride + 16, right);
}

// ---- AVX512_BF16: results in registers --------------------------------------------------------

constexpr int kVectorRows = 12;  // 24 of 32 registers gather results

template <int rows>
FT_AVX512 void vector_product(int64_t depth, LeftPairs a, const Pair* b, float alpha,
                              const float* add, int64_t add_stride, float* to, int64_t to_stride) {
  __m512 sum[rows][2];
  for (int i = 0; i < rows; ++i) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  for (int64_t k = 0; k < depth; ++k, b += kWidth) {
    const auto left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b));
    const auto right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 16));
    for (int i = 0; i < rows; ++i) {
      const auto x =
          reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a.data[i * a.row + k])));
      sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, left);
      sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, right);
    }
  }
  for (int i = 0; i < rows; ++i)
    finish(i, sum[i][0], sum[i][1], alpha, add, add_stride, to, to_stride);
}

using VectorProduct = void (*)(int64_t, LeftPairs, const Pair*, float, const float*, int64_t,
                               float*, int64_t);
struct VectorTable {
  VectorProduct of[kVectorRows + 1];
};
template <int... rows>
constexpr VectorTable vector_table(std::integer_sequence<int, rows...>) {
  return {{nullptr, vector_product<rows + 1>...}};
}
constexpr VectorTable kVector = vector_table(std::make_integer_sequence<int, kVectorRows>());

void any_vector_product(int64_t rows, int64_t depth, LeftPairs a, const Pair* b, float alpha,
                        const float* add, int64_t add_stride, float* to, int64_t to_stride) {
  kVector.of[rows](depth, a, b, alpha, add, add_stride, to, to_stride);
}

// ---- AMX: results in tiles of 16 x 16 -----------------------------------------------------------

// What LDTILECFG reads: palette 1, every tile 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

FT_AMX void enter_tiles() {
  static const TileConfig config;
  _tile_loadconfig(&config);
}
FT_AMX void leave_tiles() { _tile_release(); }

// 32 rows against 32 columns, or 16 where the lower half has no rows.
template <bool tall>
FT_AMX void tiles(int64_t depth, LeftPairs a, const Pair* b, float* sums) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (tall) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < depth; k += kPairUnit) {
    _tile_loadd(4, a.data + k, a.row * 4);
    _tile_loadd(6, b + k * kWidth, kWidth * 4);
    _tile_loadd(7, b + k * kWidth + 16, kWidth * 4);
    if constexpr (tall) _tile_loadd(5, a.data + 16 * a.row + k, a.row * 4);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (tall) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, kWidth * 4);
  _tile_stored(1, sums + 16, kWidth * 4);
  if constexpr (tall) {
    _tile_stored(2, sums + 16 * kWidth, kWidth * 4);
    _tile_stored(3, sums + 16 * kWidth + 16, kWidth * 4);
  }
}

FT_AMX void tile_product(int64_t rows, int64_t depth, LeftPairs a, const Pair* b, float alpha,
                         const float* add, int64_t add_stride, float* to, int64_t to_stride) {
  alignas(64) float sums[PairKernels::kMostRows * kWidth];
  rows <= 16 ? tiles<false>(depth, a, b, sums) : tiles<true>(depth, a, b, sums);
  for (int64_t i = 0; i < rows; ++i)
    finish(i, _mm512_load_ps(sums + i * kWidth), _mm512_load_ps(sums + i * kWidth + 16), alpha, add,
           add_stride, to, to_stride);
}

// ---- the choice
// ----------------------------------------------------------------------------------

// Whether the processor has the tiles and the system lets this process use them (Linux asks to be
// asked, once for all threads).
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h, XSAVE's component
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

const PairKernels* amx_kernels() {
  static const PairKernels kernels{.rows = 32,
                                   .columns = kWidth,
                                   .product = tile_product,
                                   .enter = enter_tiles,
                                   .leave = leave_tiles};
  static const bool offered = has_amx();
  return offered ? &kernels : nullptr;
}

const PairKernels* avx512_bf16_kernels() {
  static const PairKernels kernels{.rows = kVectorRows,
                                   .columns = kWidth,
                                   .product = any_vector_product,
                                   .enter = [] {},
                                   .leave = [] {}};
  static const bool offered = has_avx512() && __builtin_cpu_supports("avx512bf16");
  return offered ? &kernels : nullptr;
}

const PairKernels* pair_kernels() {
  const PairKernels* amx = amx_kernels();
  return amx ? amx : avx512_bf16_kernels();
}

}  // namespace ft::cpu

// Rotary positions (Su et al. 2021), rotate-half form. Angles are formed in double, so theta = 1e11
// is exact.
//   a' = scale (a cos - b sin);  b' = scale (b cos + a sin);  inverse: sin changes its sign
#include "core/ops.h"
#include "cuda/common/launch.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

__global__ void __launch_bounds__(256)
    fill_table(Rows<float> table, int64_t positions, int64_t half, double theta) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       at < positions * half; at += step) {
    const int64_t t = at / half, j = at % half;
    const double exponent = -2.0 * static_cast<double>(j) / static_cast<double>(2 * half);
    const double angle = static_cast<double>(t) * pow(theta, exponent);
    double sine, cosine;
    sincos(angle, &sine, &cosine);
    table[t][j] = static_cast<float>(cosine);
    table[t][half + j] = static_cast<float>(sine);
  }
}

// kCount neighbours, moved at once.
template <class E, int kCount>
struct alignas(kCount * sizeof(E)) Pack {
  E x[kCount];
};
template <int kCount, class E>
__device__ Pack<std::remove_const_t<E>, kCount> load_pack(E* from) {
  return *reinterpret_cast<const Pack<std::remove_const_t<E>, kCount>*>(from);
}

struct RopeSizes {
  int64_t tokens;
  int heads, half;
  float scale, direction;
};

// kPairs pairs of one head, from its pair j on.
template <class E, int kPairs>
__device__ void rotate(const RopeSizes& s, E* head, const float* cosines, int j) {
  constexpr int kFloats = kPairs < 4 ? kPairs : 4;  // of the table, at once
  E *at_a = head + j, *at_b = at_a + s.half;
  auto a = load_pack<kPairs>(at_a), b = load_pack<kPairs>(at_b);
#pragma unroll
  for (int i = 0; i < kPairs; i += kFloats) {
    const auto cosine = load_pack<kFloats>(cosines + j + i);
    const auto sine = load_pack<kFloats>(cosines + s.half + j + i);
#pragma unroll
    for (int n = 0; n < kFloats; ++n) {
      const float c = s.scale * cosine.x[n], d = s.scale * s.direction * sine.x[n];
      const float u = to_float(a.x[i + n]), v = to_float(b.x[i + n]);
      a.x[i + n] = from_float<E>(u * c - v * d);
      b.x[i + n] = from_float<E>(v * c + u * d);
    }
  }
  *reinterpret_cast<Pack<E, kPairs>*>(at_a) = a;
  *reinterpret_cast<Pack<E, kPairs>*>(at_b) = b;
}

// Threads of a block along y take tokens, those along x the packs of a token's heads.
template <class E, int kPairs>
__global__ void __launch_bounds__(256)
    rotate_rows(RopeSizes s, Rows<E> x, Rows<const float> table, const int32_t* docs) {
  const int packs = s.half / kPairs;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; t < s.tokens;
       t += step) {
    const float* cosines = table[t - docs[t]];
    for (int at = static_cast<int>(threadIdx.x); at < s.heads * packs;
         at += static_cast<int>(blockDim.x)) {
      const int head = at / packs, j = at % packs * kPairs;
      rotate<E, kPairs>(s, x[t] + static_cast<int64_t>(head) * 2 * s.half, cosines, j);
    }
  }
}

// ---- launchers ----------------------------------------------------------------------------------

// Whether rows of `t` can be read 16 bytes at a time, `step` elements apart.
bool in_packs(const Tensor& t, int64_t step) {
  const int64_t pack = 16 / size_of(t.dtype);
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride[0] % pack == 0 &&
         step % pack == 0;
}

template <class E, int kPairs>
void rotate_with(const ops::Rope& op, Stream stream) {
  const auto half = narrow<int>(op.table.cols() / 2);
  const auto heads = narrow<int>(op.x.cols() / op.table.cols());
  const RopeSizes s{op.x.rows(), heads, half, op.scale, op.inverse ? -1.0f : 1.0f};
  unsigned across = 1;
  while (across < 256 && across < op.x.cols() / 2 / kPairs) across *= 2;
  const dim3 block(across, 256 / across);
  rotate_rows<E, kPairs><<<grid_for(s.tokens, block.y), block, 0, stream_of(stream)>>>(
      s, rows_of<E>(op.x), rows_of<const float>(op.table), ptr<const int32_t>(op.docs));
  launched("rope");
}

}  // namespace

template <>
void need(const ops::RopeTable&, WorkspaceNeed&) {}

template <>
void run(const ops::RopeTable& op, Stream stream) {
  const int64_t positions = op.table.rows(), half = op.table.cols() / 2;
  if (positions * half == 0) return;
  fill_table<<<grid_for(positions * half, 256), 256, 0, stream_of(stream)>>>(
      rows_of<float>(op.table), positions, half, op.theta);
  launched("rope_table");
}

template <>
void need(const ops::Rope&, WorkspaceNeed&) {}

template <>
void run(const ops::Rope& op, Stream stream) {
  if (op.x.size() == 0) return;
  const int64_t half = op.table.cols() / 2;
  with_float(op.x.dtype, [&](auto e) {
    using E = decltype(e);
    constexpr int kPairs = 16 / sizeof(E);
    if (in_packs(op.x, half) && in_packs(op.table, half)) rotate_with<E, kPairs>(op, stream);
    else rotate_with<E, 1>(op, stream);
  });
}

}  // namespace ft::cuda

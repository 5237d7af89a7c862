// Rotary positions (Su et al. 2021), rotate-half form. Angles are formed in double, so theta = 1e11
// is exact.
#include "cpu/common.h"

namespace ft::cpu {

template <>
void need(const ops::RopeTable&, WorkspaceNeed&) {}

template <>
void run(const ops::RopeTable& op, Stream) {
  const int64_t positions = op.table.rows(), dim = op.table.cols(), half = dim / 2;
  parallel_for(positions, [&](int64_t t) {
    float* to = row<float>(op.table, t);
    for (int64_t j = 0; j < half; ++j) {
      const double exponent = -2.0 * static_cast<double>(j) / static_cast<double>(dim);
      const double angle = static_cast<double>(t) * std::pow(op.theta, exponent);
      to[j] = static_cast<float>(std::cos(angle));
      to[half + j] = static_cast<float>(std::sin(angle));
    }
  });
}

template <>
void need(const ops::Rope& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, op.x.cols());
}

template <>
void run(const ops::Rope& op, Stream) {
  const int64_t T = op.x.rows(), C = op.x.cols(), dim = op.table.cols(), half = dim / 2;
  const int32_t* docs = op.docs.i32();
  parallel_for(T, [&](int64_t t) {
    float* x = workspace_f32(kRowA, C);
    load(op.x, t, C, x);
    const float* cosines = row<float>(op.table, t - docs[t]);
    const float* sines = cosines + half;
    const float direction = op.inverse ? -1.0f : 1.0f;
    for (int64_t h = 0; h < C; h += dim) {
      float *a = x + h, *b = a + half;
#pragma omp simd
      for (int64_t j = 0; j < half; ++j) {
        const float c = op.scale * cosines[j], s = op.scale * direction * sines[j];
        const float u = a[j], v = b[j];
        a[j] = u * c - v * s;
        b[j] = v * c + u * s;
      }
    }
    store(op.x, t, C, x);
  });
}

}  // namespace ft::cpu

// Attention of core/ops.h and its gradient in double: every score by itself, the softmax over a
// full row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ft::reference {

struct Attention {
  int64_t B, queries, keys, heads, kv_heads, dim;  // queries, keys: of a sequence
  std::vector<double> q, k, v;  // [B queries, heads dim], [B keys, kv_heads dim] twice
  std::vector<int32_t> docs;
  double scale, out_scale;

  int64_t query(int64_t t, int64_t h) const { return (t * heads + h) * dim; }
  int64_t key(int64_t row, int64_t h) const {  // of the key head that query head h reads
    return (row * kv_heads + h / (heads / kv_heads)) * dim;
  }
  // Keys that query t sees, as rows of k.
  std::vector<int64_t> seen(int64_t t) const {
    const int64_t b = t / queries, at = t % queries + keys - queries;
    std::vector<int64_t> rows;
    for (int64_t j = 0; j <= at; ++j)
      if (j - (keys - queries) >= docs[t] - b * queries) rows.push_back(b * keys + j);
    return rows;
  }
};

struct AttentionRow {
  std::vector<double> weights;
  double lse;
};
inline AttentionRow attention_row(const Attention& s, int64_t t, int64_t h,
                                  const std::vector<int64_t>& seen) {
  AttentionRow r{std::vector<double>(seen.size()), 0};
  double high = -1e300, sum = 0;
  for (size_t j = 0; j < seen.size(); ++j) {
    for (int64_t d = 0; d < s.dim; ++d)
      r.weights[j] += s.scale * s.q[s.query(t, h) + d] * s.k[s.key(seen[j], h) + d];
    high = std::max(high, r.weights[j]);
  }
  for (double& w : r.weights) sum += w = std::exp(w - high);
  for (double& w : r.weights) w /= sum;
  r.lse = high + std::log(sum);
  return r;
}

struct AttentionValues {
  std::vector<double> o, lse;  // [T, heads dim], [heads, T]
};
inline AttentionValues attention(const Attention& s) {
  const int64_t T = s.B * s.queries;
  AttentionValues out{std::vector<double>(s.q.size()), std::vector<double>(s.heads * T)};
  for (int64_t t = 0; t < T; ++t) {
    const auto seen = s.seen(t);
    for (int64_t h = 0; h < s.heads; ++h) {
      const AttentionRow r = attention_row(s, t, h, seen);
      out.lse[h * T + t] = r.lse;
      for (size_t j = 0; j < seen.size(); ++j)
        for (int64_t d = 0; d < s.dim; ++d)
          out.o[s.query(t, h) + d] += s.out_scale * r.weights[j] * s.v[s.key(seen[j], h) + d];
    }
  }
  return out;
}

struct AttentionGrads {
  std::vector<double> q, k, v;
};
inline AttentionGrads attention_grad(const Attention& s, const std::vector<double>& dout) {
  AttentionGrads g{std::vector<double>(s.q.size()), std::vector<double>(s.k.size()),
                   std::vector<double>(s.v.size())};
  for (int64_t t = 0; t < s.B * s.queries; ++t) {
    const auto seen = s.seen(t);
    for (int64_t h = 0; h < s.heads; ++h) {
      const AttentionRow r = attention_row(s, t, h, seen);
      const int64_t q = s.query(t, h);
      std::vector<double> dw(seen.size());
      double mean = 0;
      for (size_t j = 0; j < seen.size(); ++j) {
        for (int64_t d = 0; d < s.dim; ++d)
          dw[j] += s.out_scale * dout[q + d] * s.v[s.key(seen[j], h) + d];
        mean += r.weights[j] * dw[j];
      }
      for (size_t j = 0; j < seen.size(); ++j) {
        const int64_t k = s.key(seen[j], h);
        const double ds = s.scale * r.weights[j] * (dw[j] - mean);
        for (int64_t d = 0; d < s.dim; ++d) {
          g.q[q + d] += ds * s.k[k + d];
          g.k[k + d] += ds * s.q[q + d];
          g.v[k + d] += s.out_scale * r.weights[j] * dout[q + d];
        }
      }
    }
  }
  return g;
}

}  // namespace ft::reference

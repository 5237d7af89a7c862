// A tensor with its exact values in double: what a reference computes with is what the op reads.
#pragma once

#include "core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace ft::reference {

struct Array {
  std::vector<double> values;  // dense, [rows, cols]
  std::vector<std::byte> memory;
  int64_t rows, cols, gap;  // gap: foreign columns on each side of the view
  Dtype dtype;

  // gap > 0 makes a column view of a wider matrix; the columns around it hold NaN.
  Array(int64_t r, int64_t c, Dtype type = Dtype::F32, int64_t g = 0)
      : values(r * c),
        memory(r * (c + 2 * g) * size_of(type)),
        rows(r),
        cols(c),
        gap(g),
        dtype(type) {
    for (int64_t i = 0; i < r * (c + 2 * g); ++i) put(i, std::nan(""));
  }
  Array& fill(std::mt19937_64& random, double scale = 1, double shift = 0) {
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const int64_t at = i / cols * (cols + 2 * gap) + gap + i % cols;
      put(at, shift + scale * uniform(random));
      values[i] = get(at);
    }
    return *this;
  }
  Tensor tensor() {
    Tensor wide(memory.data(), dtype, {rows, cols + 2 * gap});
    return gap ? wide.columns(gap, gap + cols) : wide;
  }
  Tensor flat() { return Tensor(memory.data(), dtype, {rows * cols}); }
  double at(int64_t r, int64_t c) const { return get(r * (cols + 2 * gap) + gap + c); }

  // Largest difference from `want`, relative to its largest value; NaN where this holds one.
  double error(const std::vector<double>& want) const {
    double most = 0, size = 1e-30;
    for (int64_t i = 0; i < rows * cols; ++i) {
      const double off = std::abs(at(i / cols, i % cols) - want[i]);
      if (!(off <= most)) most = off;
      if (std::isnan(most)) return most;
      size = std::max(size, std::abs(want[i]));
    }
    return most / size;
  }
  bool same_bits(const Array& other) const { return memory == other.memory; }

 private:
  void put(int64_t i, double v) {
    if (dtype == Dtype::F32) {
      const auto f = static_cast<float>(v);
      std::memcpy(memory.data() + i * 4, &f, 4);
    } else {
      const bf16 h(static_cast<float>(v));
      std::memcpy(memory.data() + i * 2, &h, 2);
    }
  }
  double get(int64_t i) const {
    if (dtype == Dtype::F32) {
      float f;
      std::memcpy(&f, memory.data() + i * 4, 4);
      return f;
    }
    bf16 h;
    std::memcpy(&h, memory.data() + i * 2, 2);
    return static_cast<float>(h);
  }
};

// docs of B sequences of L tokens, documents starting at `starts` of each sequence; `carried` makes
// the first document of every sequence begin before it.
inline std::vector<int32_t> documents(int64_t B, int64_t L, const std::vector<int64_t>& starts,
                                      bool carried) {
  std::vector<int32_t> docs(B * L);
  for (int64_t b = 0; b < B; ++b) {
    int64_t start = carried ? -7 : 0;
    for (int64_t i = 0; i < L; ++i) {
      if (std::find(starts.begin(), starts.end(), i) != starts.end()) start = i;
      docs[b * L + i] = static_cast<int32_t>(b * L + start);
    }
  }
  return docs;
}
inline Tensor docs_tensor(std::vector<int32_t>& docs) {
  return Tensor(docs.data(), Dtype::I32, {static_cast<int64_t>(docs.size())});
}

// The gradient of f at v by central differences.
template <class F>
std::vector<double> differences(std::vector<double>& v, F&& f, double step = 1e-5) {
  std::vector<double> out(v.size());
  for (size_t i = 0; i < v.size(); ++i) {
    const double keep = v[i];
    v[i] = keep + step;
    const double up = f();
    v[i] = keep - step;
    out[i] = (up - f()) / (2 * step);
    v[i] = keep;
  }
  return out;
}
inline double inner(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
inline double worst(const std::vector<double>& got, const std::vector<double>& want) {
  double off = 0, size = 1e-30;
  for (size_t i = 0; i < want.size(); ++i)
    off = std::max(off, std::abs(got[i] - want[i])), size = std::max(size, std::abs(want[i]));
  return off / size;
}

}  // namespace ft::reference

#include "core/observe.h"

#include "core/nan.h"
#include "core/rng.h"

#include <cmath>

namespace ft {

namespace {

// Calls f(row pointer, columns, row number) for each row of a tensor of up to two dims.
template <class F>
void each_row(const Tensor& t, F&& f) {
  const int64_t rows = t.dims > 1 ? t.shape[0] : 1;
  const int64_t cols = t.dims > 1 ? t.size() / t.shape[0] : t.size();
  const int64_t step = t.dims > 1 ? t.stride[0] * size_of(t.dtype) : 0;
  for (int64_t r = 0; r < rows; ++r) f(static_cast<const char*>(t.data) + r * step, cols, r);
}

double value_at(const Tensor& t, const char* row, int64_t i) {
  switch (t.dtype) {
    case Dtype::F32:
      return reinterpret_cast<const float*>(row)[i];
    case Dtype::BF16:
      return static_cast<float>(reinterpret_cast<const bf16*>(row)[i]);
    case Dtype::F64:
      return reinterpret_cast<const double*>(row)[i];
    default:
      return 0;  // whole numbers are finite
  }
}

bool finite_at(const Tensor& t, const char* row, int64_t i) {
  return std::isfinite(value_at(t, row, i));
}

}  // namespace

void Profile::before(const std::string&, const char*) { begin_ = std::chrono::steady_clock::now(); }

void Profile::after(const std::string&, const char* op, const std::vector<Seen>&, double flops,
                    double bytes) {
  Row& row = rows_[op];
  ++row.calls;
  row.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  row.flops += flops;
  row.bytes += bytes;
}

std::string Profile::table() const {
  std::string text =
      fmt::format("{:<18}{:>8}{:>11}{:>11}{:>9}\n", "op", "calls", "seconds", "GFLOP/s", "GB/s");
  for (const auto& [op, r] : rows_)
    text += fmt::format("{:<18}{:>8}{:>11.4f}{:>11.1f}{:>9.1f}\n", op, r.calls, r.seconds,
                        r.flops / r.seconds * 1e-9, r.bytes / r.seconds * 1e-9);
  return text;
}

void Inspector::after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
                      double, double) {
  if (!first_bad_.empty()) return;
  for (const Seen& seen : outputs) {
    each_row(seen.tensor, [&](const char* row, int64_t cols, int64_t r) {
      for (int64_t i = 0; i < cols && first_bad_.empty(); ++i)
        if (!finite_at(seen.tensor, row, i))
          first_bad_ = fmt::format("{}: {}.{} at [{}, {}] is {}", layer_label(where), op, seen.name,
                                   r, i, unsigned_nan(value_at(seen.tensor, row, i)));
    });
  }
}

void Trace::after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
                  double, double) {
  for (const Seen& seen : outputs) {
    uint64_t hash = 14695981039346656037ull;
    each_row(seen.tensor, [&](const char* row, int64_t cols, int64_t) {
      hash = hash * 31 + name_hash(row, static_cast<size_t>(cols * size_of(seen.tensor.dtype)));
    });
    std::fprintf(file_, "{\"where\":\"%s\",\"op\":\"%s\",\"out\":\"%s\",\"hash\":\"%016llx\"}\n",
                 where.c_str(), op, seen.name, static_cast<unsigned long long>(hash));
  }
}

}  // namespace ft

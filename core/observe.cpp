#include "core/observe.h"

#include "core/nan.h"

#include <algorithm>
#include <cmath>

namespace ft {

namespace {

// The first value that is not finite, in words.
template <class E>
std::string bad_value(Transfer& transfer, const Tensor& t) {
  const std::vector<E> values = transfer.download<E>(t);
  const auto bad =
      std::find_if(values.begin(), values.end(), [](E x) { return !std::isfinite(x); });
  if (bad == values.end()) return "";
  const int64_t i = bad - values.begin(), cols = t.dims > 1 ? t.size() / t.rows() : t.size();
  return fmt::format("at [{}, {}] is {}", i / cols, i % cols,
                     unsigned_nan(static_cast<double>(*bad)));
}

std::string bad_value_of(Transfer& transfer, const Tensor& t) {
  if (t.dtype == Dtype::F64) return bad_value<double>(transfer, t);
  if (t.dtype == Dtype::F32 || t.dtype == Dtype::BF16) return bad_value<float>(transfer, t);
  return "";  // whole numbers are finite
}

}  // namespace

// An op is timed from an idle device to an idle device.
void Profile::before(const std::string&, const char*) {
  device_.synchronize();
  begin_ = std::chrono::steady_clock::now();
}

void Profile::after(const std::string&, const char* op, const std::vector<Seen>&, double flops,
                    double bytes) {
  device_.synchronize();
  Row& row = rows_[op];
  ++row.calls;
  row.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  row.flops += flops;
  row.bytes += bytes;
}

void Inspector::after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
                      double, double) {
  for (const Seen& seen : outputs) {
    if (!first_bad_.empty()) return;
    const std::string bad = bad_value_of(transfer_, seen.tensor);
    if (!bad.empty())
      first_bad_ = fmt::format("{}: {}.{} {}", layer_label(where), op, seen.name, bad);
  }
}

}  // namespace ft

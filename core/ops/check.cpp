#include "core/ops/check.h"

#include <fmt/ranges.h>

#include <vector>

namespace ft::ops {

namespace {

std::string extents(const int64_t* begin, const int64_t* end) {
  std::vector<std::string> words;
  for (; begin != end; ++begin) words.push_back(*begin == kAny ? "any" : std::to_string(*begin));
  return fmt::format("[{}]", fmt::join(words, ", "));
}

bool has_shape(const Tensor& t, Extents shape) {
  if (t.dims != static_cast<int>(shape.size())) return false;
  for (int i = 0; i < t.dims; ++i)
    if (shape.begin()[i] != kAny && shape.begin()[i] != t.shape[i]) return false;
  return true;
}

void check_argument(const char* name, const Tensor& t, Dtypes dtypes, Extents shape) {
  FT_CHECK(dtypes.contains(t.dtype) && has_shape(t, shape), "{} is {} {}, wanted {} {}", name,
           name_of(t.dtype), extents(t.shape.data(), t.shape.data() + t.dims), dtypes.text(),
           extents(shape.begin(), shape.end()));
}

}  // namespace

std::string Dtypes::text() const {
  std::vector<std::string> names;
  for (unsigned i = 0; i < 32; ++i)
    if (set_ >> i & 1u) names.emplace_back(name_of(static_cast<Dtype>(i)));
  return fmt::format("{}", fmt::join(names, " or "));
}

void check_rows(const char* name, const Tensor& t, Dtypes dtypes, Extents shape) {
  check_argument(name, t, dtypes, shape);
  FT_CHECK(t.dims == 0 || t.stride[t.dims - 1] == 1 || t.shape[t.dims - 1] <= 1,
           "{} has columns {} elements apart, wanted dense ones", name, t.stride[t.dims - 1]);
}

void check_dense(const char* name, const Tensor& t, Dtypes dtypes, Extents shape) {
  check_argument(name, t, dtypes, shape);
  FT_CHECK(t.dense(), "{} has gaps between its rows, wanted one run of memory", name);
}

void check_matrix(const char* name, const Tensor& t, Dtypes dtypes) {
  t.dims == 1 ? check_rows(name, t, dtypes, {kAny}) : check_rows(name, t, dtypes, {kAny, kAny});
}

void check_same(const char* name, const Tensor& t, Dtypes dtypes, const Tensor& other) {
  if (other.dims == 1) check_rows(name, t, dtypes, {other.shape[0]});
  else check_rows(name, t, dtypes, {other.shape[0], other.shape[1]});
}

void check_goes_with(const char* name, bool present, const char* other, bool other_present) {
  FT_CHECK(present == other_present, "{} is {}, wanted it {} {}", name,
           present ? "there" : "absent", other_present ? "with" : "only with", other);
}

void check_sequences(int64_t tokens, int64_t sequences) {
  FT_CHECK(sequences > 0 && tokens % sequences == 0,
           "{} tokens are not {} sequences of equal length", tokens, sequences);
}

}  // namespace ft::ops

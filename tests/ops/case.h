// The one harness of the op tests. A case runs its ops from fresh buffers on the backend at work;
// four uses are made of it:
//   values     check(): outputs against the reference in double
//   gradients  check() too, where what is wanted comes from finite differences of the reference
//   backends   check_backends(): each backend against the first one
//   threads    check_threads(): the same bits for any number of threads of the host
#pragma once

#include "tests/catch.h"
#include "tests/ops/buffer.h"

#include <omp.h>

#include <functional>
#include <string>
#include <vector>

// The first line of a test that is to run on every backend.
#define FT_ON_EACH_BACKEND                                                                  \
  ::ft::test::Bench bench(GENERATE(Catch::Generators::from_range(::ft::test::backends()))); \
  INFO("on " << bench.name())

namespace ft::test {

inline constexpr Dtype kBoth[] = {Dtype::F32, Dtype::BF16};
inline constexpr double kTight = 1e-5;  // relative error of fp32 results
inline constexpr double kLoose = 1e-2;  // of bf16 results
inline double tolerance(Dtype dtype) { return dtype == Dtype::BF16 ? kLoose : kTight; }

// How far results are from what is wanted.
enum class Norm : uint8_t {
  Euclidean,  // |got - want| / |want|
  Largest,    // the largest difference, relative to the largest value
};

// Foreign columns beside a tensor of so many: eight where eight divides them, so that a GPU takes
// the rows sixteen bytes at once; else an odd number, so that it cannot.
inline int64_t gap_of(int64_t cols) { return cols % 8 == 0 ? 8 : 3; }

struct Output {
  std::string name;
  Buffer buffer;
};
struct Want {
  std::string name;  // of the output
  Vector values;
  double limit;
  Norm norm = Norm::Largest;
  double size = 0;  // values count as at least this large
};
struct Case {
  std::string name;
  std::function<std::vector<Output>()> run;  // with fresh buffers
  std::function<std::vector<Want>()> want;   // the reference's; touches no backend
};

void check(const Case& k);
void check_backends(const Case& k, const std::vector<Backend>& all = backends());
void check_threads(const Case& k);

double dot(const Vector& a, const Vector& b);
// NaN where either has one; in the Euclidean norm the absolute error where want is 0.
double error_of(const Vector& got, const Vector& want, Norm norm = Norm::Largest, double size = 0);
inline double error_of(const Buffer& got, const Vector& want, Norm norm = Norm::Largest) {
  return error_of(got.values(), want, norm);
}
// In the Euclidean norm.
void check_close(const std::string& what, const Vector& got, const Vector& want, double limit);
// And nothing was written outside of the view.
void check_close(const std::string& what, const Buffer& got, const Vector& want, double limit);

// d f / d x by central differences; f is in double, so a step of 1e-5 leaves about 1e-9 of error.
Vector differences(const std::function<double(const Vector&)>& f, Vector x, double step = 1e-5);
// The same where f sees x itself.
Vector differences(Vector& x, const std::function<double()>& f, double step = 1e-5);
// The gradient `got` of one input against finite differences of `twin` (input -> output), seen
// through cotangent dy.
void check_gradient(const std::string& what, const Buffer& got, const Vector& x, const Vector& dy,
                    const std::function<Vector(const Vector&)>& twin, double limit);

// Calls f with `count` threads and puts the former number back.
template <class F>
auto with_threads(int count, F&& f) {
  struct Restore {
    int threads = omp_get_max_threads();
    ~Restore() { omp_set_num_threads(threads); }
  } restore;
  omp_set_dynamic(0);
  omp_set_num_threads(count);
  return f();
}

// docs of B sequences of L tokens, documents starting at `starts` of each sequence; `carried` makes
// the first document of every sequence begin before it.
std::vector<int32_t> documents(int64_t B, int64_t L, const std::vector<int64_t>& starts,
                               bool carried);

}  // namespace ft::test

#include "tests/ops/case.h"

#include <algorithm>
#include <cmath>

namespace ft::test {

namespace {

const Buffer& named(const std::vector<Output>& outputs, const std::string& name) {
  for (const Output& o : outputs)
    if (o.name == name) return o.buffer;
  FAIL("the case has no output " << name);
  return outputs.front().buffer;
}

void check_outputs(const std::vector<Output>& outputs, const std::vector<Want>& wanted) {
  for (const Want& w : wanted) {
    const Buffer& got = named(outputs, w.name);
    const double error = error_of(got.values(), w.values, w.norm, w.size);
    INFO(w.name << ": relative error " << error << ", allowed " << w.limit);
    CHECK(error <= w.limit);  // false for NaN too
    CHECK(got.gap_intact());
  }
}

// What the first backend says becomes what is wanted, of all outputs; limits stay.
void take_values(std::vector<Want>& wanted, const std::vector<Output>& outputs) {
  for (const Output& o : outputs) {
    const auto has_name = [&](const Want& w) { return w.name == o.name; };
    auto at = std::find_if(wanted.begin(), wanted.end(), has_name);
    if (at == wanted.end()) at = wanted.insert(at, Want{o.name, {}, tolerance(o.buffer.dtype())});
    at->values = o.buffer.values();
  }
}

}  // namespace

void check(const Case& k) {
  INFO(k.name);
  check_outputs(k.run(), k.want());
}

void check_backends(const Case& k, const std::vector<Backend>& all) {
  INFO(k.name);
  std::vector<Want> wanted = k.want();
  for (const Backend& backend : all) {
    INFO("on " << backend.name << " against " << all.front().name);
    const Bench bench(backend);
    const std::vector<Output> outputs = k.run();
    if (&backend == &all.front()) take_values(wanted, outputs);
    check_outputs(outputs, wanted);
  }
}

void check_threads(const Case& k) {
  INFO(k.name);
  const std::vector<Output> one = with_threads(1, k.run);
  for (const int count : {2, 3}) {
    const std::vector<Output> more = with_threads(count, k.run);
    REQUIRE(one.size() == more.size());
    for (size_t i = 0; i < one.size(); ++i) {
      INFO(one[i].name << " with 1 and with " << count << " threads");
      CHECK(one[i].buffer.same_bits(more[i].buffer));
    }
  }
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double error_of(const Vector& got, const Vector& want, Norm norm, double size) {
  REQUIRE(got.size() == want.size());
  double squares = 0, square_size = 0, most = 0, largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double off = got[i] - want[i];
    squares += off * off, square_size += want[i] * want[i];
    if (!(std::abs(off) <= most)) most = std::abs(off);
    if (std::isnan(most)) return most;
    largest = std::max(largest, std::abs(want[i]));
  }
  if (norm == Norm::Largest) return most / std::max({largest, size, 1e-30});
  const double of = std::max(std::sqrt(square_size), size);
  return std::sqrt(squares) / (of > 0 ? of : 1.0);
}

void check_close(const std::string& what, const Vector& got, const Vector& want, double limit) {
  const double error = error_of(got, want, Norm::Euclidean);
  INFO(what << ": relative error " << error << ", allowed " << limit);
  CHECK(error <= limit);
}
void check_close(const std::string& what, const Buffer& got, const Vector& want, double limit) {
  check_close(what, got.values(), want, limit);
  INFO(what << ": wrote outside its view");
  CHECK(got.gap_intact());
}

Vector differences(Vector& x, const std::function<double()>& f, double step) {
  Vector out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double keep = x[i];
    x[i] = keep + step;
    const double high = f();
    x[i] = keep - step;
    out[i] = (high - f()) / (2 * step);
    x[i] = keep;
  }
  return out;
}
Vector differences(const std::function<double(const Vector&)>& f, Vector x, double step) {
  return differences(
      x, [&] { return f(x); }, step);
}

void check_gradient(const std::string& what, const Buffer& got, const Vector& x, const Vector& dy,
                    const std::function<Vector(const Vector&)>& twin, double limit) {
  check_close(what, got, differences([&](const Vector& v) { return dot(twin(v), dy); }, x), limit);
}

std::vector<int32_t> documents(int64_t B, int64_t L, const std::vector<int64_t>& starts,
                               bool carried) {
  std::vector<int32_t> docs(static_cast<size_t>(B * L));
  for (int64_t b = 0; b < B; ++b) {
    int64_t start = carried ? -7 : 0;
    for (int64_t i = 0; i < L; ++i) {
      if (std::find(starts.begin(), starts.end(), i) != starts.end()) start = i;
      docs[static_cast<size_t>(b * L + i)] = static_cast<int32_t>(b * L + start);
    }
  }
  return docs;
}

}  // namespace ft::test

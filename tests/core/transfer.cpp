// Values between host and device: dtypes, pitches, sizes beyond the pinned memory; on the CPU and on
// a device whose memory the host cannot touch and whose copies come late.
#include "core/transfer.h"

#include "core/memory.h"
#include "core/rng.h"
#include "cpu/device.h"
#include "tests/catch.h"
#include "tests/protected_device.h"

#include <cstring>

using namespace ft;

namespace {

std::unique_ptr<Device> device_of(const std::string& kind) {
  if (kind == "cpu") return std::make_unique<cpu::CpuDevice>();
  return std::make_unique<test::ProtectedDevice>();
}

std::vector<float> random_values(int64_t n) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i)
    values.push_back(
        static_cast<float>(random_normal(5, Purpose::Test, 0, static_cast<uint64_t>(i))));
  return values;
}

}  // namespace

TEST_CASE("transfer: fp32 and bf16 in dense tensors, views and single columns", "[transfer]") {
  const auto device = device_of(GENERATE(as<std::string>(), "cpu", "protected"));
  Memory memory(*device, false);
  Transfer& transfer = memory.transfer();
  for (const Dtype dtype : {Dtype::F32, Dtype::BF16}) {
    const Tensor all = memory.make("x", dtype, {7, 12});
    const std::vector<float> background = random_values(7 * 12);
    transfer.upload(all, background.data());
    const auto rounded = [&](float x) {
      return dtype == Dtype::BF16 ? static_cast<float>(bf16(x)) : x;
    };
    for (const auto& [first, end] : {std::pair{0, 12}, {3, 9}, {5, 6}}) {
      const int64_t cols = end - first;
      const std::vector<float> values = random_values(5 * 20);  // host rows are 20 apart
      transfer.upload(all.row_range(1, 6).columns(first, end), values.data(), 20);
      std::vector<float> got = transfer.download<float>(all);
      for (int64_t r = 0; r < 7; ++r)
        for (int64_t c = 0; c < 12; ++c) {
          const bool inside = r >= 1 && r < 6 && c >= first && c < end;
          const float expected = inside ? values[static_cast<size_t>((r - 1) * 20 + c - first)]
                                        : background[static_cast<size_t>(r * 12 + c)];
          REQUIRE(got[static_cast<size_t>(r * 12 + c)] == rounded(expected));
        }
      std::vector<float> wide(5 * 15, -7.f);
      transfer.download(all.row_range(1, 6).columns(first, end), wide.data(), 15);
      for (int64_t i = 0; i < 5 * 15; ++i)
        REQUIRE(
            wide[static_cast<size_t>(i)] ==
            (i % 15 < cols ? rounded(values[static_cast<size_t>(i / 15 * 20 + i % 15)]) : -7.f));
      transfer.upload(all, background.data());
    }
  }
}

TEST_CASE("transfer: other dtypes, vectors and scalars keep their bits", "[transfer]") {
  const auto device = device_of(GENERATE(as<std::string>(), "cpu", "protected"));
  Memory memory(*device, false);
  Transfer& transfer = memory.transfer();
  const auto round_trip = [&](const auto& values) {
    using E = std::decay_t<decltype(values[0])>;
    const Tensor t = memory.make("x", dtype_of<E>(), {static_cast<int64_t>(values.size())});
    transfer.upload(t, values.data());
    return transfer.download<E>(t) == values;
  };
  CHECK(round_trip(std::vector<int32_t>{-1, 0, INT32_MAX}));
  CHECK(round_trip(std::vector<int64_t>{INT64_MIN, 7}));
  CHECK(round_trip(std::vector<double>{1e300, -0.1}));
  CHECK(round_trip(std::vector<uint8_t>{0, 255, 3}));
  CHECK(round_trip(std::vector<float>{}));
  const double wide = 0.1;
  const float narrow_value = 0.1f;
  const Tensor d = memory.make("x", Dtype::F64, {1}), f = memory.make("x", Dtype::F32, {1}),
               b = memory.make("x", Dtype::BF16, {1});
  transfer.upload(d, &wide), transfer.upload(f, &narrow_value), transfer.upload(b, &narrow_value);
  CHECK(transfer.read(d) == wide);
  CHECK(transfer.read(f) == static_cast<double>(narrow_value));
  CHECK(transfer.read(b) == static_cast<double>(static_cast<float>(bf16(narrow_value))));
  const int32_t whole = 1;
  CHECK_THROWS_WITH(transfer.upload(f, &whole), Catch::Contains("int32 cannot become fp32"));
}

TEST_CASE("transfer: what is given may change at once, however much it is", "[transfer]") {
  const auto device = device_of(GENERATE(as<std::string>(), "cpu", "protected"));
  Memory memory(*device, false);
  Transfer& transfer = memory.transfer();
  const int64_t cols = static_cast<int64_t>(Transfer::kHalf) / 4 + 3;  // wider than a half
  const Tensor wide = memory.make("x", Dtype::F32, {3, cols + 1}).columns(0, cols);
  const Tensor narrow_rows = memory.make("x", Dtype::BF16, {5000, 130}).columns(1, 130);
  std::vector<float> values = random_values(3 * cols);
  const std::vector<float> sent = values;
  transfer.upload(wide, values.data());
  transfer.upload(narrow_rows, values.data());
  std::fill(values.begin(), values.end(), -1.f);
  CHECK(transfer.download<float>(wide) == sent);
  const auto got = transfer.download<float>(narrow_rows);
  bool right = true;
  for (size_t i = 0; i < got.size(); ++i)
    right = right && got[i] == static_cast<float>(bf16(sent[i]));
  CHECK(right);
  transfer.fill(
      wide, [&](int64_t row, float* to) { std::fill_n(to, cols, static_cast<float>(row) + 0.5f); });
  const auto filled = transfer.download<float>(wide);
  CHECK((filled.front() == 0.5f && filled[static_cast<size_t>(cols)] == 1.5f &&
         filled.back() == 2.5f));
}

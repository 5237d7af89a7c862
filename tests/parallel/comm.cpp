// Collectives against a plain fold in rank order; every [mpi] case also holds for a world of one.
#include "parallel/comm/comm.h"

#include "core/check.h"
#include "core/heartbeat.h"
#include "parallel/health.h"
#include "parallel/mesh.h"
#include "tests/catch.h"
#include "tests/world.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

using namespace ft;

namespace {

// A value that depends on rank and place, of changing size and sign, so that the order of a sum
// matters.
float value(int rank, int64_t i) {
  const auto x =
      static_cast<uint32_t>(i * 2654435761u + static_cast<uint32_t>(rank) * 40503u + 17u);
  return (static_cast<float>(x % 2003) - 1001.f) * std::pow(10.f, static_cast<float>(x % 7) - 3.f);
}

std::vector<float> part(int rank, int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = value(rank, i);
  return v;
}

bool same(const void* a, const void* b, size_t bytes) {
  return bytes == 0 || std::memcmp(a, b, bytes) == 0;
}

Tensor tensor(std::vector<float>& v) {
  return Tensor(v.data(), Dtype::F32, {static_cast<int64_t>(v.size())});
}

std::vector<float> folded(int ranks, int64_t n) {
  std::vector<float> sum = part(0, n);
  for (int r = 1; r < ranks; ++r)
    for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] += value(r, i);
  return sum;
}

}  // namespace

TEST_CASE("all_reduce is the fold in rank order, bit for bit, at any size", "[mpi]") {
  Group& all = test::world().all();
  for (int64_t n : {0, 1, 2, 3, 5, 7, 64, 1000, 1001, 65537, 1000003}) {
    std::vector<float> mine = part(all.rank(), n);
    all.all_reduce(tensor(mine), Reduce::Sum).wait();
    const std::vector<float> expected = folded(all.size(), n);
    INFO("elements " << n);
    CHECK(same(mine.data(), expected.data(), mine.size() * 4));
  }
}

TEST_CASE("all_reduce in fp64, and Max and Min over every type", "[mpi]") {
  Group& all = test::world().all();
  const int last = all.size() - 1;
  double x = 1.0 / 3 + all.rank(), expected = 1.0 / 3;
  for (int r = 1; r <= last; ++r) expected += 1.0 / 3 + r;
  CHECK(all_sum(all, x) == expected);
  CHECK(all_max(all, x) == 1.0 / 3 + last);
  CHECK(all_max(all, static_cast<int64_t>(-5 - all.rank())) == -5);
  CHECK(all_sum(all, (int64_t{1} << 60) / all.size()) ==
        (int64_t{1} << 60) / all.size() * all.size());

  std::vector<int32_t> ints{all.rank(), -all.rank(), 3};
  all.all_reduce(Tensor(ints.data(), Dtype::I32, {3}), Reduce::Min).wait();
  CHECK(ints == std::vector<int32_t>{0, -last, 3});
  std::vector<float> floats{static_cast<float>(all.rank()), -1.f,
                            -2.f - static_cast<float>(all.rank())};
  all.all_reduce(tensor(floats), Reduce::Max).wait();
  CHECK(floats == std::vector<float>{static_cast<float>(last), -1.f, -2.f});
  // A NaN anywhere shows on every rank.
  std::vector<float> bad(5, 1.f);
  if (all.rank() == last) bad[2] = std::numeric_limits<float>::quiet_NaN();
  all.all_reduce(tensor(bad), Reduce::Max).wait();
  CHECK(std::isnan(bad[2]));
  CHECK(bad[1] == 1.f);
}

TEST_CASE("several parts are reduced at once, each as it would be alone", "[mpi]") {
  Group& all = test::world().all();
  const int last = all.size() - 1;
  std::vector<float> sums = part(all.rank(), 5), alone = sums;
  std::vector<float> peaks(3, static_cast<float>(all.rank()));  // 12 bytes; the next begin at 16
  if (all.rank() == last) peaks[1] = std::numeric_limits<float>::quiet_NaN();
  double third = 1.0 / (3 + all.rank());
  int64_t ranks = 1;
  const double sum_of_thirds = all_sum(all, third);
  all.all_reduce(tensor(alone), Reduce::Sum).wait();
  all.all_reduce({{tensor(sums), Reduce::Sum},
                  {tensor(peaks), Reduce::Max},
                  {Tensor(&third, Dtype::F64, {1}), Reduce::Sum},
                  {Tensor(&ranks, Dtype::I64, {1}), Reduce::Sum}})
      .wait();
  CHECK(sums == alone);
  CHECK(peaks[0] == static_cast<float>(last));
  CHECK(std::isnan(peaks[1]));
  CHECK(third == sum_of_thirds);
  CHECK(ranks == all.size());
}

TEST_CASE("work done together gives its sum, or the fault of the first rank", "[mpi]") {
  Group& all = test::world().all();
  const int last = all.size() - 1;
  CHECK(together_sum(all, [&] { return int64_t{all.rank()} + 1; }) ==
        all.size() * (all.size() + 1) / 2);
  const auto fail = [&]() -> int64_t {
    if (all.rank() == last) throw ConfigError("nothing to read");
    return 5;
  };
  try {
    together_sum(all, fail);
    FAIL("a rank's fault was not told");
  } catch (const SharedError& error) {
    CHECK_THAT(error.what(), Catch::Contains("nothing to read"));
    CHECK(error.exit_code() == 2);
  }
}

TEST_CASE("all_gather, reduce_scatter and broadcast", "[mpi]") {
  Group& all = test::world().all();
  const int size = all.size(), rank = all.rank();
  for (int64_t n : {1, 3, 1001}) {
    std::vector<float> mine = part(rank, n), out(static_cast<size_t>(n * size));
    all.all_gather(tensor(out), tensor(mine)).wait();
    for (int r = 0; r < size; ++r)
      CHECK(same(out.data() + r * n, part(r, n).data(), static_cast<size_t>(n) * 4));

    std::vector<float> whole = part(rank, n * size), slice(static_cast<size_t>(n));
    all.reduce_scatter(tensor(slice), tensor(whole)).wait();
    CHECK(same(slice.data(), folded(size, n * size).data() + rank * n, slice.size() * 4));

    for (int root = 0; root < size; ++root) {
      std::vector<float> data = part(rank, n);
      all.broadcast(tensor(data), root).wait();
      CHECK(same(data.data(), part(root, n).data(), data.size() * 4));
    }
  }
  all.barrier().wait();
}

TEST_CASE("send and receive round a ring, several tags under way", "[mpi]") {
  Group& all = test::world().all();
  if (all.size() == 1) return;
  const int to = (all.rank() + 1) % all.size(), from = (all.rank() + all.size() - 1) % all.size();
  std::vector<float> out[3], in[3];
  std::vector<Request> requests;
  for (int tag = 0; tag < 3; ++tag) {
    out[tag] = part(all.rank(), 100 + tag);
    in[tag].resize(out[tag].size());
  }
  for (int tag = 2; tag >= 0; --tag) requests.push_back(all.receive(tensor(in[tag]), from, tag));
  for (int tag = 0; tag < 3; ++tag) requests.push_back(all.send(tensor(out[tag]), to, tag));
  for (Request& r : requests) r.wait();
  for (int tag = 0; tag < 3; ++tag)
    CHECK(same(in[tag].data(), part(from, 100 + tag).data(), in[tag].size() * 4));
}

TEST_CASE("several reductions under way at once stay apart", "[mpi]") {
  Group& all = test::world().all();
  std::vector<std::vector<float>> data;
  std::vector<Request> requests;
  for (int64_t n : {1001, 70000, 3, 257}) data.push_back(part(all.rank(), n));
  for (auto& v : data) requests.push_back(all.all_reduce(tensor(v), Reduce::Sum));
  // Finished in another order on every other rank: nothing may depend on it.
  if (all.rank() % 2) std::reverse(requests.begin(), requests.end());
  for (bool done = false; !done;) {
    done = true;
    for (Request& r : requests) done = r.test() && done;
  }
  for (auto& v : data)
    CHECK(same(v.data(), folded(all.size(), static_cast<int64_t>(v.size())).data(), v.size() * 4));
}

TEST_CASE("a request that is dropped is waited for", "[mpi]") {
  Group& all = test::world().all();
  std::vector<float> v = part(all.rank(), 300001);
  { Request dropped = all.all_reduce(tensor(v), Reduce::Sum); }
  CHECK(same(v.data(), folded(all.size(), 300001).data(), v.size() * 4));
  all.barrier().wait();
}

TEST_CASE("texts are gathered and broadcast", "[mpi]") {
  Group& all = test::world().all();
  const auto texts = gather_text(all, std::string(static_cast<size_t>(all.rank() * 10), 'x') + "ß");
  REQUIRE(static_cast<int>(texts.size()) == all.size());
  for (int r = 0; r < all.size(); ++r)
    CHECK(texts[static_cast<size_t>(r)] == std::string(static_cast<size_t>(r * 10), 'x') + "ß");
  const int last = all.size() - 1;
  CHECK(broadcast_text(all, all.rank() == last ? "from the last" : "", last) == "from the last");
  CHECK(broadcast_text(all, "", 0).empty());
}

TEST_CASE("the mesh places ranks tensor first and groups those that differ in dp", "[mpi]") {
  World& world = test::world();
  const int ranks = world.all().size(), rank = world.all().rank();
  const Mesh plain = Mesh::build(world, 1, 1, 1);
  CHECK(plain.data_size == ranks);
  CHECK(plain.dp == rank);
  CHECK(plain.data->size() == ranks);
  if (ranks % 2 == 0) {
    const Mesh mesh = Mesh::build(world, 2, 1, 1);
    CHECK(mesh.tp == rank % 2);
    CHECK(mesh.dp == rank / 2);
    CHECK(mesh.data->size() == ranks / 2);
    CHECK(mesh.data->rank() == mesh.dp);
    CHECK(all_max(*mesh.data, static_cast<int64_t>(mesh.tp)) == mesh.tp);
  }
  CHECK_THROWS_AS(Mesh::build(world, ranks + 1, 1, 1), ConfigError);
  CHECK_THROWS_AS(Mesh::build(world, 0, 1, 1), ConfigError);
}

TEST_CASE("a rank that stays away ends the wait with an error that names it", "[mpi]") {
  World& world = test::world();
  if (world.all().size() == 1) return;
  const int last = world.all().size() - 1;
  std::vector<float> v(10);
  world.all().barrier().wait();
  if (world.all().rank() == 0) {
    world.set_timeout(0.3);
    // Ranks of other nodes are not seen.
    const bool here = world.local_size() == world.all().size();
    CHECK_THROWS_WITH(world.all().receive(tensor(v), last, 99).wait(),
                      Catch::Contains("run.timeout") &&
                          Catch::Contains(here ? fmt::format("rank {}", last) : ""));
    world.set_timeout(600);
  }
  if (world.all().rank() == last) {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    world.all().send(tensor(v), 0, 99).wait();
  }
  if (world.all().rank() == 0) world.all().receive(tensor(v), last, 98).wait();
  if (world.all().rank() == last) world.all().send(tensor(v), 0, 98).wait();
  world.all().barrier().wait();
}

TEST_CASE("a rank that is long at work and beats is waited for", "[mpi]") {
  World& world = test::world();
  Group& all = world.all();
  if (all.size() == 1 || world.local_size() != all.size()) return;  // beats stay in a node
  all.barrier().wait();
  world.set_timeout(0.3);
  if (all.rank() == 0)
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      beat();
    }
  CHECK_NOTHROW(all.barrier().wait());
  world.set_timeout(600);
  all.barrier().wait();
}

TEST_CASE("storage that is slow is waited for by the other ranks", "[mpi]") {
  World& world = test::world();
  Group& all = world.all();
  if (all.size() == 1 || world.local_size() != all.size()) return;
  all.barrier().wait();
  world.set_timeout(0.3);
  if (all.rank() == 0) {
    const std::string path = "a file";
    const StorageCall call("read", path);
    std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  }
  CHECK_NOTHROW(all.barrier().wait());
  world.set_timeout(600);
  all.barrier().wait();
}

TEST_CASE("what MPI reports is an error of ours", "[mpi]") {
  Group& all = test::world().all();
  if (all.size() == 1) return;
  std::vector<float> v(4);
  CHECK_THROWS_WITH(all.send(tensor(v), all.size(), 5), Catch::Contains("MPI has failed"));
  all.barrier().wait();
}

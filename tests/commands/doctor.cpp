// doctor: its verdicts on machines that are made up, and its words on this one.
#include "app/machine/diagnose.h"
#include "tests/catch.h"
#include "tests/commands/command.h"

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

Machine good(int rank = 0, int ranks = 1) {
  Machine m;
  m.host = "node1", m.processor = "P", m.isa = "avx2 fma";
  m.cores = {0, 1, 2, 3}, m.cores_online = 4, m.threads = 4 / ranks;
  m.memory = int64_t{64} << 30;
  m.shm = m.shm_free = int64_t{32} << 30;
  m.open_files = 65536, m.locked_memory = m.core_size = -1;
  m.rank = m.local_rank = rank, m.local_size = ranks;
  return m;
}

std::string verdict(const std::vector<Machine>& ranks) {
  std::string text;
  for (const Finding& f : judge(ranks)) text += f.wrong + " -> " + f.mend + "\n";
  return text;
}

}  // namespace

TEST_CASE("doctor: a good machine is not found fault with") {
  CHECK(verdict({good()}).empty());
  CHECK(verdict({good(0, 2), good(1, 2)}).empty());
  Machine low = good(0, 2), high = good(1, 2);  // bound, each to its own
  low.cores = {0, 1}, high.cores = {2, 3};
  CHECK(verdict({low, high}).empty());
  low.cores = high.cores = {1, 2};  // in one cpuset, sharing it
  low.threads = high.threads = 1;
  CHECK(verdict({low, high}).empty());
  high.threads = 2;
  CHECK(has(verdict({low, high}), "ranks 0 and 1 are bound to the same core 1"));
}

TEST_CASE("doctor: each fault is named with its mend") {
  Machine a = good(0, 2), b = good(1, 2);
  a.cores = b.cores = {2}, a.threads = b.threads = 1;
  CHECK(has(verdict({a, b}), "ranks 0 and 1 are bound to the same core 2"));
  CHECK(has(verdict({a, b}), "--bind-to none"));
  b.host = "node2";  // core 2 of another machine
  CHECK(verdict({a, b}).empty());

  Machine m = good();
  m.cpu_limit = 1.5;
  CHECK(has(verdict({m}), "4 threads in all, but the cgroup grants 1.5 cores"));
  m = good();
  m.memory_limit = int64_t{8} << 30;
  CHECK(has(verdict({m}), "8.0 GiB of the machine's 64.0 GiB"));
  m = good();
  m.isa = "sse2";
  CHECK(has(verdict({m}), "AVX2"));
  m = good();
  m.open_files = 256;
  CHECK(has(verdict({m}), "ulimit -n"));
  m = good();
  m.threads = 9;
  CHECK(has(verdict({m}), "takes 9 threads on 4 cores"));
  m = good();
  m.omp_threads = "many";
  CHECK(has(verdict({m}), "\"many\""));

  a = good(0, 2), b = good(1, 2);
  a.shm = a.shm_free = b.shm = b.shm_free = int64_t{1} << 20;
  CHECK(has(verdict({a, b}), "/dev/shm has 1 MiB free"));
  CHECK(has(verdict({a, b}), "--shm-size"));
  a.shm = a.shm_free = b.shm = b.shm_free = -1;
  CHECK(has(verdict({a, b}), "there is no /dev/shm"));
  CHECK(verdict({good()}).empty());

  std::vector<Machine> crowd;
  for (int r = 0; r < 5; ++r) crowd.push_back(good(r, 4));
  CHECK(has(verdict(crowd), "5 ranks share 4 cores"));
  a = good(), b = good();
  b.host = "node2", b.processor = "Q";
  CHECK(has(verdict({a, b}), "machines of one kind"));
}

TEST_CASE("doctor: measures this machine, exit code as found") {
  const Ran ran = command("doctor --seconds 0.02 --json - --directory " + workspace());
  const json all = json::parse(ran.out);
  INFO(all["findings"].dump());
  CHECK(ran.code == (all["findings"].empty() ? 0 : 1));
  CHECK(all["ranks"][0]["cores_online"].get<int>() >= 1);
  CHECK(has(all["ranks"][0]["isa"].get<std::string>(), "avx2"));
  CHECK(all["ceilings"][0]["flops"].get<double>() > 1e8);
  CHECK(all["disk"]["write_bytes_per_second"].get<double>() > 0);
  CHECK(all["build"]["MPI"].get<std::string>().size() > 3);
  const std::string text = command("doctor --seconds 0.02 --directory " + workspace()).out;
  for (const char* part : {"matrix product", "/dev/shm", "System V segments", "address space"})
    CHECK(has(text, part));
  const Ran odd = command("doctor --seconds 0.02 --directory " + workspace() + "/x/y");
  CHECK(has(odd.out, workspace()));  // the nearest folder that exists
}

TEST_CASE("doctor: ranks see each other") {
  const Ran ran = command("doctor --seconds 0.02 --json - --directory " + workspace(), 2);
  const json all = json::parse(ran.out);
  REQUIRE(all["ranks"].size() == 2);
  CHECK(all["ranks"][1]["rank"] == 1);
  CHECK(all["all_reduce"]["latency_seconds"].get<double>() > 0);
  CHECK(all["all_reduce"]["bytes_per_second"].get<double>() > 0);
}

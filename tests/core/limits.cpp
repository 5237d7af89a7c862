// What the machine allows, read from trees of /proc and /sys that are made up.
#include "core/limits.h"

#include "core/file.h"
#include "tests/catch.h"

#include <fmt/format.h>

#include <unistd.h>

#include <filesystem>

using namespace ft;
namespace fs = std::filesystem;

namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

// A machine of 64 GiB and 16 cores without limits.
struct Tree {
  std::string root = (fs::temp_directory_path() / fmt::format("ft-limits-{}", ::getpid())).string();
  Tree() {
    fs::remove_all(root);
    put("/proc/meminfo",
        "MemTotal:       67108864 kB\nMemFree: 1 kB\nMemAvailable:   33554432 kB\n");
    put("/proc/self/status", "Name:\tx\nCpus_allowed:\tffff\nCpus_allowed_list:\t0-15\n");
    put("/sys/devices/system/cpu/online", "0-15\n");
    put("/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max data size             unlimited            unlimited            bytes     \n"
        "Max address space         unlimited            unlimited            bytes     \n");
  }
  ~Tree() { fs::remove_all(root); }
  void put(const std::string& path, const std::string& text) const {
    fs::create_directories(fs::path(root + path).parent_path());
    write_text(root + path, text);
  }
  // Version 2 at /sys/fs/cgroup, showing the hierarchy from `inside` on.
  void version2(const std::string& group, const std::string& inside = "/") const {
    put("/proc/self/cgroup", "0::" + group + "\n");
    put("/proc/self/mountinfo",
        "22 1 8:1 / / rw,relatime - ext4 /dev/root rw\n31 22 0:28 " + inside +
            " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  }
  Limits read() const { return read_limits(root); }
};

}  // namespace

TEST_CASE("limits: a machine without any", "[limits]") {
  const Tree tree;
  const Limits l = tree.read();
  CHECK(l.memory == 64 * kGiB);
  CHECK(l.memory_available == 32 * kGiB);
  CHECK(l.memory_limit == 0);
  CHECK(l.address_space == 0);
  CHECK(l.cores.size() == 16);
  CHECK(l.cores_online == 16);
  CHECK(l.cpu_quota == 0);
  CHECK(memory_of_each(l, 4) == 16 * kGiB);
}

TEST_CASE("limits: the least on the way from the process's own group to the root", "[limits]") {
  const Tree tree;
  const std::string job = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7";
  tree.version2("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0");
  tree.put(job + "/step_0/user/task_0/memory.max", "max\n");
  tree.put(job + "/step_0/memory.max", fmt::format("{}\n", 12 * kGiB));
  tree.put(job + "/memory.max", fmt::format("{}\n", 10 * kGiB));
  tree.put("/sys/fs/cgroup/system.slice/memory.max", fmt::format("{}\n", 40 * kGiB));
  tree.put("/sys/fs/cgroup/other/memory.max", "4096\n");  // not ours
  tree.put(job + "/cpu.max", "250000 100000\n");
  tree.put(job + "/step_0/cpu.max", "max 100000\n");
  const Limits l = tree.read();
  CHECK(l.memory_limit == 10 * kGiB);
  CHECK(l.cpu_quota == Approx(2.5));
  CHECK(memory_of_each(l, 4) == 10 * kGiB / 4);
}

TEST_CASE("limits: a container that sees its own group as the top", "[limits]") {
  const Tree tree;
  tree.put("/sys/fs/cgroup/memory.max", fmt::format("{}\n", 3 * kGiB));
  SECTION("named from the machine's") {
    tree.version2("/docker/abc", "/docker/abc");
    CHECK(tree.read().memory_limit == 3 * kGiB);
  }
  SECTION("with a group of its own below") {
    tree.version2("/docker/abc/inner", "/docker/abc");
    tree.put("/sys/fs/cgroup/inner/memory.max", fmt::format("{}\n", 2 * kGiB));
    CHECK(tree.read().memory_limit == 2 * kGiB);
  }
  SECTION("a name that only begins alike") {
    tree.version2("/docker/abcdef", "/docker/abc");
    CHECK(tree.read().memory_limit == 3 * kGiB);
  }
  SECTION("outside of what is shown") {
    tree.version2("/../other");
    CHECK(tree.read().memory_limit == 3 * kGiB);
  }
  SECTION("a group whose folder is not there") {
    tree.version2("/system.slice/gone.scope");
    CHECK(tree.read().memory_limit == 3 * kGiB);
  }
  SECTION("mounts that cannot be read") {
    tree.put("/proc/self/cgroup", "0::/\n");
    CHECK(tree.read().memory_limit == 3 * kGiB);
  }
}

TEST_CASE("limits: version 1, each controller where it is mounted", "[limits]") {
  const Tree tree;
  tree.put(
      "/proc/self/cgroup",
      "9:name=systemd:/\n4:memory:/slurm/uid_0/job_7\n2:cpu,cpuacct:/slurm\n1:cpuset:/c\n0::/\n");
  tree.put("/proc/self/mountinfo",
           "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
           "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
           "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
           "34 31 0:31 /slurm /mnt/memory\\040groups rw shared:9 - cgroup cgroup rw,memory\n"
           "35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  const std::string memory = "/mnt/memory groups";
  tree.put(memory + "/memory.limit_in_bytes", "9223372036854771712\n");
  tree.put(memory + "/uid_0/memory.limit_in_bytes", fmt::format("{}\n", 20 * kGiB));
  tree.put(memory + "/uid_0/job_7/memory.limit_in_bytes", fmt::format("{}\n", 8 * kGiB));
  tree.put("/sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_quota_us", "150000\n");
  tree.put("/sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_period_us", "100000\n");
  tree.put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  tree.put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  CHECK(tree.read().memory_limit == 8 * kGiB);
  CHECK(tree.read().cpu_quota == Approx(1.5));
  tree.put(memory + "/uid_0/job_7/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK(tree.read().memory_limit == 20 * kGiB);
  tree.put(memory + "/uid_0/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK(tree.read().memory_limit == 0);  // "none", as version 1 writes it
}

TEST_CASE("limits: the address space of a process is its own", "[limits]") {
  const Tree tree;
  tree.put("/proc/self/limits",
           fmt::format("Max data size             unlimited            unlimited            bytes\n"
                       "Max address space         {}           unlimited            bytes\n",
                       5 * kGiB));
  CHECK(tree.read().address_space == 5 * kGiB);
  CHECK(memory_of_each(tree.read(), 2) == 5 * kGiB);
  CHECK(memory_of_each(tree.read(), 32) == 2 * kGiB);
}

TEST_CASE("limits: threads are a rank's share of the cores that it may run on", "[limits]") {
  Limits mine;
  mine.cores = {0, 1, 2, 3}, mine.cores_online = 16;
  const auto count = [&](const std::vector<RankCores>& ranks) {
    return choose_threads(0, nullptr, mine, ranks).count;
  };
  const std::vector<int> same = mine.cores, others = {4, 5, 6, 7}, some = {2, 3, 4, 5};
  CHECK(count({{same}}) == 4);
  CHECK(count({{same}, {others}}) == 4);        // bound, each to its own
  CHECK(count({{same}, {same}}) == 2);          // in one cpuset
  CHECK(count({{same}, {same}, {same}}) == 1);  // 4 / 3
  CHECK(count({{same, 9}}) == 1);
  CHECK(count({{same}, {some}}) == 3);  // two alone, two shared
  CHECK(choose_threads(0, nullptr, mine, {{same, 2}}).from == "4 cores shared by 2 ranks");
  CHECK(choose_threads(0, nullptr, mine, {{same}}).from == "4 cores");
}

TEST_CASE("limits: run.threads before OMP_NUM_THREADS before the cores, and a quota", "[limits]") {
  Limits mine;
  mine.cores = {0, 1, 2, 3};
  const std::vector<RankCores> ranks = {{mine.cores, 2}};
  CHECK(choose_threads(3, "5", mine, ranks).count == 3);
  CHECK(choose_threads(3, "5", mine, ranks).from == "run.threads");
  CHECK(choose_threads(0, "5", mine, ranks).count == 5);
  CHECK(choose_threads(0, "5,2", mine, ranks).from == "OMP_NUM_THREADS");
  for (const char* odd : {"many", "0", "-2", "1e9", "99999999999999999999"}) {
    const Threads t = choose_threads(0, odd, mine, ranks);
    CHECK(t.count == 2);
    CHECK(t.from.find(std::string("OMP_NUM_THREADS=\"") + odd + "\" is no number") !=
          std::string::npos);
  }
  CHECK(choose_threads(0, "", mine, ranks).from == "4 cores shared by 2 ranks");
  mine.cpu_quota = 3;
  CHECK(choose_threads(0, nullptr, mine, ranks).count == 1);
  CHECK(choose_threads(0, nullptr, mine, ranks).from ==
        "the control group's quota of 3 cores for 2 ranks");
  CHECK(choose_threads(0, nullptr, mine, {{mine.cores, 1}}).count == 3);
  mine.cpu_quota = 0.5;
  CHECK(choose_threads(0, nullptr, mine, ranks).count == 1);
}

TEST_CASE("limits: lists of cores", "[limits]") {
  CHECK(parse_core_ranges(" 0-3,8\n") == std::vector<int>{0, 1, 2, 3, 8});
  CHECK(parse_core_ranges("").empty());
  CHECK(parse_core_ranges("x,5,7-,9-2,0-99999999999") == std::vector<int>{5});
  CHECK(core_ranges({0, 1, 2, 3, 8}) == "0-3,8");
  CHECK(core_ranges({}).empty());
}

TEST_CASE("limits: this machine has memory and cores", "[limits]") {
  const Limits l = read_limits();
  CHECK(l.memory > (int64_t{1} << 28));
  CHECK_FALSE(l.cores.empty());
  CHECK(l.cores_online >= static_cast<int>(l.cores.size()));
  CHECK(choose_threads(0, 1 << 30).count == 1);
}

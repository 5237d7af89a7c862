#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/machine/diagnose.h"

#include "app/commands/numbers.h"
#include "app/machine/build_info.h"
#include "app/machine/ceilings.h"
#include "core/limits.h"
#include "core/platform.h"
#include "cuda/device.h"

#include <fmt/ranges.h>

#include <fcntl.h>
#include <memory>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Machine, host, processor, isa, cores, cores_online, cpu_limit,
                                   memory, memory_available, memory_limit, address_space, shm,
                                   shm_free, shm_segment, open_files, locked_memory, core_size,
                                   numa_nodes, huge_pages, omp_threads, launcher, threads,
                                   threads_words, rank, local_rank, local_size)

namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr int64_t kDiskBytes = int64_t{64} << 20;
constexpr int64_t kSlowDisk = 20'000'000;  // bytes a second
constexpr int64_t kLittleSpace = int64_t{5} << 30;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Disk {
  std::string folder;  // the nearest that exists
  double write = 0, read = 0;
  int64_t free = 0;
};

// Writes a file durably and reads it again past the page cache, where the file system lets us.
Disk measure_disk(const std::string& directory, std::vector<Finding>& findings) {
  fs::path folder = fs::absolute(directory);
  while (!fs::is_directory(folder)) folder = folder.parent_path();
  Disk disk{.folder = folder.string()};
  struct statvfs space {};
  if (statvfs(folder.c_str(), &space) == 0)
    disk.free = static_cast<int64_t>(space.f_bavail * space.f_frsize);
  if (disk.free < kLittleSpace)
    findings.push_back(
        {fmt::format("{}: {:.2f} GiB are free", disk.folder, static_cast<double>(disk.free) / kGiB),
         "free some, or name another folder as run.directory: checkpoints take 12 "
         "bytes a parameter each"});
  std::string name = (folder / ".falcon-train-XXXXXX").string();
  const int file = mkstemp(name.data());
  if (file < 0) {
    findings.push_back({fmt::format("{}: no file can be written there", disk.folder),
                        "check the folder's rights, or name another as run.directory"});
    return disk;
  }
  unlink(name.c_str());
  std::vector<char> part(size_t{4} << 20, 'f');
  const auto size = static_cast<ssize_t>(part.size());
  bool whole = disk.free > 4 * kDiskBytes;
  auto begin = Clock::now();
  for (int64_t at = 0; whole && at < kDiskBytes; at += size)
    whole = write(file, part.data(), part.size()) == size;
  whole = whole && fsync(file) == 0;
  if (whole) disk.write = static_cast<double>(kDiskBytes) / since(begin);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  begin = Clock::now();
  for (int64_t at = 0; whole && at < kDiskBytes; at += size)
    whole = pread(file, part.data(), part.size(), at) == size;
  if (whole) disk.read = static_cast<double>(kDiskBytes) / since(begin);
  close(file);
  if (whole && disk.write < kSlowDisk)
    findings.push_back({fmt::format("{}: writes {:.1f} MB/s", disk.folder, disk.write * 1e-6),
                        "name a faster disk as run.directory: training waits while it saves"});
  return disk;
}

struct Links {
  double latency = 0, bandwidth = 0;  // of an all-reduce: seconds of 8 bytes; bytes/s of 16 MiB
};

double best_all_reduce(Group& group, std::vector<float>& data, double seconds) {
  const auto n = static_cast<int64_t>(data.size());
  double best = 1e30, total = 0;
  for (int i = 0; i < 3 || total < seconds; ++i) {
    group.barrier().wait();
    const auto begin = Clock::now();
    group.all_reduce(Tensor(data.data(), Dtype::F32, {n}), Reduce::Sum).wait();
    const double s = all_max(group, since(begin));  // equal on all: they end together
    best = std::min(best, s), total += s;
  }
  return best;
}

Links measure_links(Group& group, double seconds) {
  if (group.size() == 1) return {};
  std::vector<float> few(2), many(size_t{4} << 20);
  Links links;
  links.latency = best_all_reduce(group, few, seconds / 4);
  links.bandwidth =
      static_cast<double>(many.size() * sizeof(float)) / best_all_reduce(group, many, seconds);
  return links;
}

std::string limit(int64_t value) { return value < 0 ? "unlimited" : std::to_string(value); }
std::string gib(int64_t bytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / kGiB);
}

std::string machine_text(const Machine& m) {
  std::string text = fmt::format("processor     {}\n", m.processor);
  text += fmt::format("              reports {}\n", m.isa);
  text += fmt::format(
      "cores         {} online; this process may use {} ({})\n"
      "threads       {}\n",
      m.cores_online, m.cores.size(), core_ranges(m.cores), m.threads_words);
  text += fmt::format("cgroup        CPU {}, memory {}\n",
                      m.cpu_limit > 0 ? fmt::format("{:.2f} cores", m.cpu_limit) : "without limit",
                      m.memory_limit > 0 ? gib(m.memory_limit) : "without limit");
  text +=
      fmt::format("memory        {}, {} available; {} NUMA node{}; transparent huge pages {}\n",
                  gib(m.memory), gib(m.memory_available), m.numa_nodes,
                  m.numa_nodes == 1 ? "" : "s", m.huge_pages.empty() ? "unknown" : m.huge_pages);
  text += fmt::format(
      "shared memory /dev/shm {}; System V segments {}\n",
      m.shm < 0 ? "is not there" : fmt::format("{}, {} free", gib(m.shm), gib(m.shm_free)),
      m.shm_segment > 0 && m.shm_segment < m.memory ? "up to " + gib(m.shm_segment)
                                                    : "without limit");
  return text + fmt::format(
                    "limits        open files {}, locked memory {}, core files {}, address "
                    "space {}\n",
                    limit(m.open_files), limit(m.locked_memory), limit(m.core_size),
                    m.address_space > 0 ? gib(m.address_space) : "unlimited");
}

std::string gpu_text() {
  const std::vector<std::string> gpus = cuda::descriptions();
  if (!gpus.empty()) return fmt::format("{}", fmt::join(gpus, "\n              "));
  const bool there = fs::exists("/dev/nvidia0") || fs::exists("/dev/nvidiactl");
  return std::string(there ? "NVIDIA device files are there" : "none seen") +
         (kBuiltWithCuda ? "; no GPU answers" : "; this build has no CUDA backend");
}

struct Report {
  std::vector<Machine> ranks;
  std::vector<Ceiling> ceilings;
  std::optional<Ceiling> gpu;  // of the first, in bf16
  Disk disk;
  Links links;
  std::vector<Finding> findings;
};

void print(const Report& r) {
  const Machine& m = r.ranks.front();
  std::string text = build_text() + machine_text(m) + fmt::format("GPU           {}\n", gpu_text());
  for (const Ceiling& c : r.ceilings)
    text += fmt::format("{} thread{:<5}  matrix product {:.1f} GFLOP/s, copy {:.1f} GB/s\n",
                        c.threads, c.threads == 1 ? "" : "s", c.flops * 1e-9, c.copy_bytes * 1e-9);
  if (r.gpu)
    text += fmt::format("GPU 0         bf16 matrix product {:.1f} TFLOP/s, copy {:.0f} GB/s\n",
                        r.gpu->flops * 1e-12, r.gpu->copy_bytes * 1e-9);
  text += fmt::format("disk          {}: {} free, write {:.0f} MB/s, read {:.0f} MB/s\n",
                      r.disk.folder, gib(r.disk.free), r.disk.write * 1e-6, r.disk.read * 1e-6);
  text += fmt::format("ranks         {}, launcher: {}\n", r.ranks.size(), m.launcher);
  if (r.ranks.size() > 1) {
    for (const Machine& one : r.ranks)
      text += fmt::format("  rank {:<5}  {}, cores {}, {} thread{}\n", one.rank, one.host,
                          core_ranges(one.cores), one.threads, one.threads == 1 ? "" : "s");
    text += fmt::format("  all-reduce  {:.1f} us for 8 bytes, {:.2f} GB/s for 16 MiB\n",
                        r.links.latency * 1e6, r.links.bandwidth * 1e-9);
  }
  for (const Finding& f : r.findings)
    text += fmt::format("\nWRONG  {}\n  mend: {}\n", f.wrong, f.mend);
  fmt::print("{}{}", text, r.findings.empty() ? "\nnothing is wrong\n" : "");
}

json numbers(const Report& r) {
  json all = {{"build", build_libraries()},
              {"ranks", r.ranks},
              {"gpu", gpu_text()},
              {"disk",
               {{"folder", r.disk.folder},
                {"free", r.disk.free},
                {"write_bytes_per_second", r.disk.write},
                {"read_bytes_per_second", r.disk.read}}},
              {"all_reduce",
               {{"latency_seconds", r.links.latency}, {"bytes_per_second", r.links.bandwidth}}},
              {"ceilings", json::array()},
              {"findings", json::array()}};
  for (const Ceiling& c : r.ceilings)
    all["ceilings"].push_back(
        {{"threads", c.threads}, {"flops", c.flops}, {"copy_bytes", c.copy_bytes}});
  if (r.gpu) all["gpu_ceiling"] = {{"bf16_flops", r.gpu->flops}, {"copy_bytes", r.gpu->copy_bytes}};
  for (const Finding& f : r.findings)
    all["findings"].push_back({{"wrong", f.wrong}, {"mend", f.mend}});
  return all;
}

}  // namespace

int doctor(World& world, const DoctorOptions& o) {
  Group& group = world.all();
  Report r;
  for (const std::string& text : gather_text(group, json(look_at_machine(world)).dump()))
    r.ranks.push_back(json::parse(text).get<Machine>());
  r.findings = judge(r.ranks);
  r.links = measure_links(group, o.seconds);
  int64_t wrong = 0;
  if (group.rank() == 0) {
    r.disk = measure_disk(o.directory, r.findings);
    r.ceilings = measure_ceilings(r.ranks.front().threads, Dtype::F32, o.seconds / 2);
    if (cuda::available()) r.gpu = measure_gpu(*cuda::open_device(0), Dtype::BF16, o.seconds / 2);
    if (o.json != "-") print(r);
    if (!o.json.empty()) write_json(o.json, numbers(r));
    wrong = r.findings.empty() ? 0 : 1;
  }
  return static_cast<int>(all_max(group, wrong));
}

void add_doctor(CLI::App& app, Run& run) {
  const auto o = std::make_shared<DoctorOptions>();
  auto* c = app.add_subcommand("doctor", "What this machine offers, what is wrong, and the mend");
  c->footer(
      "Examples:\n"
      "  falcon-train doctor --directory /scratch/runs\n"
      "  mpirun -n 4 falcon-train doctor --json doctor.json    (who sits where, how fast they "
      "talk)\n"
      "Exit code 0: nothing is wrong, 1: something is");
  c->add_option("--directory", o->directory, "Folder of the runs; its disk is measured")
      ->capture_default_str();
  c->add_option("--seconds", o->seconds, "Seconds of each measurement")
      ->transform(real(Range{0.01, 600}))
      ->capture_default_str();
  c->add_option("--json", o->json, "Also write the findings to a file; -: only them")
      ->type_name("FILE");
  c->callback([o, &run] { run = [o](World& world) { return doctor(world, *o); }; });
}

}  // namespace ft

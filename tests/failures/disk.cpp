// Disks that are full or read-only. They are small file systems in memory, which only root may
// make; elsewhere the cases say that they were left out.
#include "tests/failures/job.h"

#include <nlohmann/json.hpp>
#include <sys/mount.h>

using namespace ft;
using namespace ft::test;

namespace {

// A file system of so many KiB at workspace()/NAME, where a run of that name keeps its folder.
class SmallDisk {
 public:
  SmallDisk(const std::string& name, int kib) : path_(workspace() + "/" + name) {
    fs::create_directories(path_);
    mounted_ =
        ::mount("tmpfs", path_.c_str(), "tmpfs", 0, fmt::format("size={}k", kib).c_str()) == 0;
    if (!mounted_) WARN("left out: making a file system needs root");
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  explicit operator bool() const { return mounted_; }
  void make_read_only(bool yes) const {
    REQUIRE(::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | (yes ? MS_RDONLY : 0), "") == 0);
  }
  std::string fill(int64_t leave) const {  // a file that takes all but `leave` bytes
    const std::string path = path_ + "/filler";
    std::ofstream(path) << std::string(
        static_cast<size_t>(static_cast<int64_t>(fs::space(path_).available) - leave), 'x');
    return path;
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

int leftovers(const std::string& name) {
  int n = 0;
  for (const auto& entry : fs::directory_iterator(run_folder(name) + "/checkpoints"))
    n += entry.path().filename().string().starts_with(".tmp");
  return n;
}

}  // namespace

TEST_CASE("failures: a disk that is full while saving does not end the run") {
  const int ranks = GENERATE(1, 2);
  const std::string name = fmt::format("full-{}", ranks);
  const SmallDisk disk(name, 8192);
  if (!disk) return;
  REQUIRE(train(name, ranks, "train.tokens=1536") == 0);
  const auto before = tensors(name, 4);
  const std::string filler = disk.fill(100 << 10);  // a checkpoint needs some 440 KiB
  const std::string longer = "";                    // 12 steps, a checkpoint after every 4
  // What cannot be saved at the end, in the time for it, is an error.
  CHECK(train(name, ranks, "checkpoint.retry=1") == 1);
  std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("checkpoint of step 8 was not saved: ") != std::string::npos);
  CHECK(log.find("No space left on device") != std::string::npos);
  CHECK(times(log, "was not saved") >= 3);  // tried again after every step that follows
  CHECK(log.find("step 12/12") != std::string::npos);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find("the last checkpoint, of step 12, could not be saved") != std::string::npos);
  CHECK(events_of(run_folder(name), "save_failed").size() >= 3);
  CHECK(events_of(run_folder(name), "failure").size() == 1);
  CHECK(leftovers(name) == 0);
  CHECK(tensors(name, 4) == before);
  fs::remove(filler);
  REQUIRE(train(name, ranks, longer) == 0);
  REQUIRE(train(name + "-never", ranks, longer) == 0);
  CHECK(tensors(name, 12) == tensors(name + "-never", 12));
}

TEST_CASE("failures: the last save waits for room") {
  const std::string name = "waits";
  const SmallDisk disk(name, 8192);
  if (!disk) return;
  // Steps enough that the disk is full before the last of them.
  Job job(name, 2, "train.tokens=38400 checkpoint.every=0 checkpoint.retry=60");
  REQUIRE(job.wait_for_step(1));
  const std::string filler = disk.fill(100 << 10);
  REQUIRE(eventually(30, [&] { return log_of(name).find("was not saved") != std::string::npos; }));
  INFO(log_of(name));
  CHECK(log_of(name).find("(free room for ") != std::string::npos);
  SECTION("which comes") {
    fs::remove(filler);
    CHECK(job.wait() == 0);
    CHECK(fs::exists(checkpoint_path(name, 100)));
    CHECK(events_of(run_folder(name), "save_failed").size() == 1);
    CHECK(events_of(run_folder(name), "save").size() == 1);
  }
  SECTION("or for a signal, and tries once more") {
    job.kill(SIGTERM);
    CHECK(job.wait() == 1);
    CHECK(log_of(name).find("could not be saved") != std::string::npos);
    CHECK_FALSE(fs::exists(checkpoint_path(name, 100)));
  }
}

TEST_CASE("failures: a disk without a free byte stops neither the log nor the run") {
  const std::string name = "brim";
  const SmallDisk disk(name, 8192);
  if (!disk) return;
  Job job(name, 1, "train.tokens=1M checkpoint.every=0");
  REQUIRE(job.wait_for_step(3));
  const std::string filler = disk.fill(0);
  std::ofstream(filler, std::ios::app) << std::string(1 << 20, 'x');
  const std::string seen = log_of(name);
  const int step = times(seen, "\nstep ");
  CHECK(job.wait_for_step(step + 20));
  fs::remove(filler);
  job.kill(SIGUSR1);
  CHECK(job.wait() == 75);
  // Nothing of the record is missing or torn.
  std::istringstream metrics(read_text(run_folder(name) + "/metrics.jsonl"));
  int lines = 0;
  for (std::string line; std::getline(metrics, line); ++lines)
    CHECK(nlohmann::json::parse(line)["step"] == lines + 1);
  CHECK(lines >= step + 20);
  const std::string log = read_text(run_folder(name) + "/log.txt");
  CHECK(times(log, " step ") >= lines);
  CHECK(log.find("metrics.jsonl: cannot be written (No space left on device)") != log.npos);
  CHECK(log.find("metrics.jsonl: is written again; nothing of it is missing") != log.npos);
  CHECK(train(name, 1, "train.tokens=384 checkpoint.every=0") == 0);  // reads its folder again
}

TEST_CASE("failures: a folder that may not be written is refused at the start") {
  const std::string name = "read-only";
  const SmallDisk disk(name, 1024);
  if (!disk) return;
  disk.make_read_only(true);
  CHECK(train(name, 2, "") == 2);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find("Read-only file system") != std::string::npos);
  CHECK(log.find("set run.directory") != std::string::npos);
}

TEST_CASE("failures: a disk that becomes read-only does not end the run") {
  const std::string name = "turned";
  const SmallDisk disk(name, 8192);
  if (!disk) return;
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  const auto before = tensors(name, 4);
  fs::create_directories(workspace() + "/aside");
  const std::string folder = run_folder(name) + "/checkpoints";
  REQUIRE(::mount(folder.c_str(), folder.c_str(), nullptr, MS_BIND, nullptr) == 0);
  REQUIRE(::mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) ==
          0);
  const int code = train(name, 1, "checkpoint.retry=1");
  ::umount2(folder.c_str(), MNT_DETACH);
  CHECK(code == 1);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("checkpoint of step 8 was not saved") != std::string::npos);
  CHECK(log.find("step 12/12") != std::string::npos);
  CHECK(tensors(name, 4) == before);
}

// Storage that answers with errors: what cannot be read is not taken for what is not there.
#include "core/path.h"
#include "tests/failures/job.h"

#include <cerrno>

using namespace ft;
using namespace ft::test;

namespace {

// Exit code of a run whose calls fail as `fault` says (tests/disk_faults.cpp).
int train_with(const std::string& fault, const std::string& name, int ranks,
               const std::string& sets, const std::string& rest = "") {
  const char* library = std::getenv("FT_DISK_FAULTS");
  FT_CHECK(library, "FT_DISK_FAULTS must name the library that makes calls fail; ctest sets it");
  const std::string command = train_command(name, ranks, sets) + rest;
  return shell(fmt::format("env LD_PRELOAD={} FT_FAULT={} {}", library, fault, command),
               name + ".log");
}

// What a run's folder holds, apart from its log and lock: names and contents.
std::map<std::string, std::string> record(const std::string& name) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(run_folder(name)))
    if (entry.is_regular_file() && entry.path().filename() != "log.txt" &&
        entry.path().filename() != ".lock")
      all[entry.path().string()] = read_text(entry.path().string());
  return all;
}

}  // namespace

TEST_CASE("failures: a folder of checkpoints that cannot be listed begins nothing anew") {
  const int ranks = GENERATE(1, 2);
  const std::string name = fmt::format("unlisted-{}", ranks);
  REQUIRE(train(name, ranks, "train.tokens=1536") == 0);
  const auto before = record(name);
  for (const std::string call : {"open", "readdir"})
    for (const int error : {EIO, ESTALE, EACCES, EMFILE}) {
      if (ranks > 1 && error != EIO) continue;
      INFO(call << " " << error);
      CHECK(train_with(fmt::format("{}:{}:{}/checkpoints", call, error, run_folder(name)), name,
                       ranks, "") == 1);
      const std::string log = log_of(name);
      CHECK(log.find(run_folder(name) + "/checkpoints: cannot be listed: ") != std::string::npos);
      CHECK(times(log, "falcon-train: ") == 1);
      CHECK(record(name) == before);
    }
}

TEST_CASE("failures: a record that cannot be read is not cut to nothing") {
  const std::string name = "unread";
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  const auto before = record(name);
  for (const std::string& fault :
       {fmt::format("open:{}", EIO), fmt::format("open:{}", EACCES), fmt::format("open:{}", EMFILE),
        fmt::format("read:{}", EIO), fmt::format("stat:{}", ESTALE)}) {
    const std::string file =
        GENERATE(as<std::string>{}, "metrics.jsonl", "events.jsonl", "config.yaml");
    // Events are never cut: what is not read of them takes no harm.
    if (file == "events.jsonl" && !fault.starts_with("open")) continue;
    INFO(fault << " " << file);
    CHECK(train_with(fmt::format("{}:{}/{}", fault, run_folder(name), file), name, 1,
                     "train.tokens=3072") != 0);
    CHECK(log_of(name).find("/" + file) != std::string::npos);
    CHECK(record(name) == before);
  }
}

TEST_CASE("failures: a checkpoint on a bad sector is passed over for the one before") {
  const int ranks = GENERATE(1, 2);
  const std::string name = fmt::format("sector-{}", ranks);
  REQUIRE(train(name, ranks, "") == 0);
  const std::string bad = "step-00000012/rank-00000";
  CHECK(train_with(fmt::format("read:{}:{}", EIO, bad), name, ranks, "") == 0);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("checkpoint passed over: ") != std::string::npos);
  CHECK(log.find("cannot be read at byte ") != std::string::npos);
  CHECK(log.find("at step 8") != std::string::npos);
  CHECK(fs::exists(run_folder(name) + "/checkpoints.old-1/step-00000012"));
}

TEST_CASE("failures: a checkpoint that cannot be reached now is not passed over") {
  const std::string name = "unreached";
  REQUIRE(train(name, 1, "") == 0);
  const auto before = record(name);
  for (const int error : {EACCES, EMFILE, ESTALE}) {
    CHECK(train_with(fmt::format("open,stat:{}:step-00000012/", error), name, 1, "") != 0);
    CHECK(log_of(name).find("step-00000012/") != std::string::npos);
    CHECK(record(name) == before);
  }
}

TEST_CASE("failures: where all checkpoints are damaged, the user decides") {
  const std::string name = "all-damaged";
  REQUIRE(train(name, 1, "") == 0);
  for (int step : {4, 8, 12}) fs::remove(checkpoint_path(name, step) + "/COMPLETE");
  const auto before = record(name);
  CHECK(train(name, 1, "") == 2);
  const std::string log = log_of(name);
  INFO(log);
  for (int step : {4, 8, 12})
    CHECK(log.find(checkpoint_path(name, step) + "/COMPLETE: is missing") != std::string::npos);
  CHECK(log.find("--resume PATH") != std::string::npos);
  CHECK(log.find("--resume none") != std::string::npos);
  CHECK(record(name) == before);
  CHECK(train(name, 1, "", "--resume none") == 0);
}

TEST_CASE(
    "failures: a file in the place of the checkpoints' folder is found before the first step") {
  const std::string name = "no-folder";
  fs::create_directories(run_folder(name));
  write_text(run_folder(name) + "/checkpoints", "");
  CHECK(train(name, 1, "") == 2);
  const std::string log = log_of(name);
  CHECK(log.find("/checkpoints: is no folder") != std::string::npos);
  CHECK(times(log, "\nstep ") == 0);
  CHECK(train(name, 1, "train.tokens=384", "--resume none") == 0);
}

TEST_CASE("failures: an fsync that fails while saving is a failed save, and the next one holds") {
  const std::string name = "unsynced";
  CHECK(train_with(fmt::format("fsync:{}:step-00000004/rank", EIO), name, 1, "") == 0);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("checkpoint of step 4 was not saved: ") != std::string::npos);
  CHECK(log.find("Input/output error") != std::string::npos);
  CHECK_FALSE(fs::exists(checkpoint_path(name, 4)));
  Checkpoint(checkpoint_path(name, 12)).verify();
}

TEST_CASE("failures: leftovers of killed lives are cleared at the start") {
  const std::string name = "leftovers", folder = run_folder(name);
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  for (const char* left : {"/checkpoints/.tmp-step-00000008", "/checkpoints/.tmp-gone-step-1"})
    fs::create_directories(folder + left);
  const std::string dead = "2147483000", alive = std::to_string(::getpid());
  for (const std::string& pid : {dead, alive})
    write_text(folder + "/metrics.jsonl.tmp-" + pid, "half");
  write_text(folder + "/config.yaml.tmp-" + dead, "half");
  write_text(folder + "/mine.tmp-x", "a user's");
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  CHECK(names_in(folder + "/checkpoints") == std::vector<std::string>{"step-00000004"});
  const auto left = names_in(folder);
  for (const std::string& one : left) CHECK(one.find(dead) == std::string::npos);
  CHECK(fs::exists(folder + "/metrics.jsonl.tmp-" + alive));
  CHECK(fs::exists(folder + "/mine.tmp-x"));
}

TEST_CASE("failures: lines of a course that is left stay beside the record") {
  const std::string name = "left-course", folder = run_folder(name);
  REQUIRE(train(name, 1, "") == 0);
  const std::string whole = read_text(folder + "/metrics.jsonl");
  for (const char* aside :
       {"metrics.after-step-00000004.jsonl", "metrics.after-step-00000004.2.jsonl"}) {
    const std::string before = read_text(folder + "/metrics.jsonl");
    REQUIRE(train(name, 1, "", "--resume " + checkpoint_path(name, 4)) == 0);
    const std::string left = read_text(folder + "/" + aside);
    CHECK(times(left, "\n") == 8);
    CHECK(before.substr(before.size() - left.size()) == left);
    CHECK(times(read_text(folder + "/metrics.jsonl"), "\n") == 12);
  }
  CHECK(events_of(folder, "done").size() == 3);  // what happened has happened
}

TEST_CASE("failures: weights that are not finite push no good checkpoint out") {
  const std::string name = "infinite";
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  const auto before = tensors(name, 4);
  CHECK(train(name, 1,
              "optimizer.lr=1000 optimizer.weight_decay=0 schedule.type=points "
              "schedule.points=[[0,1],[2k,1e36]] guard.non_finite=skip checkpoint.keep_last=1") ==
        1);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("infinite or no number") != std::string::npos);
  CHECK(tensors(name, 4) == before);
  for (const std::string& path : list_checkpoints(run_folder(name) + "/checkpoints"))
    CHECK(path == checkpoint_path(name, 4));
}

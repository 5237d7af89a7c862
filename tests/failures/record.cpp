// What a run leaves of itself: its record is never lost to a new start, and says what happened.
#include "parallel/checkpoint/checkpoint.h"
#include "tests/failures/job.h"

#include <algorithm>

using namespace ft;
using namespace ft::test;

TEST_CASE("failures: a start without a checkpoint keeps the record that is there") {
  const std::string name = "record", run = run_folder(name);
  {
    Job job(name, 1, "train.tokens=1B checkpoint.every=0");
    REQUIRE(job.wait_for_step(3));
    job.kill(SIGKILL);
    job.wait();
  }
  const std::string metrics = read_text(run + "/metrics.jsonl");
  const std::string config = read_text(run + "/config.yaml");
  REQUIRE(train(name, 1, "optimizer.lr=1e-3") == 0);
  INFO(log_of(name));
  CHECK(log_of(name).find(run + " was moved to " + run + ".old-1") != std::string::npos);
  CHECK(read_text(run + ".old-1/metrics.jsonl") == metrics);
  CHECK(read_text(run + ".old-1/config.yaml") == config);
  CHECK(events_of(run + ".old-1", "start").size() == 1);
  const auto moved = events_of(run, "moved");
  REQUIRE(moved.size() == 1);
  CHECK(moved[0]["to"] == run + ".old-1");
  CHECK(json_lines(run + "/metrics.jsonl").size() == 12);
}

TEST_CASE("failures: what is refused moves nothing, not even with --resume none") {
  const std::string name = "unmoved", run = run_folder(name);
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  const std::string events = read_text(run + "/events.jsonl");
  const auto sets = GENERATE(as<std::string>{}, "data.train.0.path=/nowhere/set",
                             "model.vocab_size=100", "data.validation.0.path=/nowhere/val",
                             "model.init_from=/nowhere/hf", "optimizer.groups.0.class=none");
  CHECK(train(name, 1, sets, "--resume none") == 2);
  INFO(log_of(name));
  CHECK_FALSE(fs::exists(run + ".old-1"));
  CHECK(fs::exists(checkpoint_path(name, 4)));
  CHECK(read_text(run + "/events.jsonl") == events);
}

TEST_CASE("failures: a refused start leaves no folder behind") {
  CHECK(train("nothing", 2, "model.vocab_size=100") == 2);
  CHECK_FALSE(fs::exists(run_folder("nothing")));
}

TEST_CASE("failures: only what is not there is absent") {
  const std::string name = "unreadable", run = run_folder(name);
  fs::remove_all(run);
  fs::create_directories(run);
  std::string path = run + "/checkpoints";
  int code = 2;
  SECTION("a file in the place of the checkpoints") { write_text(path, "mine"); }
  SECTION("a file in the place of the run") {
    fs::remove_all(run);
    write_text(run, "mine");
    path = run;
  }
  SECTION("a link to a place that is not there") {
    fs::create_symlink(workspace() + "/unmounted", path);
  }
  SECTION("a link that leads to itself") {
    fs::create_symlink("checkpoints", path);
    code = 1;  // storage that does not answer
  }
  CHECK(train(name, 1, "") == code);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find(path) != std::string::npos);
  CHECK(fs::exists(fs::symlink_status(path)));
  CHECK_FALSE(fs::exists(run + "/metrics.jsonl"));
  fs::remove_all(run);
}

TEST_CASE("failures: a folder that somebody filled with other things stays where it is") {
  const std::string run = run_folder("others");
  fs::create_directories(run);
  write_text(run + "/slurm-7.out", "mine");
  REQUIRE(train("others", 1, "train.tokens=384") == 0);
  CHECK(read_text(run + "/slurm-7.out") == "mine");
  CHECK_FALSE(fs::exists(run + ".old-1"));
}

TEST_CASE("failures: a run's name stays inside run.directory") {
  fs::create_directories(workspace() + "/precious");
  write_text(workspace() + "/precious/metrics.jsonl", "mine");
  const auto name = GENERATE(as<std::string>{}, "../precious", "a/b", "/tmp/x", "..", ".", "a/");
  CHECK(train("named", 1, "run.name=" + name) == 2);
  INFO(log_of("named"));
  CHECK(log_of("named").find("run.name: ") != std::string::npos);
  CHECK(log_of("named").find("set run.directory") != std::string::npos);
  CHECK(read_text(workspace() + "/precious/metrics.jsonl") == "mine");
}

TEST_CASE("failures: a folder has one lock under all of its names") {
  Job first("locked", 1, "train.tokens=1B");
  REQUIRE(first.wait_for_step(2));
  fs::create_directory_symlink(run_folder("locked"), workspace() + "/locked/link");
  fs::create_directory_symlink(workspace() + "/locked", workspace() + "/locked-too");
  for (const std::string& use :
       {std::string("run.name=link"), "run.directory=" + workspace() + "/locked-too"}) {
    CHECK(shell(train_command("locked", 1, use + " train.tokens=1B") + "--resume none",
                "locked-second.log") == 2);
    INFO(log_of("locked-second"));
    CHECK(log_of("locked-second").find("another run is at work in this folder") !=
          std::string::npos);
  }
  CHECK_FALSE(fs::exists(run_folder("locked") + ".old-1"));
  fs::remove(workspace() + "/locked-too");
}

TEST_CASE("failures: a run's events tell its course and its end") {
  const std::string name = "course", run = run_folder(name);
  const auto count = [&](const std::string& event) { return events_of(run, event).size(); };
  REQUIRE(train(name, 2, "train.tokens=3072 checkpoint.every=2 checkpoint.keep_last=2") == 0);
  CHECK(count("start") == 1);
  CHECK(count("save") == 4);
  CHECK(count("removal") == 2);
  CHECK(count("done") == 1);
  const auto save = events_of(run, "save")[0];
  CHECK(save["path"] == checkpoint_path(name, 2));
  CHECK(save["step"] == 2);
  CHECK(save["seconds"].get<double>() >= 0);
  CHECK(save["bytes"].get<double>() > 100'000);
  CHECK(events_of(run, "removal")[0]["path"] == checkpoint_path(name, 2));
  const auto start = events_of(run, "start")[0];
  CHECK(start["ranks"] == 2);
  CHECK(start["threads"] == 1);
  CHECK(start.contains("build"));
  // A failure of any rank is recorded, and stays when the run goes on from before it.
  ::setenv("FT_TEST_POISON", "10:1:no.such.parameter", 1);
  CHECK(train(name, 2, "") == 1);
  ::unsetenv("FT_TEST_POISON");
  const auto failure = events_of(run, "failure");
  REQUIRE(failure.size() == 1);
  CHECK(failure[0]["step"] == 9);
  CHECK(failure[0]["rank"] == 1);
  CHECK(failure[0]["exit_code"] == 1);
  CHECK(failure[0]["message"].get<std::string>().find("no.such.parameter") != std::string::npos);
  REQUIRE(train(name, 2, "") == 0);
  CHECK(count("failure") == 1);
  CHECK(count("resume") == 2);
  CHECK(log_of(name).find("saved " + checkpoint_path(name, 12) + " in ") != std::string::npos);
}

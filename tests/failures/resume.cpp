// Going on: which checkpoint is taken, which is refused, and that nothing of value is overwritten.
#include "tests/failures/job.h"

#include <map>

using namespace ft;
using namespace ft::test;

namespace {

void flip_last_byte(const std::string& path) {
  std::string bytes = read_text(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_text(path, bytes);
}

const Tensors& whole_run() {
  static const Tensors values = [] {
    REQUIRE(train("whole", 1, "") == 0);
    return tensors("whole", 12);
  }();
  return values;
}

}  // namespace

TEST_CASE("failures: a checkpoint that is damaged is passed over, by name, for the one before") {
  fs::remove_all(workspace() + "/damaged");  // each section begins anew
  REQUIRE(train("damaged", 1, "checkpoint.keep_last=1 checkpoint.keep_every=4") == 0);
  const std::string newest = checkpoint_path("damaged", 12),
                    data = newest + "/rank-00000.safetensors";
  std::string says;
  SECTION("a wrong checksum") {
    flip_last_byte(data);
    says = "checksum";
  }
  SECTION("a folder in the place of a file") {
    fs::remove(data);
    fs::create_directory(data);
    says = "is missing";
  }
  SECTION("a short file") {
    fs::resize_file(data, 1000);
    says = "too short";
  }
  SECTION("no marker") {
    fs::remove(newest + "/COMPLETE");
    says = "not finished";
  }
  SECTION("a damaged manifest") {
    flip_last_byte(newest + "/manifest.json");
    says = "manifest.json: is damaged";
  }
  REQUIRE(train("damaged", 1, "checkpoint.keep_last=1") == 0);
  const std::string log = log_of("damaged");
  INFO(log);
  CHECK(log.find("checkpoint passed over: " + newest) != std::string::npos);
  CHECK(log.find(says) != std::string::npos);
  CHECK(log.find("at step 8") != std::string::npos);
  CHECK(tensors("damaged", 12) == whole_run());
}

TEST_CASE("failures: where no checkpoint can be used, the run does not silently begin anew") {
  REQUIRE(train("none-left", 1, "checkpoint.every=0") == 0);
  flip_last_byte(checkpoint_path("none-left", 12) + "/rank-00000.safetensors");
  CHECK(train("none-left", 1, "") == 2);
  CHECK(log_of("none-left").find("none of its checkpoints can be used") != std::string::npos);
  CHECK(log_of("none-left").find("--resume none") != std::string::npos);
  CHECK(fs::exists(checkpoint_path("none-left", 12)));
}

TEST_CASE("failures: --resume none keeps the earlier run, whole, under another name") {
  REQUIRE(train("afresh", 1, "train.tokens=1536") == 0);
  const auto before = tensors("afresh", 4);
  REQUIRE(train("afresh", 1, "train.tokens=384", "--resume none") == 0);
  CHECK(log_of("afresh").find("was moved to " + run_folder("afresh") + ".old-1") !=
        std::string::npos);
  CHECK_FALSE(fs::exists(checkpoint_path("afresh", 4)));
  fs::rename(run_folder("afresh"), workspace() + "/afresh/new");
  fs::rename(run_folder("afresh") + ".old-1", run_folder("afresh"));
  CHECK(tensors("afresh", 4) == before);
  CHECK(fs::exists(run_folder("afresh") + "/metrics.jsonl"));
}

TEST_CASE("failures: going back to an earlier checkpoint puts the later ones aside") {
  REQUIRE(train("back", 1, "") == 0);
  REQUIRE(train("back", 1, "train.tokens=1920 checkpoint.every=1 checkpoint.keep_last=2",
                "--resume " + checkpoint_path("back", 4)) == 0);  // one step
  CHECK(fs::exists(run_folder("back") + "/checkpoints.old-1/step-00000012"));
  CHECK(fs::exists(checkpoint_path("back", 5)));
  CHECK(fs::exists(checkpoint_path("back", 4)));
  CHECK_FALSE(fs::exists(checkpoint_path("back", 8)));
  CHECK(train("back", 1, "", "--resume /nowhere") == 2);
  CHECK(log_of("back").find("/nowhere: there is no such checkpoint") != std::string::npos);
}

TEST_CASE("failures: what must not change on resume is refused by name") {
  REQUIRE(train("changed", 1, "train.tokens=1536") == 0);
  const auto [sets, says] = GENERATE(table<std::string, std::string>(
      {{"model.hidden_size=40", "model.hidden_size: 32, now 40"},
       {"model.num_hidden_layers=3", "model.num_hidden_layers: 2, now 3"},
       {"model.num_hidden_layers=1", "model.num_hidden_layers: 2, now 1"},
       {"run.seed=5", "run.seed is 5"}}));
  CHECK(train("changed", 2, sets) == 2);
  const std::string log = log_of("changed");
  INFO(log);
  CHECK(log.find(says) != std::string::npos);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(fs::exists(checkpoint_path("changed", 4)));
}

TEST_CASE("failures: a finished run says so; more tokens let it go on") {
  REQUIRE(train("finished", 1, "train.tokens=1536") == 0);
  REQUIRE(train("finished", 1, "train.tokens=1536") == 0);
  CHECK(log_of("finished").find("nothing is left to do: step 4 of 4; raise train.tokens") !=
        std::string::npos);
  REQUIRE(train("finished", 1, "") == 0);
  CHECK(log_of("finished").find("at step 4") != std::string::npos);
  CHECK(tensors("finished", 12) == whole_run());
}

TEST_CASE("failures: two runs do not share a folder, and a dead one holds nothing") {
  Job first("shared", 1, "train.tokens=1B");
  REQUIRE(first.wait_for_step(2));
  const std::string second = train_command("shared", 1, "train.tokens=1B");
  CHECK(shell(second, "shared-second.log") == 2);
  const std::string log = log_of("shared-second");
  INFO(log);
  CHECK(log.find("another run is at work in this folder") != std::string::npos);
  CHECK(log.find(fmt::format("process {}", first.pid())) != std::string::npos);
  first.kill(SIGKILL);
  CHECK(first.wait() == -SIGKILL);
  CHECK(train("shared", 1, "") == 0);
}

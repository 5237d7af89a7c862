// Mistakes in usage, configuration and data: found before the first step, exit code 2, one message
// from one rank that says what, where and how to mend it.
#include "tests/failures/job.h"

using namespace ft;
using namespace ft::test;

namespace {

struct Mistake {
  std::string name, sets;
  std::vector<std::string> says;
};

void refused(const Mistake& m, int ranks) {
  const std::string name = fmt::format("{}-{}", m.name, ranks);
  INFO(name);
  CHECK(train(name, ranks, m.sets) == 2);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  for (const std::string& word : m.says) CHECK(log.find(word) != std::string::npos);
  CHECK_FALSE(fs::exists(run_folder(name) + "/checkpoints"));
  CHECK(ranks_of(name).empty());
}

}  // namespace

TEST_CASE("failures: mistakes in the configuration are named once, with the mend") {
  const auto mistake = GENERATE(values<Mistake>({
      {"unknown-key", "optimizer.lrr=1", {"--set optimizer.lrr=1", "\"lrr\"", "did you mean"}},
      {"wrong-type", "train.tokens=many", {"train.tokens", "must be a whole number"}},
      {"out-of-range", "guard.spike.sigma=-1", {"guard.spike.sigma", "out of range", "0 to"}},
      {"wrong-choice", "guard.non_finite=ignore", {"guard.non_finite", "stop, skip"}},
      {"batch", "train.global_batch=7 train.micro_batch=7", {"train.global_batch = 7", "2"}},
      {"async", "checkpoint.async=true", {"checkpoint.async", "set it to false"}},
      {"vocabulary-said", "model.vocab_size=64", {"set.json", "257", "model.vocab_size is 64"}},
      {"zero", "parallel.zero=1", {"parallel.zero = 1", "not in this build"}},
      {"bitnet", "model.linear=bitnet", {"model.linear", "not in this build"}},
      {"epsilon", "optimizer.eps=0", {"optimizer.eps = 0", "1e-8 is usual"}},
      {"empty", "optimizer.lr=", {"--set optimizer.lr=", "the value is missing"}},
      {"no-data", "data.train.0.path=/nowhere/set", {"/nowhere/set.bin", "missing", "tokenize"}},
  }));
  refused(mistake, 2);
}

TEST_CASE("failures: a mistake in a file is named with its line and column") {
  const std::string path = workspace() + "/mistake.yaml";
  write_text(path, "run:\n  name: t\n  sed: 5\n");
  CHECK(shell(binary() + " train " + path, "mistake.log") == 2);
  const std::string log = log_of("mistake");
  INFO(log);
  CHECK(log.find("mistake.yaml:3:3") != std::string::npos);
  CHECK(log.find("did you mean \"seed\"") != std::string::npos);
}

TEST_CASE("failures: a wrong option of the command line is told by one rank") {
  CHECK(shell("mpirun --oversubscribe --bind-to none -n 2 " + binary() + " train --bogus",
              "usage.log") == 2);
  CHECK(times(log_of("usage"), "--bogus") == 1);
}

TEST_CASE("failures: damaged token sets are named by file and place") {
  REQUIRE(train("sound", 1, "train.tokens=384") == 0);  // makes the set
  const std::string set = workspace() + "/set", bad = workspace() + "/bad";
  const std::string idx = read_text(set + ".idx");
  const auto damage = [&](const std::string& bytes) {
    fs::copy_file(set + ".bin", bad + ".bin", fs::copy_options::overwrite_existing);
    write_text(bad + ".idx", bytes);
  };
  const std::string use = "data.train.0.path=" + bad;
  std::string other = idx;
  SECTION("wrong magic") {
    other[0] = 'X';
    damage(other);
    refused({"magic", use, {"bad.idx", "MMIDIDX"}}, 2);
  }
  SECTION("cut short") {
    damage(idx.substr(0, idx.size() / 2));
    refused({"truncated", use, {"bad.idx", "cut short"}}, 2);
  }
  SECTION("a sequence beyond the end of the tokens") {
    damage(idx);
    fs::resize_file(bad + ".bin", 40);
    refused({"beyond", use, {"bad.idx", "bad.bin", "cut short"}}, 2);
  }
  SECTION("a set that is gone on one rank of two") {
    // Rank 1 alone is told of another set: only it knows of the fault.
    const std::string launcher = "mpirun --oversubscribe --bind-to none";
    const std::string one = " -n 1 " + train_command("split", 1, "");
    const std::string two = " -n 1 " + train_command("split", 1, "data.train.0.path=/nowhere/x");
    CHECK(shell(launcher + one + ":" + two, "split.log") == 2);
    const std::string log = log_of("split");
    INFO(log);
    CHECK(times(log, "falcon-train: ") == 1);
    CHECK(log.find("rank 1: /nowhere/x.bin: is missing") != std::string::npos);
    CHECK(ranks_of("split").empty());
  }
}

TEST_CASE("failures: a token beyond the vocabulary ends the run before it is trained on") {
  make_set();
  const std::string bare = workspace() + "/bare";  // without the note that says the vocabulary
  for (const char* suffix : {".bin", ".idx"})
    fs::copy_file(workspace() + "/set" + suffix, bare + suffix,
                  fs::copy_options::overwrite_existing);
  CHECK(train("vocabulary", 2, "model.vocab_size=64 data.train.0.path=" + bare) == 1);
  const std::string log = log_of("vocabulary");
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find("bare.bin: document") != std::string::npos);
  CHECK(log.find("outside the vocabulary of 64") != std::string::npos);
  CHECK_FALSE(fs::exists(run_folder("vocabulary") + "/checkpoints"));
}

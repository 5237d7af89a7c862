// Slow storage is no hang; storage and ranks that never answer are one, wherever it happens.
#include "tests/failures/job.h"

using namespace ft;
using namespace ft::test;

namespace {

// The environment reaches the ranks through the launcher.
class Fault {
 public:
  Fault(const std::string& variable, const std::string& value, const std::string& floor)
      : variable_(variable) {
    const char* shim = std::getenv("FT_FAULTY");
    REQUIRE(shim);
    ::setenv(variable_.c_str(), value.c_str(), 1);
    ::setenv("LD_PRELOAD", shim, 1);
    if (!floor.empty()) ::setenv("FT_TEST_FLOOR", floor.c_str(), 1);
  }
  ~Fault() {
    for (const char* name : {variable_.c_str(), "LD_PRELOAD", "FT_TEST_FLOOR"}) ::unsetenv(name);
  }
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;

 private:
  std::string variable_;
};

// Ends with 1 after one message that holds these words, and leaves no process.
void ends(Job& job, const std::string& name, const std::vector<std::string>& says, int ranks) {
  const auto begin = std::chrono::steady_clock::now();
  CHECK(job.wait() == 1);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
  CHECK(job.no_process_left());
  const std::string log = log_of(name);
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  for (const std::string& word : says) CHECK(log.find(word) != std::string::npos);
  if (ranks > 1) CHECK(log.find("falcon-train: rank ") != std::string::npos);
}

}  // namespace

TEST_CASE("failures: an fsync that takes longer than run.timeout is waited for") {
  make_set();
  const Fault fault("FT_SLOW", "fsync:0:2:/checkpoints/", "");
  REQUIRE(train("slow", 2, "run.timeout=1 train.tokens=384 checkpoint.keep_last=1") == 0);
  CHECK(fs::exists(checkpoint_path("slow", 1)));
}

TEST_CASE("failures: storage that never answers ends the run with its name") {
  make_set();
  const auto [what, sets, says] = GENERATE(table<std::string, std::string, std::string>(
      {{"fsync:0:inf:/checkpoints/", "checkpoint.every=1", "storage: fsync of "},
       {"pread:*:inf:/set.bin", "data.read=pread", "storage: read"}}));
  const int ranks = GENERATE(1, 2);
  const std::string rank = ranks == 1 ? std::string(what).replace(6, 1, "*") : what;
  const std::string name = fmt::format("dead-{}-{}", what.substr(0, 5), ranks);
  INFO(name);
  const Fault fault("FT_SLOW", rank, "2");
  Job job(name, ranks, "train.tokens=1B run.timeout=1 " + sets);
  ends(job, name, {says, "has not returned for 2 s", "see to it"}, ranks);
}

TEST_CASE("failures: a rank that stops at any call to MPI is noticed") {
  make_set();
  const std::vector<std::string> calls{"MPI_Init_thread", "MPI_Comm_split_type", "MPI_Comm_split",
                                       "MPI_Finalize"};
  std::vector<std::unique_ptr<Job>> jobs;
  for (const std::string& call : calls) {
    const Fault fault("FT_STOP", call + ":1", "6");
    jobs.push_back(std::make_unique<Job>("stop-" + call, 2, "run.timeout=3"));
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    INFO(calls[i]);
    ends(*jobs[i], "stop-" + calls[i], {"no answer from other ranks", "(run.timeout"}, 2);
  }
  CHECK(log_of("stop-MPI_Finalize").find("done: 12 steps") != std::string::npos);
}

TEST_CASE("failures: a file that is cut under a mapping is told of once") {
  const std::string set = make_set(), cut = workspace() + "/cut";
  for (const char* suffix : {".bin", ".idx"}) fs::copy_file(set + suffix, cut + suffix);
  Job job("cut", 2, "train.tokens=1B data.train.0.path=" + cut);
  REQUIRE(job.wait_for_step(2));
  fs::resize_file(cut + ".bin", 0);
  CHECK(job.wait() == 1);
  CHECK(job.no_process_left());
  const std::string log = log_of("cut");
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find("cut.bin: cannot be read") != std::string::npos);
}

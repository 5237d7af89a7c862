// Stops, kills and hangs: what is left behind is whole, and the run goes on bit for bit.
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/health.h"
#include "tests/failures/job.h"

#include <csignal>
#include <random>

using namespace ft;
using namespace ft::test;

namespace {

// A run long enough to be interrupted, and what it is at its end when nothing interrupts it.
constexpr int kSteps = 300;
const std::string kLong = "train.tokens=115200 checkpoint.keep_last=400";

const Tensors& undisturbed(int ranks) {
  static std::map<int, Tensors> known;
  const std::string name = fmt::format("undisturbed-{}", ranks);
  if (!known.contains(ranks)) {
    REQUIRE(train(name, ranks, kLong + " checkpoint.every=0") == 0);
    known[ranks] = tensors(name, kSteps);
  }
  return known[ranks];
}

void goes_on_to_the_same_end(const std::string& name, int ranks) {
  REQUIRE(train(name, ranks, kLong + " checkpoint.every=0") == 0);
  INFO(log_of(name));
  CHECK(tensors(name, kSteps) == undisturbed(ranks));
}

bool saving(const std::string& name) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run_folder(name) + "/checkpoints", ignored))
    if (entry.path().filename().string().starts_with(".tmp-step")) return true;
  return false;
}

std::string newest(const std::string& name) {
  return newest_checkpoint(run_folder(name) + "/checkpoints", nullptr).value_or("");
}

// Whether a process has a handler of its own for a signal.
bool catches(pid_t pid, int signal) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("SigCgt:"))
      return std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1;
  return false;
}

// Kills a run at random moments while it saves after every step; each time what is there must open
// and verify. At the end the run must be the one that was never killed.
void kill_while_saving(const std::string& name, int kills, unsigned seed) {
  std::mt19937 random(seed);
  int64_t last = 0;
  for (int k = 0; k < kills; ++k) {
    Job job(name, 1, kLong + " checkpoint.every=1");
    const int begin = static_cast<int>(random() % 3) + 1;
    eventually(60, [&] {
      const std::string log = log_of(name);
      return times(log, "\nstep ") >= begin || log.find("done:") != std::string::npos;
    });
    eventually(1, [&] { return saving(name); });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 12000));
    job.kill(SIGKILL);
    job.wait();
    REQUIRE(job.no_process_left());
    const std::string found = newest(name);
    INFO(fmt::format("kill {} of {}: {}", k, kills, found));
    if (found.empty()) continue;  // killed before the first was whole
    CHECK_NOTHROW(Checkpoint(found).verify());
    CHECK(checkpoint_step(found) >= last);
    last = checkpoint_step(found);
  }
  REQUIRE(last > 0);
  goes_on_to_the_same_end(name, 1);
}

}  // namespace

TEST_CASE("failures: a signal during a step ends it, saves, and leaves with 75") {
  const int ranks = GENERATE(1, 2);
  const int signal = GENERATE(SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGHUP);
  // mpirun keeps these to itself and kills, or is killed.
  if (ranks > 1 && (signal == SIGTERM || signal == SIGINT || signal == SIGHUP)) return;
  const std::string name = fmt::format("signal-{}-{}", signal, ranks);
  INFO(name);
  Job job(name, ranks, kLong + " checkpoint.every=0");
  REQUIRE(job.wait_for_step(3));
  job.kill(signal);
  CHECK(job.wait() == 75);
  CHECK(job.no_process_left());
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find(fmt::format("stopped by {} after step ", signal_name(signal))) !=
        std::string::npos);
  CHECK(log.find("; the same command goes on from there") != std::string::npos);
  REQUIRE_FALSE(newest(name).empty());
  CHECK_NOTHROW(Checkpoint(newest(name)).verify());
  goes_on_to_the_same_end(name, ranks);
}

TEST_CASE("failures: a signal to one rank alone stops all of them") {
  const int signal = GENERATE(SIGTERM, SIGINT, SIGHUP);
  const std::string name = fmt::format("one-{}", signal);
  Job job(name, 2, kLong + " checkpoint.every=0");
  REQUIRE(job.wait_for_step(3));
  const auto ranks = ranks_of(name);
  REQUIRE(ranks.size() == 2);
  ::kill(ranks[1], signal);
  CHECK(job.wait() == 75);
  CHECK(job.no_process_left());
  if (signal == SIGTERM) goes_on_to_the_same_end(name, 2);
}

TEST_CASE("failures: a signal before the first step ends the run in order") {
  make_set();
  const int signal = GENERATE(SIGINT, SIGTERM, SIGUSR1);
  const std::string name = fmt::format("early-{}", signal);
  Job job(name, 1, kLong);
  REQUIRE(eventually(10, [&] { return !ranks_of(name).empty() && catches(job.pid(), signal); }));
  job.kill(signal);
  CHECK(job.wait() == 75);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("stopped by ") != std::string::npos);
}

TEST_CASE("failures: a second Ctrl-C ends at once") {
  // The first is caught while the run waits for its folder's lock, which a stopped run holds.
  Job holder("twice", 1, "train.tokens=1B");
  REQUIRE(holder.wait_for_step(1));
  ::kill(holder.pid(), SIGSTOP);
  const std::string command = train_command("twice", 1, "train.tokens=1B");
  CHECK(shell("sh -c 'exec " + command +
                  "' & PID=$!; sleep 2; kill -2 $PID; sleep 0.3; "
                  "kill -2 $PID; wait $PID",
              "second.log") == 128 + SIGINT);
}

TEST_CASE("failures: SIGUSR1 and SIGUSR2 are nothing to the other commands") {
  const int signal = GENERATE(SIGUSR1, SIGUSR2);
  // Sent as soon as it is ignored: it comes in the midst of the work.
  const std::string out = workspace() + "/usr";
  const std::string bit = signal == SIGUSR1 ? "512" : "2048";
  const std::string wait =
      "while kill -0 $! && [ $((0x$(sed -n s/^SigIgn:.//p /proc/$!/status) & " + bit +
      ")) -eq 0 ]; do :; done; ";
  CHECK(shell(fmt::format("bash -c '{} tokenize {}/text --out {} & {} kill -{} $!; wait $!'",
                          binary(), workspace(), out, wait, signal),
              "usr.log") == 0);
  INFO(log_of("usr"));
  CHECK(fs::exists(out + ".idx"));
  CHECK(log_of("usr").find("No such process") == std::string::npos);
}

TEST_CASE("failures: threads of a run that starts beside busy programs wait asleep") {
  make_set();
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  const std::string before = policy ? policy : "";
  ::unsetenv("OMP_WAIT_POLICY");
  std::vector<pid_t> busy;
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
    busy.push_back(::fork());
    if (busy.back() == 0)
      for (;;) (void)::getppid();
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  {
    Job job("beside", 1, "train.tokens=1B");
    CHECK(job.wait_for_step(2));
    const std::string place = fmt::format("/proc/{}/environ", job.pid());
    std::stringstream environment;
    environment << std::ifstream(place).rdbuf();
    CHECK(environment.str().find("GOMP_SPINCOUNT=1000") != std::string::npos);
    job.kill(SIGUSR1);
    CHECK(job.wait() == 75);
  }
  for (const pid_t pid : busy) ::kill(pid, SIGKILL), ::waitpid(pid, nullptr, 0);
  if (policy) ::setenv("OMP_WAIT_POLICY", before.c_str(), 1);
}

TEST_CASE("failures: a closed pipe does not end a run") {
  make_set();
  CHECK(shell("bash -c '" + train_command("pipe", 1, "") + " | head -1; exit ${PIPESTATUS[0]}'",
              "pipe.log") == 0);
  CHECK(fs::exists(checkpoint_path("pipe", 12)));
  CHECK(read_text(run_folder("pipe") + "/log.txt").find("done: 12 steps") != std::string::npos);
}

TEST_CASE("failures: closed standard streams get nobody else's file") {
  make_set();
  REQUIRE(shell(train_command("closed", 1, "") + " <&- >&- 2>&-", "closed.log") == 0);
  for (const char* file : {"/metrics.jsonl", "/events.jsonl"}) {
    std::istringstream lines(read_text(run_folder("closed") + file));
    for (std::string line; std::getline(lines, line);) CHECK(line.starts_with("{"));
  }
  const std::string out = workspace() + "/streams";
  REQUIRE(shell("sh -c '" + binary() + " tokenize " + workspace() + "/text --out " + out +
                    " <&- >&- 2>&-'",
                "streams.log") == 0);
  CHECK(read_text(out + ".idx") == read_text(workspace() + "/set.idx"));
}

TEST_CASE("failures: a limit of file sizes is a save that failed, not an end without a word") {
  make_set();
  const std::string command = train_command("limit", 1, "checkpoint.retry=1");
  CHECK(shell("bash -c 'ulimit -f 64; " + command + "'", "limit.log") == 1);
  const std::string log = log_of("limit");
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find("File too large") != std::string::npos);
}

TEST_CASE("failures: a signal during a save does not harm it") {
  const std::string name = "signal-save";
  Job job(name, 1, kLong + " checkpoint.every=1");
  REQUIRE(job.wait_for_step(3));
  REQUIRE(eventually(30, [&] { return saving(name); }));
  job.kill(SIGUSR1);
  CHECK(job.wait() == 75);
  CHECK_NOTHROW(Checkpoint(newest(name)).verify());
  CHECK_FALSE(saving(name));
  goes_on_to_the_same_end(name, 1);
}

TEST_CASE("failures: kill -9 while saving loses nothing") { kill_while_saving("kill", 5, 1); }
TEST_CASE("failures: kill -9 while saving, fifty times", "[.kill]") {
  for (unsigned round = 0; round < 5; ++round)
    kill_while_saving(fmt::format("kill-{}", round), 10, round + 2);
}

TEST_CASE("failures: a rank that dies takes the others with it") {
  const std::string name = "dies";
  Job job(name, 2, "train.tokens=1B run.timeout=20");
  REQUIRE(job.wait_for_step(2));
  const auto ranks = ranks_of(name);
  REQUIRE(ranks.size() == 2);
  ::kill(ranks[1], SIGKILL);
  CHECK(job.wait() != 0);
  CHECK(job.no_process_left());
  const std::string log = log_of(name);
  INFO(log);
  CHECK(log.find("rank 1") != std::string::npos);
}

TEST_CASE("failures: a rank that hangs is named once, within run.timeout") {
  const std::string name = "hangs";
  Job job(name, 3, "train.tokens=1B train.global_batch=6 run.timeout=4");
  REQUIRE(job.wait_for_step(2));
  const auto ranks = ranks_of(name);
  REQUIRE(ranks.size() == 3);
  const auto begin = std::chrono::steady_clock::now();
  ::kill(ranks[1], SIGSTOP);
  CHECK(job.wait() == 1);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
  CHECK(job.no_process_left());
  const std::string log = log_of(name);
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(log.find("Silent on this node: rank 1.") != std::string::npos);
  CHECK(log.find("within 4 s (run.timeout)") != std::string::npos);
}

TEST_CASE("failures: when the launcher is killed, no rank stays") {
  const std::string name = "launcher";
  Job job(name, 2, "train.tokens=1B run.timeout=5");
  REQUIRE(job.wait_for_step(2));
  ::kill(job.pid(), SIGKILL);
  job.wait();
  CHECK(job.no_process_left());
}

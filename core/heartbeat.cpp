#include "core/heartbeat.h"

#include "core/log.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace ft {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kTick = std::chrono::milliseconds(50);
constexpr double kStorageFloor = 30, kStartFloor = 15;  // seconds
constexpr int kSpeakerStays = 2;  // seconds in which the others learn that they are not to speak

int64_t now_ns() { return Clock::now().time_since_epoch().count(); }

// Tests make the floors lower.
double lowered(double floor) {
  static const char* test = std::getenv("FT_TEST_FLOOR");
  return test ? std::min(floor, std::atof(test)) : floor;
}

}  // namespace

namespace {

// Never destroyed: threads may outlive main.
struct State {
  std::mutex mutex;  // of the list
  MarkedCall* first = nullptr;
  std::once_flag watching;
  std::atomic<double> timeout{600};
  Stamp alone;
  std::atomic<Stamp*> mine{&alone};
  std::vector<Stamp*> all;
  std::atomic<bool> shared{false};  // `all` is complete
  std::atomic<int> rank{-1};        // -1: not known
  std::atomic<bool> spoken{false};
  sockaddr_un word{};
  socklen_t word_size = 0;  // 0: this process is alone
};

State& state() {
  static auto* s = new State;
  return *s;
}

double storage_limit() { return std::max(heartbeat::timeout(), lowered(kStorageFloor)); }

// What ends the process.
struct End {
  std::string text;
  int exit_code;
  bool storage;
};

}  // namespace

struct MarkedCall::Watch {
  static std::optional<End> check(MarkedCall& call) {
    if (call.path_) {
      if (call.patience_.spent() < storage_limit()) return {};
      return End{
          fmt::format("storage: {} of {} has not returned for {:.3g} s (run.timeout, but at least "
                      "{:.3g} s for one call to storage). The disk or its server hangs; see to it, "
                      "then start again: a run goes on from its last checkpoint",
                      call.what_, *call.path_, storage_limit(), lowered(kStorageFloor)),
          call.exit_code_, true};
    }
    const double limit = std::max(heartbeat::timeout(), call.at_least_);
    if (call.patience_.spent_on_others() < limit) return {};
    return End{heartbeat::no_answer(call.what_, limit), call.exit_code_, false};
  }

  [[noreturn]] static void run() {
    State& s = state();
    for (;;) {
      std::this_thread::sleep_for(kTick);
      bool at_work = false;
      std::optional<End> end;
      {
        const std::lock_guard lock(s.mutex);
        for (MarkedCall* call = s.first; call && !end; call = call->after_) {
          end = check(*call);
          at_work |= call->path_ != nullptr;
        }
      }
      if (end && !end->storage) log_last_words(end->text);
      if (end) heartbeat::end_process(end->text, end->exit_code);
      if (at_work) beat();
    }
  }
};

namespace {

// Signals are for the program's own threads.
void start_watching() {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread(MarkedCall::Watch::run).detach();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

void beat() noexcept {
  state().mine.load(std::memory_order_relaxed)->worked.store(now_ns(), std::memory_order_relaxed);
}

MarkedCall::MarkedCall(const char* what, const std::string* path, double at_least, int exit_code)
    : what_(what), path_(path), at_least_(at_least), exit_code_(exit_code) {
  State& s = state();
  std::call_once(s.watching, start_watching);
  beat();
  const std::lock_guard lock(s.mutex);
  after_ = s.first;
  if (s.first) s.first->before_ = this;
  s.first = this;
}

MarkedCall::~MarkedCall() {
  State& s = state();
  {
    const std::lock_guard lock(s.mutex);
    (before_ ? before_->after_ : s.first) = after_;
    if (after_) after_->before_ = before_;
  }
  beat();
}

// Between two looks at the clock more than a second passes only while this process is stopped.
double Patience::spent() {
  const Clock::time_point before = std::exchange(last_, Clock::now());
  return spent_ += std::min(1.0, std::chrono::duration<double>(last_ - before).count());
}

double Patience::spent_on_others() {
  const State& s = state();
  const Stamp* mine = s.mine.load();
  int64_t newest = 0;
  if (s.shared.load())
    for (const Stamp* stamp : s.all)
      if (stamp != mine) newest = std::max(newest, stamp->worked.load(std::memory_order_relaxed));
  spent();
  if (newest != std::exchange(seen_, newest)) spent_ = 0;
  return spent_;
}

namespace heartbeat {

void set_timeout(double seconds) { state().timeout.store(seconds); }
double timeout() { return state().timeout.load(); }
double start_timeout() { return std::max(timeout(), lowered(kStartFloor)); }

void join(const std::string& job) {
  State& s = state();
  if (job.empty()) return;
  // A name that lives in the kernel and goes with the process that holds it.
  const std::string name = fmt::format("falcon-train-{}-{}", ::getuid(), job).substr(0, 100);
  s.word.sun_family = AF_UNIX;
  std::memcpy(s.word.sun_path + 1, name.data(), name.size());
  s.word_size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

void set_rank(int rank) { state().rank.store(rank); }

void share(Stamp* mine, std::vector<Stamp*> all) {
  State& s = state();
  s.all = std::move(all);
  s.mine.store(mine);
  s.shared.store(true);
  beat();
}

void wait_on() noexcept {
  state().mine.load(std::memory_order_relaxed)->waited.store(now_ns(), std::memory_order_relaxed);
}

std::string silent() {
  State& s = state();
  std::string names;
  if (!s.shared.load()) return names;
  for (const Stamp* stamp : s.all) {
    const int64_t last = std::max(stamp->worked.load(), stamp->waited.load());
    if (stamp == s.mine.load() || static_cast<double>(now_ns() - last) < timeout() * 0.5e9)
      continue;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", stamp->rank.load());
  }
  return names.empty() ? "" : fmt::format(" Silent on this node: rank {}.", names);
}

std::string no_answer(const std::string& what, double seconds) {
  return fmt::format(
      "{}: no answer from other ranks within {:.6g} s (run.timeout{}).{} A rank has stopped or "
      "hangs; look at the last line of each rank's output",
      what, seconds, seconds > timeout() ? "; at least that for the start" : "", silent());
}

bool claim_word() noexcept {
  State& s = state();
  if (s.spoken.exchange(true)) return false;
  if (s.word_size == 0) return true;
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);  // open until the process ends
  return fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&s.word), s.word_size) == 0;
}

bool is_alone() noexcept { return state().word_size == 0; }

void end_process(const std::string& text, int exit_code) {
  const bool alone = is_alone();
  if (claim_word()) {
    const int rank = state().rank.load();
    const std::string line = fmt::format(
        "falcon-train: {}{}\n", alone || rank < 0 ? "" : fmt::format("rank {}: ", rank), text);
    if (::write(STDERR_FILENO, line.data(), line.size()) < 0) ::_exit(exit_code);
  }
  // The others are to find the word taken.
  if (!alone) std::this_thread::sleep_for(std::chrono::seconds(kSpeakerStays));
  ::_exit(exit_code);
}

}  // namespace heartbeat

}  // namespace ft

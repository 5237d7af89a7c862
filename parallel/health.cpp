#include "parallel/health.h"

#include "core/check.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <new>

namespace ft {

namespace {
volatile std::sig_atomic_t g_stop = 0;

// Who presses Ctrl-C twice does not want to wait for a save.
void raise_flag(int signal) {
  if (signal == SIGINT && g_stop == SIGINT) {
    ::signal(SIGINT, SIG_DFL);
    ::raise(SIGINT);
  }
  g_stop = signal;
}

bool is_ignored(int signal) {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

struct Fault {
  int code = 0;  // 0: none
  std::string text;
};

Fault fault_of(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {1, "out of memory on the host; use a smaller micro-batch or fewer ranks a node"};
  } catch (const std::exception& error) {
    return {1, error.what()};
  }
}
}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = raise_flag;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2}) ::sigaction(signal, &action, nullptr);
  if (!is_ignored(SIGHUP)) ::sigaction(SIGHUP, &action, nullptr);  // nohup
}

bool stop_requested(Group& group) { return stop_signal(group) != 0; }
int own_stop_signal() { return g_stop; }
int stop_signal(Group& group) {
  return static_cast<int>(all_max(group, int64_t{own_stop_signal()}));
}
void forget_stop_signal() { g_stop = 0; }
std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

void together(Group& group, const std::function<void()>& work) {
  together_sum(group, [&] {
    work();
    return 0;
  });
}

int64_t together_sum(Group& group, const std::function<int64_t()>& work) {
  int64_t given = 0;
  const Fault mine = fault_of([&] { given = work(); });
  int64_t sums[] = {mine.code != 0, given};
  group.all_reduce(Tensor(sums, Dtype::I64, {2}), Reduce::Sum).wait();
  if (sums[0] == 0) return sums[1];
  const std::vector<std::string> all =
      gather_text(group, mine.code == 0 ? "" : fmt::format("{} {}", mine.code, mine.text));
  const auto first = std::find_if(all.begin(), all.end(), [](auto& text) { return !text.empty(); });
  const bool alike =
      std::all_of(all.begin(), all.end(), [&](auto& text) { return text == *first; });
  const std::string text = first->substr(first->find(' ') + 1);
  throw SharedError(alike ? text : fmt::format("rank {}: {}", first - all.begin(), text),
                    std::atoi(first->c_str()));
}

void on_rank_0(Group& group, const std::function<void()>& work) {
  const Fault mine = group.rank() == 0 ? fault_of(work) : Fault();
  if (all_max(group, static_cast<int64_t>(mine.code)) == 0) return;
  const std::string fault = broadcast_text(group, fmt::format("{} {}", mine.code, mine.text), 0);
  throw SharedError(fault.substr(fault.find(' ') + 1), std::atoi(fault.c_str()));
}

}  // namespace ft

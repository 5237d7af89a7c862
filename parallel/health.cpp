#include "parallel/health.h"

#include <csignal>

namespace ft {

namespace {
volatile std::sig_atomic_t g_stop = 0;
void raise_flag(int) { g_stop = 1; }
}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = raise_flag;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGTERM, SIGUSR1, SIGUSR2}) ::sigaction(signal, &action, nullptr);
}

bool stop_requested(Group& group) { return all_max(group, static_cast<int64_t>(g_stop)) > 0; }

}  // namespace ft

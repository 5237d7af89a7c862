#include "app/machine/process_start.h"

#include "app/config/config.h"
#include "app/machine/wait_policy.h"
#include "parallel/health.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <string_view>

namespace ft {

namespace {

void open_standard_streams() {
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    // The lowest that is free is this one: those below it are open.
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) < 0) ::_exit(1);
}

void choose_signals(std::string_view command) {
  ::signal(SIGXFSZ, SIG_IGN);
  for (const char* writer : {"train", "tokenize", "probe", "evaluate"})
    if (command == writer) ::signal(SIGPIPE, SIG_IGN);
  if (command == "train") return install_stop_signals();
  for (int signal : {SIGUSR1, SIGUSR2}) ::signal(signal, SIG_IGN);
}

}  // namespace

void prepare_process(int argc, char** argv) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);  // until handlers stand for good
  open_standard_streams();
  wait_as_cores_allow(argv);
  choose_signals(argc > 1 ? argv[1] : "");
  ::sigprocmask(SIG_UNBLOCK, &signals, nullptr);
}

double timeout_of(int argc, char** argv) {
  std::string file;
  std::vector<std::string> sets;
  for (int i = 2; i < argc; ++i) {
    const std::string_view word = argv[i];
    const bool takes_next = word == "--set" || word == "--resume";
    const std::string_view value = takes_next && i + 1 < argc ? argv[++i] : word;
    if (const size_t at = value.find("run.timeout="); at != std::string_view::npos)
      sets.emplace_back(value.substr(at));
    else if (!value.starts_with("-") && !takes_next && file.empty()) file = value;
  }
  try {
    const bool train = argc > 1 && std::string_view(argv[1]) == "train" && !file.empty();
    return (train ? load_config(file, sets) : probe_config({}, sets)).run.timeout;
  } catch (const std::exception&) {
    return RunConfig{}.timeout;
  }
}

}  // namespace ft

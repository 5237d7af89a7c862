// Jobs that are watched, signalled and killed while they run; the rest is tests/train/run.h.
#pragma once

#include "tests/catch.h"
#include "tests/train/run.h"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

namespace ft::test {

inline std::string log_of(const std::string& name) {
  const std::string path = workspace() + "/" + name + ".log";  // a job may not have begun it yet
  return fs::exists(path) ? read_text(path) : "";
}

inline int times(const std::string& text, const std::string& word) {
  int n = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++n;
  return n;
}

inline std::string run_folder(const std::string& name) { return workspace() + "/" + name + "/t"; }
// The lines of a file of JSON objects in a run's folder.
inline std::vector<nlohmann::json> json_lines(const std::string& path) {
  std::vector<nlohmann::json> all;
  std::istringstream text(read_text(path));
  for (std::string line; std::getline(text, line);) all.push_back(nlohmann::json::parse(line));
  return all;
}

// The events of that name in a run's record, in order.
inline std::vector<nlohmann::json> events_of(const std::string& folder, const std::string& name) {
  std::vector<nlohmann::json> found;
  for (auto& event : json_lines(folder + "/events.jsonl"))
    if (event.at("event") == name) found.push_back(event);
  return found;
}

// Steps after which a run's record tells the loss of that set.
inline std::vector<int> validated(const std::string& folder, const std::string& set) {
  std::vector<int> steps;
  for (const auto& line : json_lines(folder + "/metrics.jsonl"))
    if (line.value("validation", "") == set) steps.push_back(line.at("step").get<int>());
  return steps;
}

// The ranks of a run that are alive now, by their command line.
inline std::vector<pid_t> ranks_of(const std::string& name) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    std::ifstream file(entry.path() / "cmdline");
    std::string first, all;
    std::getline(file, first, '\0');
    for (std::string word; std::getline(file, word, '\0');) all += word + " ";
    if (pid > 0 && first == binary() &&
        all.find("run.directory=" + workspace() + "/" + name + " ") != std::string::npos)
      found.push_back(pid);
  }
  std::sort(found.begin(), found.end());
  return found;
}

inline bool eventually(double seconds, const std::function<bool()>& condition) {
  for (int i = 0; i < seconds * 200; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// A run in the background, in a process group of its own; its output is NAME.log.
class Job {
 public:
  Job(const std::string& name, int ranks, const std::string& sets, const std::string& rest = "")
      : name_(name) {
    const std::string command = train_command(name, ranks, sets) + rest;
    const std::string log = workspace() + "/" + name + ".log";
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::setpgid(0, 0);
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(fd, 1), ::dup2(fd, 2);
    ::execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), nullptr);
    ::_exit(127);
  }
  ~Job() {
    if (pid_ > 0) kill(SIGKILL), wait();
    for (const pid_t pid : ranks_of(name_)) ::kill(pid, SIGKILL);
  }
  void kill(int signal) const { ::kill(-pid_, signal); }  // the launcher and, without one, the run
  pid_t pid() const { return pid_; }
  // Exit code, or minus the signal.
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  bool wait_for_step(int step) const {
    return eventually(60, [&] { return times(log_of(name_), "\nstep ") >= step; });
  }
  bool no_process_left() const {
    return eventually(10, [&] { return ranks_of(name_).empty(); });
  }

 private:
  std::string name_;
  pid_t pid_ = -1;
};

}  // namespace ft::test

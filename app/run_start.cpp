#include "app/run_start.h"

#include "app/config.h"
#include "core/check.h"
#include "core/file.h"
#include "core/log.h"
#include "core/path.h"
#include "parallel/checkpoint.h"
#include "parallel/health.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <set>
#include <sstream>
#include <thread>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr int kLockSeconds = 5;  // a run that was just killed may still be on its way out

// The first name PATH.old-1, PATH.old-2, ... that is free.
std::string free_name(const std::string& path) {
  for (int n = 1;; ++n) {
    const std::string name = fmt::format("{}.old-{}", path, n);
    if (!fs::exists(fs::symlink_status(name))) return name;
  }
}

void move(const std::string& from, const std::string& to) {
  FT_CHECK_CONFIG(::rename(from.c_str(), to.c_str()) == 0,
                  "{}: cannot be moved to {}: {}; move it yourself or choose another run.name",
                  from, to, std::strerror(errno));
}

void create_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  FT_CHECK_CONFIG(!error, "{}: cannot be created: {}; set run.directory to a place you may write",
                  path, error.message());
}

void move_later_ones(const std::string& folder, const std::string& chosen) {
  const std::string all = folder + "/checkpoints";
  const int64_t step = Checkpoint(chosen).number("step");
  std::string aside;
  for (const std::string& path : checkpoints_after(all, step)) {
    if (aside.empty()) {
      aside = free_name(all);
      create_folder(aside);
    }
    move(path, aside + "/" + fs::path(path).filename().string());
  }
  if (!aside.empty())
    log_warn("checkpoints of steps after {} were moved to {}: the run goes on from {}", step, aside,
             chosen);
}

}  // namespace

namespace {

// Collective. That all are damaged is not the same as that there is none: it is the user who may
// begin anew.
std::optional<std::string> newest_of(Group& all, const std::string& folder) {
  std::string damage;
  int64_t damaged = 0;
  const auto warn = [&](const std::string& text) {
    log_warn("checkpoint passed over: {}", text);
    damage += (damaged++ == 0 ? "" : "\n  ") + text;
  };
  const std::optional<std::string> newest = newest_checkpoint(all, folder, warn);
  together(all, [&] {
    FT_CHECK_CONFIG(newest || damaged == 0,
                    "{}: none of its checkpoints can be used:\n  {}\nMend one, name another with "
                    "--resume PATH, or begin anew with --resume none, which keeps this run aside",
                    folder, damage);
  });
  return newest;
}

}  // namespace

RunStart::RunStart(World& world, const std::string& folder, const std::string& resume) {
  Group& all = world.all();
  together(all, [&] {
    if (all.rank() != 0) return;
    lock(folder);
    if (resume == "none") return;  // it is moved aside as it is
    clear_leftovers(folder + "/checkpoints");
    remove_stale_temporaries(folder);
  });
  std::optional<std::string> newest;
  if (resume == "auto") newest = newest_of(all, folder + "/checkpoints");
  together(all, [&] {
    if (all.rank() == 0) choose(folder, resume, newest);
  });
  const std::string chosen = broadcast_text(all, checkpoint_.value_or(""), 0);
  if (!chosen.empty()) checkpoint_ = chosen;
}

RunStart::~RunStart() {
  if (lock_ >= 0) ::close(lock_);
}

void RunStart::lock(const std::string& folder) {
  const fs::path path(folder);
  const std::string name = (path.parent_path() / ("." + path.filename().string() + ".lock"));
  create_folder(path.parent_path().string());
  lock_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  FT_CHECK_CONFIG(lock_ >= 0,
                  "{}: cannot be written: {}; set run.directory to a place you may write", name,
                  std::strerror(errno));
  for (int tries = 0; ::flock(lock_, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      log_warn("{}: this file system has no locks ({}); make sure that no other run writes here",
               name, std::strerror(errno));
      return;
    }
    if (tries < kLockSeconds * 10) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    char holder[200] = "";
    const ssize_t n = ::pread(lock_, holder, sizeof holder - 1, 0);
    throw ConfigError(fmt::format(
        "{}: another run is at work in this folder ({}); wait for it, end it, or set another "
        "run.name",
        folder, n > 0 ? holder : "unknown process"));
  }
  char host[128] = "";
  ::gethostname(host, sizeof host - 1);
  const std::string text = fmt::format("process {} on {}", ::getpid(), host);
  // For people only: the lock is the kernel's, and goes with the process.
  if (::ftruncate(lock_, 0) != 0 ||
      ::pwrite(lock_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    log_warn("{}: cannot be written: {}", name, std::strerror(errno));
}

void RunStart::choose(const std::string& folder, const std::string& resume,
                      const std::optional<std::string>& newest) {
  if (resume == "none") {
    if (exists(folder) && !names_in(folder).empty()) {
      const std::string aside = free_name(folder);
      move(folder, aside);
      log_info("the earlier run of this name was moved to {}", aside);
    }
    return;
  }
  if (resume != "auto") {
    FT_CHECK_CONFIG(is_folder(resume),
                    "--resume {}: there is no such checkpoint folder; expected auto, none, or a "
                    "path such as {}/checkpoints/step-00001000",
                    resume, folder);
    checkpoint_ = resume;
  } else {
    checkpoint_ = newest;
  }
  if (checkpoint_) move_later_ones(folder, *checkpoint_);
}

std::string check_same_model(const Checkpoint& checkpoint, const ModelConfig& model,
                             const Store& store) {
  const Config then = parse_config(checkpoint.text("config"), checkpoint.path());
  std::istringstream old_lines(model_text(then.model, 0)), new_lines(model_text(model, 0));
  std::vector<std::string> changes;
  for (std::string before, now; std::getline(old_lines, before) && std::getline(new_lines, now);)
    if (before != now && !now.starts_with("init_from"))
      changes.push_back(fmt::format("model.{}, now{}", before, now.substr(now.find(':') + 1)));

  std::string strange;  // the first tensor that one of the two lacks or has in another shape
  std::set<std::string> known;
  store.for_pieces([&](Param&, Piece& piece) {
    known.insert(piece.name);
    const bool same =
        checkpoint.contains(piece.name) && checkpoint.shape(piece.name) == piece.shape;
    if (!same && strange.empty()) strange = piece.name;
  });
  for (const std::string& name : checkpoint.names())
    if (strange.empty() && !name.starts_with("optimizer.") && !known.contains(name)) strange = name;
  FT_CHECK_CONFIG(strange.empty(),
                  "{}: was written by a model of another shape ({}; the first tensor that differs "
                  "is {}); set it back, or start anew under another run.name",
                  checkpoint.path(), changes.empty() ? "same settings" : changes[0], strange);
  return fmt::format("{}", fmt::join(changes, "; "));
}

}  // namespace ft

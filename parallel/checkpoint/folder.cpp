// A run's folder of checkpoints: which there are, which is the newest, which may go.
#include "core/check.h"
#include "core/path.h"
#include "parallel/checkpoint/io.h"
#include "parallel/health.h"

#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {

// A folder of a checkpoint's name.
struct Found {
  std::string path;
  int64_t named = 0;   // the step of its name
  int64_t step = 0;    // of its manifest; the name's where there is none to be read
  std::string damage;  // why there is none
  bool agrees() const { return damage.empty() && step == named; }
};

bool has_marker(const std::string& path) { return exists(path + "/COMPLETE"); }

// What work() finds damaged, as words; empty: nothing. Other answers of the system are errors: a
// checkpoint that cannot be reached now is no reason to go on without it.
template <class Work>
std::string damage_of(const Work& work) {
  try {
    work();
    return "";
  } catch (const PathError& error) {
    if (!error.is_damage()) throw;
    return error.what();
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<std::string> step_folders(const std::string& directory) {
  std::vector<std::string> found;
  for (const std::string& name : names_in(directory))
    if (checkpoint_step(name) >= 0 && is_folder(directory + "/" + name))
      found.push_back(directory + "/" + name);
  std::stable_sort(found.begin(), found.end(), [](const std::string& a, const std::string& b) {
    return checkpoint_step(a) < checkpoint_step(b);
  });
  return found;
}

// Oldest first by the manifests' steps.
std::vector<Found> found_in(const std::string& directory) {
  std::vector<Found> all;
  for (const std::string& path : step_folders(directory)) {
    Found f{.path = path, .named = checkpoint_step(path), .step = checkpoint_step(path)};
    f.damage = damage_of([&] {
      const State state = detail::read_manifest(path).state;
      if (state.contains("step")) f.step = detail::state_number(path, state, "step");
    });
    all.push_back(f);
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Found& a, const Found& b) { return a.step < b.step; });
  return all;
}

// Out of sight first, so that a kill in between leaves no half of it under its name.
void remove_checkpoint(const std::string& path) {
  const fs::path whole(path);
  const std::string aside =
      (whole.parent_path() / fmt::format("{}gone-{}", detail::kLeftover, whole.filename().string()))
          .string();
  std::error_code error;
  fs::remove_all(aside, error);
  if (!error) fs::rename(path, aside, error);
  FT_CHECK(!error, "{}: cannot be removed: {}", path, error.message());
  fs::remove_all(aside, error);  // what is left of it is cleared with the next save
}

}  // namespace

int64_t checkpoint_step(const std::string& path) {
  constexpr std::string_view kBegin = "step-";
  const std::string name = fs::path(path).filename().string();
  if (!name.starts_with(kBegin)) return -1;
  const char *begin = name.data() + kBegin.size(), *end = name.data() + name.size();
  int64_t step = -1;
  if (begin == end || !std::all_of(begin, end, [](char c) { return c >= '0' && c <= '9'; }))
    return -1;
  const auto [at, error] = std::from_chars(begin, end, step);
  return error == std::errc() && at == end ? step : -1;
}

std::vector<std::string> list_checkpoints(const std::string& directory) {
  std::vector<std::string> found = step_folders(directory);
  std::erase_if(found, [](const std::string& path) { return !has_marker(path); });
  return found;
}

std::optional<std::string> newest_checkpoint(const std::string& directory, const Warn& warn) {
  const std::vector<Found> all = found_in(directory);
  for (auto f = all.rbegin(); f != all.rend(); ++f) {
    const std::string damage =
        f->damage.empty() ? damage_of([&] { Checkpoint(f->path).verify(); }) : f->damage;
    if (damage.empty()) return f->path;
    if (warn) warn(damage);
  }
  return std::nullopt;
}

std::optional<std::string> newest_checkpoint(Group& group, const std::string& directory,
                                             const Warn& warn) {
  const bool chief = group.rank() == 0;
  std::vector<Found> all;
  together(group, [&] {
    if (chief) all = found_in(directory);
  });
  for (int64_t left = all_max(group, static_cast<int64_t>(all.size())); left > 0; --left) {
    const Found mine = chief ? all[static_cast<size_t>(left - 1)] : Found();
    const std::string path = broadcast_text(group, mine.path, 0);
    std::string damage = mine.damage;
    together(group, [&] {
      if (damage.empty())
        damage = damage_of([&] { Checkpoint(path).verify(group.rank(), group.size()); });
    });
    const std::vector<std::string> told = gather_text(group, damage);
    const auto first = std::find_if(told.begin(), told.end(), [](auto& t) { return !t.empty(); });
    if (first == told.end()) return path;
    if (chief && warn) warn(*first);
  }
  return std::nullopt;
}

std::vector<std::string> checkpoints_after(const std::string& directory, int64_t step) {
  std::vector<std::string> later;
  for (const Found& f : found_in(directory))
    if (f.step > step) later.push_back(f.path);
  return later;
}

std::vector<std::string> retain_checkpoints(const std::string& directory, int64_t keep_last,
                                            int64_t keep_every, const Warn& warn) {
  std::vector<Found> ours;
  for (const Found& f : found_in(directory)) {
    if (f.agrees()) ours.push_back(f);
    else if (warn && has_marker(f.path))
      warn(
          f.damage.empty()
              ? fmt::format("{}: its manifest says step {}; checkpoint.keep_last does not touch it",
                            f.path, f.step)
              : fmt::format("{}; checkpoint.keep_last does not touch it", f.damage));
  }
  const auto newest = static_cast<size_t>(std::max<int64_t>(keep_last, 1));  // one always stays
  std::vector<std::string> removed;
  for (size_t i = 0; i + newest < ours.size(); ++i) {
    if (keep_every > 0 && ours[i].step % keep_every == 0) continue;
    remove_checkpoint(ours[i].path);
    removed.push_back(ours[i].path);
  }
  clear_leftovers(directory);
  return removed;
}

void clear_leftovers(const std::string& directory) {
  for (const std::string& name : names_in(directory)) {
    if (!name.starts_with(detail::kLeftover)) continue;
    const std::string path = directory + "/" + name;
    std::error_code stays;  // what cannot be removed is in nobody's way but for its room
    if (name.starts_with(detail::kReplaced) && has_marker(path)) {
      const std::string home = directory + "/" + name.substr(detail::kReplaced.size());
      if (!exists(home)) fs::rename(path, home, stays);
    }
    fs::remove_all(path, stays);
  }
}

}  // namespace ft

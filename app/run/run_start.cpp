#include "app/run/run_start.h"

#include "app/config/config.h"
#include "core/check.h"
#include "core/file.h"
#include "core/log.h"
#include "core/path.h"
#include "models/families/config_file.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/health.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <sstream>

namespace ft {

namespace fs = std::filesystem;

namespace {

// What is there in the place of a folder must be one; a link to nowhere is none.
void check_folder(const std::string& path) {
  FT_CHECK_CONFIG(
      exists(path) ? is_folder(path) : !is_link(path),
      "{}: is no folder; a run keeps its checkpoints there: move it away, or set another "
      "run.name",
      path);
}

// Whether an earlier life left something in a run's folder.
bool holds_a_record(const std::string& folder) {
  for (const char* name :
       {"metrics.jsonl", "events.jsonl", "config.yaml", "log.txt", "tensorboard"})
    if (exists(folder + "/" + name)) return true;
  const std::string checkpoints = folder + "/checkpoints";
  return is_folder(checkpoints) ? !names_in(checkpoints).empty()
                                : exists(checkpoints) || is_link(checkpoints);
}

// The first name PATH.old-1, PATH.old-2, ... that is free.
std::string free_name(const std::string& path) {
  for (int n = 1;; ++n) {
    const std::string name = fmt::format("{}.old-{}", path, n);
    if (!exists(name) && !is_link(name)) return name;
  }
}

void move(const std::string& from, const std::string& to) {
  FT_CHECK_CONFIG(::rename(from.c_str(), to.c_str()) == 0,
                  "{}: cannot be moved to {}: {}; move it yourself or choose another run.name",
                  from, to, std::strerror(errno));
}

// Whether the checkpoint lies somewhere in the folder, under any spelling.
bool lies_in(const std::string& checkpoint, const std::string& folder) {
  const fs::path inner = fs::canonical(checkpoint), outer = fs::canonical(folder);
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

// Collective. That all are damaged is not the same as that there is none: it is the user who may
// begin anew.
Beginning newest_of(Group& all, const std::string& run) {
  const std::string folder = run + "/checkpoints";
  Beginning found;
  std::string damage;
  found.checkpoint = newest_checkpoint(all, folder, [&](const std::string& text) {
    log_warn("checkpoint passed over: {}", text);
    damage += "\n  " + text;
    found.passed_over.push_back(text);
  });
  together(all, [&] {
    FT_CHECK_CONFIG(found.checkpoint || damage.empty(),
                    "{}: none of its checkpoints can be used:{}\nMend one, name another with "
                    "--resume PATH, or begin anew with --resume none, which keeps this run aside",
                    folder, damage);
  });
  return found;
}

// Rank 0: whether PATH of --resume is a run; else it is a checkpoint.
bool names_a_run(const std::string& resume, const std::string& folder) {
  FT_CHECK_CONFIG(
      is_folder(resume),
      "--resume {}: there is no such checkpoint folder; expected auto, none, a run, or a "
      "path such as {}/checkpoints/step-00001000",
      resume, folder);
  if (exists(resume + "/manifest.json")) return false;
  FT_CHECK_CONFIG(is_folder(resume + "/checkpoints"),
                  "--resume {}: neither a finished checkpoint (manifest.json) nor a run "
                  "(checkpoints/)",
                  resume);
  return true;
}

}  // namespace

Beginning find_beginning(Group& all, const std::string& folder, const std::string& resume) {
  Beginning found;
  if (resume == "none") return found;
  if (resume == "auto") return newest_of(all, folder);
  bool is_run = false;
  on_rank_0(all, [&] { is_run = names_a_run(resume, folder); });
  if (all_max(all, int64_t{is_run}) == 0) {
    found.checkpoint = resume;
    return found;
  }
  found = newest_of(all, resume);
  together(all, [&] {
    FT_CHECK_CONFIG(found.checkpoint, "--resume {}: the run has no checkpoint", resume);
  });
  if (all.rank() == 0)
    log_info("{} is a run; its newest checkpoint is {}", resume, *found.checkpoint);
  return found;
}

RunStart::RunStart(World& world, const std::string& folder, const std::string& resume)
    : folder_(folder), resume_(resume) {
  Group& all = world.all();
  on_rank_0(all, [&] {
    lock_.emplace(folder);
    if (resume == "none") return;  // what is there is moved aside as it is
    check_folder(folder + "/checkpoints");
    clear_leftovers(folder + "/checkpoints");
    remove_stale_temporaries(folder);
  });
  beginning_ = find_beginning(all, folder, resume);
}

void RunStart::make_room(World& world) {
  on_rank_0(world.all(), [&] {
    const bool goes_on = checkpoint() && lies_in(*checkpoint(), folder_);
    if (goes_on) return move_later_checkpoints();
    if (!holds_a_record(folder_)) return;
    move_folder(resume_ == "none" ? "--resume none"
                : checkpoint()    ? "the run begins from a checkpoint that lies elsewhere"
                                  : "it holds no checkpoint to go on from");
  });
}

void RunStart::move_folder(const std::string& why) {
  const std::string aside = free_name(folder_);
  move(folder_, aside);
  moves_.push_back({folder_, aside, why});
  lock_.emplace(folder_);  // the old one went along
}

void RunStart::move_later_checkpoints() {
  const std::string all = folder_ + "/checkpoints";
  const int64_t step = Checkpoint(*checkpoint()).number("step");
  std::string aside;
  for (const std::string& path : checkpoints_after(all, step)) {
    if (aside.empty()) {
      aside = free_name(all);
      fs::create_directory(aside);
    }
    move(path, aside + "/" + fs::path(path).filename().string());
  }
  if (!aside.empty())
    moves_.push_back({all, aside,
                      fmt::format("checkpoints of steps after {}: the run goes on from "
                                  "{}",
                                  step, *checkpoint())});
}

void check_same_model(const Checkpoint& checkpoint, const ModelConfig& model, const Store& store) {
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
}

}  // namespace ft

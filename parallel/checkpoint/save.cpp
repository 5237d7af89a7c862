// Saving. What can fail is followed by a word among all ranks, so that all of them go on or none
// does.
#include "core/check.h"
#include "core/file.h"
#include "core/path.h"
#include "core/safetensors.h"
#include "parallel/checkpoint/io.h"
#include "parallel/health.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>

namespace ft {

namespace fs = std::filesystem;

namespace detail {
namespace {

// Writes the box row by row and returns the checksum of what was written.
uint64_t write_box(AtomicFile& file, const CheckpointPiece& p, Unfit& unfit) {
  const std::unique_ptr<XXH64_state_t, decltype(&XXH64_freeState)> hash(XXH64_createState(),
                                                                        XXH64_freeState);
  FT_CHECK(hash, "checkpoint: out of memory");
  XXH64_reset(hash.get(), 0);
  each_part(p, [&](const float* values, size_t n) {
    unfit.look(values, n);
    XXH64_update(hash.get(), values, n * sizeof(float));
    file.write(values, n * sizeof(float));
  });
  unfit.end_of(p);
  return XXH64_digest(hash.get());
}

// Old and new change places at once where the file system can; else the old one steps aside first.
void put_in_place(const std::string& temporary, const std::string& final,
                  const std::string& aside) {
  if (!is_link(final) && !exists(final)) {
    FT_CHECK(::rename(temporary.c_str(), final.c_str()) == 0, "{}: cannot be renamed to {}: {}",
             temporary, final, std::strerror(errno));
    return;
  }
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, final.c_str(), RENAME_EXCHANGE) == 0)
    return;
  fs::remove_all(aside);
  FT_CHECK(::rename(final.c_str(), aside.c_str()) == 0, "{}: cannot be moved aside: {}", final,
           std::strerror(errno));
  if (::rename(temporary.c_str(), final.c_str()) == 0) return;
  const int why = errno;
  const bool back = ::rename(aside.c_str(), final.c_str()) == 0;
  throw Error(fmt::format("{}: cannot be renamed to {}: {}{}", temporary, final, std::strerror(why),
                          back ? "" : fmt::format("; the one before it is now {}", aside)));
}

}  // namespace

Stored write_rank_file(const std::string& folder, int rank,
                       const std::vector<CheckpointPiece>& pieces, std::string& unfit) {
  Stored stored;
  Unfit values;
  std::vector<const CheckpointPiece*> chosen;
  std::vector<NamedTensor> boxes;
  for (const CheckpointPiece& p : pieces) {
    // Empty tensors are named though nothing of them is written.
    const auto& t = stored.tensors.try_emplace(p.name, StoredTensor{p.shape, {}}).first->second;
    FT_CHECK(t.shape == p.shape, "checkpoint: tensor {} is offered with two shapes", p.name);
    if (p.rows <= 0 || p.cols <= 0) continue;
    chosen.push_back(&p);
    // A rank can hold several boxes of one tensor, so the box is part of the name within the file.
    boxes.push_back({fmt::format("{}@{},{}", p.name, p.row, p.col),
                     "F32",
                     {p.rows, p.cols},
                     nullptr,
                     p.rows * p.cols * 4});
  }
  if (chosen.empty()) return stored;
  std::vector<int64_t> offsets;
  const std::string name = rank_file(rank);
  const std::string header = safetensors_header(boxes, {{"format", "pt"}}, &offsets);
  AtomicFile file(folder + "/" + name);
  file.write(header);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const CheckpointPiece& p = *chosen[i];
    FT_CHECK(file.position() == offsets[i],
             "checkpoint: tensor {} would be written at the wrong place", p.name);
    const uint64_t hash = write_box(file, p, values);
    stored.tensors[p.name].pieces.push_back({name, offsets[i], p.row, p.col, p.rows, p.cols, hash});
  }
  stored.files[name] = {.bytes = file.position(),
                        .header = static_cast<int64_t>(header.size()),
                        .header_hash = text_hash(header)};
  unfit = values.text();
  if (unfit.empty()) file.commit();
  return stored;
}

}  // namespace detail

namespace {

void check_name(const std::string& name) {
  FT_CHECK(
      !name.empty() && name[0] != '.' && name.find('/') == std::string::npos && name.size() < 200,
      "checkpoint: \"{}\" cannot be its name; use letters, digits and dashes", name);
}

// Rank 0: the manifest of all ranks' pieces, the marker, and the new name.
void finish(const std::string& directory, const std::string& name, const std::string& temporary,
            const std::vector<std::string>& stored_of_ranks, const State& state) {
  detail::Manifest manifest{state, {}};
  for (const std::string& text : stored_of_ranks) detail::merge_stored(text, manifest.stored);
  for (auto& [tensor, stored] : manifest.stored.tensors) detail::check_cover(tensor, stored);
  for (const auto& [file, stored] : manifest.stored.files)
    FT_CHECK(is_file(temporary + "/" + file),
             "{}/{}: rank 0 does not see what another rank wrote; run.directory must be a file "
             "system that all nodes share",
             temporary, file);
  const std::string text = detail::manifest_text(manifest);
  write_text(temporary + "/manifest.json", text);
  write_text(temporary + "/COMPLETE", detail::hex(detail::text_hash(text)) + "\n");
  sync_path(temporary);
  const std::string aside = fmt::format("{}/{}{}", directory, detail::kReplaced, name);
  detail::put_in_place(temporary, directory + "/" + name, aside);
  sync_path(directory);
  std::error_code ignored;  // what the new one replaced; a leftover is never listed
  fs::remove_all(temporary, ignored);
  fs::remove_all(aside, ignored);
}

}  // namespace

SaveJob::SaveJob(Group& group, std::string directory, std::string name)
    : group_(group),
      directory_(std::move(directory)),
      name_(std::move(name)),
      temporary_(fmt::format("{}/{}{}", directory_, detail::kLeftover, name_)) {}

void SaveJob::undo_on_fault(const std::function<void()>& work) {
  try {
    work();
  } catch (const SharedError&) {  // all ranks are here
    std::error_code ignored;
    if (group_.rank() == 0) fs::remove_all(temporary_, ignored);
    group_.barrier().wait();
    throw;
  }
}

void SaveJob::snapshot(std::vector<CheckpointPiece> pieces, State state) {
  check_name(name_);
  pieces_ = std::move(pieces), state_ = std::move(state);
  together(group_, [&] { detail::check_places(pieces_); });
  undo_on_fault([&] {
    on_rank_0(group_, [&] {
      fs::create_directories(directory_);
      clear_leftovers(directory_);
      fs::remove_all(temporary_);  // or an error that says why it cannot go
      fs::create_directory(temporary_);
    });
  });
}

void SaveJob::write() noexcept {
  try {
    stored_ =
        detail::stored_text(detail::write_rank_file(temporary_, group_.rank(), pieces_, unfit_));
  } catch (...) {
    fault_ = std::current_exception();
  }
}

void SaveJob::commit() {
  undo_on_fault([&] {
    try {
      together(group_, [&] { FT_CHECK(unfit_.empty(), "{}", unfit_); });
    } catch (const SharedError& error) {
      throw UnfitWeights(error.what());
    }
    together(group_, [&] {
      if (fault_) std::rethrow_exception(fault_);
    });
    const std::vector<std::string> all = gather_text(group_, stored_);
    on_rank_0(group_, [&] { finish(directory_, name_, temporary_, all, state_); });
  });
}

void save_checkpoint(Group& group, const std::string& directory, const std::string& name,
                     std::vector<CheckpointPiece> pieces, State state) {
  SaveJob job(group, directory, name);
  job.snapshot(std::move(pieces), std::move(state));
  job.write();
  job.commit();
}

}  // namespace ft

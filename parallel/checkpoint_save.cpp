// Saving. Each step that can fail is followed by a word among all ranks, so that all of them go on
// or none does.
#include "core/check.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "parallel/checkpoint_io.h"
#include "parallel/health.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>

namespace ft {

namespace fs = std::filesystem;

namespace detail {
namespace {

constexpr size_t kChunk = 1 << 18;  // floats gathered from strided rows before they are written

void check_piece(const CheckpointPiece& p) {
  const MatrixShape whole = as_matrix(p.name, p.shape);
  FT_CHECK(p.row >= 0 && p.col >= 0 && p.rows <= whole.rows && p.row <= whole.rows - p.rows &&
               p.cols <= whole.cols && p.col <= whole.cols - p.cols,
           "checkpoint: the piece of tensor {} at row {}, column {} with {} x {} elements lies "
           "outside of its "
           "{} x {}",
           p.name, p.row, p.col, p.rows, p.cols, whole.rows, whole.cols);
  const int64_t cols = p.data.dims > 1 ? p.data.shape[1] : 1;
  FT_CHECK((p.data.dims == 1 || p.data.dims == 2) && p.data.dtype == Dtype::F32 &&
               p.data.shape[0] == p.rows && cols == p.cols &&
               (p.data.dims == 1 || cols == 1 || p.data.stride[1] == 1),
           "checkpoint: data of tensor {} is not the fp32 box [{}, {}] it is offered as", p.name,
           p.rows, p.cols);
}

// Writes the box row by row and returns the checksum of what was written.
uint64_t write_box(AtomicFile& file, const CheckpointPiece& p, std::vector<float>& buffer) {
  const std::unique_ptr<XXH64_state_t, decltype(&XXH64_freeState)> hash(XXH64_createState(),
                                                                        XXH64_freeState);
  FT_CHECK(hash, "checkpoint: out of memory");
  XXH64_reset(hash.get(), 0);
  const auto put = [&](const float* data, size_t n) {
    XXH64_update(hash.get(), data, n * sizeof(float));
    file.write(data, n * sizeof(float));
  };
  const bool dense = p.data.stride[0] == p.cols;
  const int64_t runs = dense ? 1 : p.rows;
  const auto length = static_cast<size_t>(dense ? p.rows * p.cols : p.cols);
  size_t filled = 0;
  for (int64_t r = 0; r < runs; ++r) {
    const float* run = p.data.f32() + r * p.data.stride[0];
    for (size_t at = 0; at < length;) {
      const size_t n = std::min(length - at, kChunk - filled);
      std::memcpy(buffer.data() + filled, run + at, n * sizeof(float));
      filled += n, at += n;
      if (filled == kChunk) put(buffer.data(), std::exchange(filled, 0));
    }
  }
  if (filled > 0) put(buffer.data(), filled);
  return XXH64_digest(hash.get());
}

// Old and new change places at once where the file system can; else the old one steps aside first.
void put_in_place(const std::string& temporary, const std::string& final,
                  const std::string& aside) {
  if (!fs::exists(fs::symlink_status(final))) {
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

std::map<std::string, StoredTensor> write_rank_file(const std::string& folder, int rank,
                                                    const std::vector<CheckpointPiece>& pieces) {
  std::vector<const CheckpointPiece*> chosen;
  std::vector<NamedTensor> header;
  for (const CheckpointPiece& p : pieces) {
    check_piece(p);
    if (p.rows <= 0 || p.cols <= 0) continue;
    chosen.push_back(&p);
    // A rank can hold several boxes of one tensor, so the box is part of the name within the file.
    header.push_back({fmt::format("{}@{},{}", p.name, p.row, p.col),
                      "F32",
                      {p.rows, p.cols},
                      nullptr,
                      p.rows * p.cols * 4});
  }
  std::vector<int64_t> offsets;
  AtomicFile file(folder + "/" + rank_file(rank));
  file.write(safetensors_header(header, {{"format", "pt"}}, &offsets));
  std::map<std::string, StoredTensor> stored;
  for (const CheckpointPiece& p :
       pieces) {  // empty tensors are named though nothing of them is written
    const auto& t = stored.try_emplace(p.name, StoredTensor{p.shape, {}}).first->second;
    FT_CHECK(t.shape == p.shape, "checkpoint: tensor {} is offered with two shapes", p.name);
  }
  std::vector<float> buffer(kChunk);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const CheckpointPiece& p = *chosen[i];
    FT_CHECK(file.position() == offsets[i],
             "checkpoint: tensor {} would be written at the wrong place", p.name);
    const uint64_t hash = write_box(file, p, buffer);
    stored[p.name].pieces.push_back(
        {rank_file(rank), offsets[i], p.row, p.col, p.rows, p.cols, hash});
  }
  file.commit();
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
            const std::vector<std::string>& pieces_of_ranks, const State& state) {
  detail::Manifest manifest{state, {}};
  for (const std::string& text : pieces_of_ranks) detail::merge_pieces(text, manifest.tensors);
  for (auto& [tensor, stored] : manifest.tensors) {
    detail::check_cover(tensor, stored);
    for (const detail::StoredPiece& p : stored.pieces)
      FT_CHECK(fs::is_regular_file(temporary + "/" + p.file),
               "{}/{}: rank 0 does not see what another rank wrote; run.directory must be a file "
               "system that all nodes share",
               temporary, p.file);
  }
  const std::string text = detail::manifest_text(manifest);
  write_text(temporary + "/manifest.json", text);
  write_text(temporary + "/COMPLETE", detail::hex(detail::text_hash(text)) + "\n");
  sync_path(temporary);
  const std::string aside = directory + "/.tmp-old-" + name;
  detail::put_in_place(temporary, directory + "/" + name, aside);
  sync_path(directory);
  std::error_code ignored;  // what the new one replaced; a leftover is never listed
  fs::remove_all(temporary, ignored);
  fs::remove_all(aside, ignored);
}

}  // namespace

void save_checkpoint(Group& group, const std::string& directory, const std::string& name,
                     const std::vector<CheckpointPiece>& pieces, const State& state) {
  check_name(name);
  const bool chief = group.rank() == 0;
  const std::string temporary = directory + "/.tmp-" + name;
  try {
    together(group, [&] {
      if (!chief) return;
      fs::create_directories(directory);
      fs::remove_all(temporary);  // a leftover of a killed run
      fs::create_directory(temporary);
    });
    std::string mine;
    together(group, [&] {
      mine = detail::pieces_text(detail::write_rank_file(temporary, group.rank(), pieces));
    });
    const std::vector<std::string> all = gather_text(group, mine);
    together(group, [&] {
      if (chief) finish(directory, name, temporary, all, state);
    });
  } catch (const SharedError&) {  // all ranks are here
    std::error_code ignored;
    if (chief) fs::remove_all(temporary, ignored);
    group.barrier().wait();
    throw;
  }
}

}  // namespace ft

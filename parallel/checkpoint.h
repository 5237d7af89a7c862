// Checkpoints: a directory that appears whole or not at all, readable by any layout. Format 1:
//   manifest.json              {format: 1, state: {name: text},
//                               tensors: {name: {dtype, shape,
//                                                pieces: [{file, offset, start, shape, xxh64}]}}}
//   rank-00000.safetensors ... the pieces of each rank, fp32
//   COMPLETE                   the hash of manifest.json, written last
// Order of saving: .tmp-NAME/ with data, manifest, COMPLETE, fsync of each and of the folder,
// rename, fsync of the parent.
#pragma once

#include "core/tensor.h"
#include "parallel/comm.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// A box of a named tensor that this rank holds and is to write (replicas are offered by one rank
// only). Tensors are seen as matrices [shape[0], product of the rest].
struct CheckpointPiece {
  std::string name;  // Hugging Face name, or optimizer.exp_avg.<name>, optimizer.exp_avg_sq.<name>
  std::vector<int64_t> shape;  // of the whole tensor
  int64_t row = 0, col = 0;    // where the box starts
  int64_t rows = 0, cols = 1;  // its size
  Tensor data;                 // host fp32 [rows, cols] or [rows], rows may be strided
};

using State = std::map<std::string, std::string>;  // "config", "step", "data", ...: texts

// Collective over `group`: all ranks offer their pieces; rank 0 writes the manifest and renames.
// Every rank throws the same ft::Error when any of them failed (disk full, ...), after the
// half-written directory was removed; older ones stay.
void save_checkpoint(Group& group, const std::string& directory, const std::string& name,
                     const std::vector<CheckpointPiece>& pieces, const State& state);

// A complete checkpoint, opened for reading. The constructor throws ft::Error naming what is
// missing or damaged (no COMPLETE, wrong manifest hash, missing or short file).
class Checkpoint {
 public:
  explicit Checkpoint(const std::string& path);
  ~Checkpoint();
  Checkpoint(Checkpoint&&) noexcept;
  const std::string& path() const;
  const State& state() const;
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  std::vector<int64_t> shape(const std::string& name) const;
  // Fills a box (host fp32, rows may be strided) of the tensor, checking each touched piece's
  // checksum once.
  void read(const std::string& name, int64_t row, int64_t col, const Tensor& out) const;
  // Re-reads every byte against its checksum; throws at the first fault.
  void verify() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The number at the end of a checkpoint's name: step-00000100 -> 100; -1 where there is none.
int64_t checkpoint_step(const std::string& path);
// Directories that carry a marker, oldest first; leftovers (.tmp-*) are never listed.
std::vector<std::string> list_checkpoints(const std::string& directory);
// The newest one that opens and verifies; each newer one that does not is reported through `warn`.
std::optional<std::string> newest_checkpoint(const std::string& directory,
                                             const std::function<void(const std::string&)>& warn);
// Rank 0 alone: removes all but the newest keep_last and those whose step is a multiple of
// keep_every (0 = none), and leftovers.
void retain_checkpoints(const std::string& directory, int64_t keep_last, int64_t keep_every);

}  // namespace ft

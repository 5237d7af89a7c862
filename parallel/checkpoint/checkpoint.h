// Checkpoints: a directory that appears whole or not at all, readable by any layout. Format 1:
//   manifest.json              {format: 1, state: {name: text},
//                               tensors: {name: {dtype, shape,
//                                                pieces: [{file, offset, start, shape, xxh64}]}},
//                               files: {name: {bytes, header_bytes, header_xxh64}}}
//   rank-00000.safetensors ... the pieces of each rank, fp32
//   COMPLETE                   the hash of manifest.json, written last
// Order of saving: .tmp-NAME/ with data, manifest, COMPLETE, fsync of each and of the folder,
// rename, fsync of the parent.
#pragma once

#include "core/check.h"
#include "parallel/comm/comm.h"

#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// A box of a named tensor that this rank holds and is to write (replicas are shared out among the
// ranks that hold them: share_of_pieces). Tensors are seen as matrices [shape[0], product of the rest].
struct CheckpointPiece {
  std::string name;  // Hugging Face name, or optimizer.exp_avg.<name>, optimizer.exp_avg_sq.<name>
  std::vector<int64_t> shape;  // of the whole tensor
  int64_t row = 0, col = 0;    // where the box starts
  int64_t rows = 0, cols = 1;  // its size
  // Its values: writes rows [row, row + rows) of the box to `to`, one after another. What a piece
  // costs is what this holds: a view nothing (Store::checkpoint_pieces), a copy its values.
  std::function<void(int64_t row, int64_t rows, float* to)> read;
};

// All values of a piece in order, some rows at a time, in a MiB or a row of memory: f(values, how
// many).
void each_part(const CheckpointPiece& piece, const std::function<void(const float*, size_t)>& f);

using State = std::map<std::string, std::string>;  // "config", "step", "data", ...: texts

// The share of rank `rank` of `ranks` that all hold the same pieces: about as many bytes as the
// others', cut at rows. A function of shapes and ranks alone.
std::vector<CheckpointPiece> share_of_pieces(const std::vector<CheckpointPiece>& pieces, int rank,
                                             int ranks);

// Thrown by a save that no room or time can mend: what is offered is no checkpoint.
class UnfitWeights : public SharedError {
 public:
  using SharedError::SharedError;
};

// One save of all ranks of a group, each stage once and in this order. In snapshot() and commit(),
// which are collective, every rank throws the same ft::Error when any of them failed (disk full,
// ...), after the half-written directory was removed; older ones stay, and another job may try again.
class SaveJob {
 public:
  // The save is to appear as directory/name. The group must outlive this.
  SaveJob(Group& group, std::string directory, std::string name);
  // Takes what is to be saved, this rank's pieces as they are now and the run's state. No value is
  // read: those of views may not change until write() is done, those of copies are the pieces' own.
  // What killed runs left half-written in `directory` is removed first: it may hold the room that
  // this save needs.
  void snapshot(std::vector<CheckpointPiece> pieces, State state);
  // Writes this rank's pieces, in bounded memory. Files alone: it asks no other rank, and no device
  // where `read` of the pieces asks none. Throws nothing; commit() tells what went wrong.
  void write() noexcept;
  // Once all ranks have written: rank 0 writes the manifest and renames. Throws UnfitWeights where
  // a rank offered a value that is no finite number.
  void commit();

 private:
  void undo_on_fault(const std::function<void()>& work);

  Group& group_;
  std::string directory_, name_, temporary_;
  std::vector<CheckpointPiece> pieces_;
  State state_;
  std::string stored_;        // what this rank has written, for rank 0
  std::string unfit_;         // what it may not write; empty: nothing
  std::exception_ptr fault_;  // of write()
};

// All of it, in the foreground.
void save_checkpoint(Group& group, const std::string& directory, const std::string& name,
                     std::vector<CheckpointPiece> pieces, State state);

// A complete checkpoint, opened for reading. The constructor throws ft::Error naming what is
// missing or damaged (no COMPLETE, wrong manifest hash, missing, short or long file).
class Checkpoint {
 public:
  explicit Checkpoint(const std::string& path);
  ~Checkpoint();
  Checkpoint(Checkpoint&&) noexcept;
  const std::string& path() const;
  const State& state() const;
  const std::string& text(const std::string& key) const;  // of the state; throws where it lacks it
  int64_t number(const std::string& key) const;           // the same, from 0 to 2^53
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  std::vector<int64_t> shape(const std::string& name) const;
  // Gives a box of the tensor in parts, as they lie in the files, checking the checksum of each
  // piece that it touches once. Parts that turn out to be damaged were given before that is thrown.
  struct Box {
    int64_t row = 0, col = 0;  // where it starts: in the tensor, or a part's in the box asked for
    int64_t rows = 0, cols = 0;
  };
  using Take = std::function<void(const Box& part, const float* values, int64_t pitch)>;
  void read(const std::string& name, const Box& box, const Take& take) const;
  // Re-reads every byte against its checksum; throws at the first fault. Several readers each take
  // the share `reader` of `readers`.
  void verify(int reader = 0, int readers = 1) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The step that a name says: step-00000100 -> 100; -1 where it is not "step-" and digits. Folders of
// other names are nobody's but the user's: they are not counted, listed or removed.
int64_t checkpoint_step(const std::string& path);

// All of these throw where the folder cannot be read; a folder that is not there holds none.
using Warn = std::function<void(const std::string&)>;
// Those of such names that carry a marker, oldest first by name.
std::vector<std::string> list_checkpoints(const std::string& directory);
// The newest one, by the step that its manifest says, that opens and verifies; each newer one that
// does not is reported through `warn`. None although `warn` was called: all are damaged.
std::optional<std::string> newest_checkpoint(const std::string& directory, const Warn& warn);
// The same for all ranks of a group, which share the reading; rank 0 alone warns.
std::optional<std::string> newest_checkpoint(Group& group, const std::string& directory,
                                             const Warn& warn);
// Those whose manifest, or name where there is none to be read, says a later step.
std::vector<std::string> checkpoints_after(const std::string& directory, int64_t step);
// Rank 0 alone: removes all but the newest keep_last and those whose step is a multiple of
// keep_every (0 = none), and leftovers. Those whose manifest cannot be read or says another step
// than the name are neither counted nor removed, and reported. Gives what was removed.
std::vector<std::string> retain_checkpoints(const std::string& directory, int64_t keep_last,
                                            int64_t keep_every, const Warn& warn = {});
// Removes what killed runs left half-written or half-removed; what stepped aside for a new one that
// never came is put back. For the one run that writes there.
void clear_leftovers(const std::string& directory);

}  // namespace ft

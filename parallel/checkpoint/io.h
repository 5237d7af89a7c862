// Inside of checkpoints: the manifest as structs, its text and its checks (manifest.cpp). Used by this
// folder alone.
#pragma once

#include "parallel/checkpoint/checkpoint.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ft::detail {

inline constexpr int kCheckpointFormat = 1;

// A box of a tensor and where it lies.
struct StoredPiece {
  std::string file;
  int64_t offset = 0;
  int64_t row = 0, col = 0, rows = 0, cols = 0;
  uint64_t hash = 0;  // xxHash64, seed 0, of its bytes
  int64_t bytes() const { return rows * cols * 4; }
};

struct StoredTensor {
  std::vector<int64_t> shape;
  std::vector<StoredPiece> pieces;
};

// What a rank's file holds beside boxes: with the boxes' checksums every byte of it is known.
struct StoredFile {
  int64_t bytes = 0;   // of the whole file
  int64_t header = 0;  // bytes before the first box
  uint64_t header_hash = 0;
};

// What lies in the files: of one rank, or of all.
struct Stored {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, StoredFile>
      files;  // none in checkpoints of programs that kept no such list
};

struct Manifest {
  State state;
  Stored stored;
};

// Shape as a matrix [shape[0], product of the rest]; throws where it is negative or beyond 2^60
// elements.
struct MatrixShape {
  int64_t rows = 1, cols = 1;
};
MatrixShape as_matrix(const std::string& name, const std::vector<int64_t>& shape);

// Every box lies in its tensor, none overlaps another, and together they are the tensor.
void check_cover(const std::string& name, StoredTensor& tensor);

std::string rank_file(int rank);           // "rank-00003.safetensors"
bool is_rank_file(std::string_view name);  // that form and nothing else: no folders, no ..
uint64_t text_hash(std::string_view text);
std::string hex(uint64_t value);  // 16 digits

std::string manifest_text(const Manifest& manifest);
Manifest parse_manifest(const std::string& path, const std::string& text);  // throws naming path
// The manifest of a folder, once COMPLETE agrees with it; throws naming what is missing or damaged.
Manifest read_manifest(const std::string& folder);
std::string stored_text(const Stored& stored);  // what a rank hands to rank 0
void merge_stored(const std::string& text, Stored& into);

// A whole number of the state; throws naming folder, key and value where it is none.
int64_t state_number(const std::string& folder, const State& state, const std::string& key);

// What must hold of pieces before anything is written: they lie in their tensors.
void check_places(const std::vector<CheckpointPiece>& pieces);

// Values that are no finite numbers, counted while pieces are written.
class Unfit {
 public:
  void look(const float* values, size_t n);  // at the next ones of a piece
  void end_of(const CheckpointPiece& piece);
  std::string text() const;  // empty: there were none

 private:
  int64_t bad_ = 0;      // of this piece
  int64_t tensors_ = 0;  // with bad ones
  std::string first_;
};

// Writes one rank's file into `folder`, none where the rank has nothing to write, and tells where
// each box lies in it. Where values are unfit there is no file, and it says so in `unfit`.
Stored write_rank_file(const std::string& folder, int rank,
                       const std::vector<CheckpointPiece>& pieces, std::string& unfit);

inline constexpr std::string_view kLeftover = ".tmp-";      // begins the names of unfinished things
inline constexpr std::string_view kReplaced = ".tmp-old-";  // of what steps aside for a moment

}  // namespace ft::detail

// Inside of checkpoints: the manifest as structs, its text and its checks. Used by checkpoint*.cpp
// alone.
#pragma once

#include "parallel/checkpoint.h"

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

struct Manifest {
  State state;
  std::map<std::string, StoredTensor> tensors;
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
std::string pieces_text(
    const std::map<std::string, StoredTensor>& tensors);  // what a rank hands to rank 0
void merge_pieces(const std::string& text, std::map<std::string, StoredTensor>& into);

// Writes one rank's file into `folder` and tells where each box lies in it.
std::map<std::string, StoredTensor> write_rank_file(const std::string& folder, int rank,
                                                    const std::vector<CheckpointPiece>& pieces);

}  // namespace ft::detail

// Checkpoints of two small tensors for the tests: made by all ranks, read back, damaged.
#pragma once

#include "core/check.h"
#include "core/file.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/io.h"
#include "tests/catch.h"
#include "tests/read_box.h"
#include "tests/world.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace ft::test {

namespace fs = std::filesystem;

inline constexpr int64_t kRows = 37, kCols = 29, kOther = 11;

// A folder that all ranks share; rank 0 removes it.
struct Folder {
  std::string path;
  Folder() {
    static int count = 0;
    path = broadcast_text(test::world().all(),
                          fmt::format("{}/ft-checkpoint-{}-{}", fs::temp_directory_path().string(),
                                      getpid(), count++),
                          0);
  }
  ~Folder() {
    test::world().all().barrier().wait();
    std::error_code ignored;
    if (test::world().all().rank() == 0) fs::remove_all(path, ignored);
  }
};

inline float element(int64_t r, int64_t c) { return static_cast<float>(r * 1000 + c) + 0.25f; }

// A piece's way to rows of `cols` values that lie `pitch` apart.
inline auto rows_of(const float* from, int64_t cols, int64_t pitch) {
  return [=](int64_t row, int64_t rows, float* to) {
    for (int64_t r = row; r < row + rows; ++r, to += cols) std::copy_n(from + r * pitch, cols, to);
  };
}

// Rows of "matrix" shared out over the ranks, each rank's in two boxes cut at column 10 that lie in
// a wider storage.
struct Offer {
  std::vector<float> storage, vector;
  std::vector<CheckpointPiece> pieces;
  explicit Offer(const Group& group, float add = 0) {
    const int64_t begin = kRows * group.rank() / group.size(),
                  end = kRows * (group.rank() + 1) / group.size();
    const int64_t rows = end - begin, wide = kCols + 5;
    storage.assign(static_cast<size_t>(rows * wide), -1.f);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < kCols; ++c)
        storage[static_cast<size_t>(r * wide + c + 2)] = element(begin + r, c) + add;
    pieces.push_back({"matrix",
                      {kRows, kCols},
                      begin,
                      10,
                      rows,
                      kCols - 10,
                      rows_of(storage.data() + 12, kCols - 10, wide)});
    pieces.push_back(
        {"matrix", {kRows, kCols}, begin, 0, rows, 10, rows_of(storage.data() + 2, 10, wide)});
    if (group.rank() == group.size() - 1) {
      for (int64_t i = 0; i < kOther; ++i) vector.push_back(static_cast<float>(i) + add);
      pieces.push_back({"vector", {kOther}, 0, 0, kOther, 1, rows_of(vector.data(), 1, 1)});
    }
  }
};

inline void save(const std::string& folder, const std::string& name, float add = 0,
                 const State& state = {{"step", "1"}}) {
  Group& all = test::world().all();
  const Offer offer(all, add);
  save_checkpoint(all, folder, name, offer.pieces, state);
}

inline void save_step(const std::string& folder, const std::string& name, int64_t step) {
  save(folder, name, 0, {{"step", std::to_string(step)}});
}

inline bool whole(const Checkpoint& c, float add = 0) {
  std::vector<float> matrix(kRows * kCols), vector(kOther);
  read_box(c, "matrix", {0, 0, kRows, kCols}, matrix.data());
  read_box(c, "vector", {0, 0, kOther, 1}, vector.data());
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t col = 0; col < kCols; ++col)
      if (matrix[static_cast<size_t>(r * kCols + col)] != element(r, col) + add) return false;
  for (int64_t i = 0; i < kOther; ++i)
    if (vector[static_cast<size_t>(i)] != static_cast<float>(i) + add) return false;
  return true;
}

// One rank's damage, seen by all.
template <class Work>
void on_one_rank(const Work& work) {
  Group& all = test::world().all();
  all.barrier().wait();
  if (all.rank() == 0) work();
  all.barrier().wait();
}

inline void flip(const std::string& path, int64_t from_end) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-from_end, std::ios::end);
  const char c = static_cast<char>(file.get());
  file.seekp(-from_end, std::ios::end);
  file.put(static_cast<char>(c ^ 1));
}

inline void open_and_verify(const std::string& path) { Checkpoint(path).verify(); }

}  // namespace ft::test

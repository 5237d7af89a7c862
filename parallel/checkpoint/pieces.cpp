// What is offered to a checkpoint: who writes what, and whether it is fit to be kept.
#include "core/check.h"
#include "parallel/checkpoint/io.h"

#include <algorithm>
#include <bit>

namespace ft {

namespace {

// Rows [begin, end) of a piece.
CheckpointPiece rows_of(const CheckpointPiece& p, int64_t begin, int64_t end) {
  CheckpointPiece part = p;
  part.row += begin;
  part.rows = end - begin;
  part.read = [whole = p.read, begin](int64_t row, int64_t rows, float* to) {
    whole(begin + row, rows, to);
  };
  return part;
}

}  // namespace

void each_part(const CheckpointPiece& p, const std::function<void(const float*, size_t)>& f) {
  constexpr int64_t kPart = 1 << 18;  // values
  if (p.rows <= 0 || p.cols <= 0) return;
  const int64_t most = std::clamp<int64_t>(kPart / p.cols, 1, p.rows);
  std::vector<float> values(static_cast<size_t>(most * p.cols));
  for (int64_t r = 0; r < p.rows; r += most) {
    const int64_t rows = std::min(most, p.rows - r);
    p.read(r, rows, values.data());
    f(values.data(), static_cast<size_t>(rows * p.cols));
  }
}

std::vector<CheckpointPiece> share_of_pieces(const std::vector<CheckpointPiece>& pieces, int rank,
                                             int ranks) {
  const auto elements = [](const CheckpointPiece& p) {
    return p.rows > 0 && p.cols > 0 ? p.rows * p.cols : 0;
  };
  int64_t total = 0;
  for (const CheckpointPiece& p : pieces) total += elements(p);
  // In elements of all pieces, in their order. 128 bits: the product may be beyond 63.
  const auto border = [&](int r) {
    return static_cast<int64_t>(static_cast<__int128>(total) * r / ranks);
  };
  const int64_t from = border(rank), to = border(rank + 1);
  std::vector<CheckpointPiece> share;
  int64_t at = 0;  // where the piece begins
  for (const CheckpointPiece& p : pieces) {
    if (elements(p) == 0) {
      if (rank == 0) share.push_back(p);  // named though nothing of it is written
      continue;
    }
    // A row is the rank's in whose part it begins.
    const auto row_at = [&](int64_t place) {
      return std::clamp<int64_t>((place - at + p.cols - 1) / p.cols, 0, p.rows);
    };
    const int64_t begin = row_at(from), end = row_at(to);
    if (begin < end) share.push_back(begin == 0 && end == p.rows ? p : rows_of(p, begin, end));
    at += elements(p);
  }
  return share;
}

namespace detail {
namespace {

void check_place(const CheckpointPiece& p) {
  const MatrixShape whole = as_matrix(p.name, p.shape);
  FT_CHECK(p.row >= 0 && p.col >= 0 && p.rows <= whole.rows && p.row <= whole.rows - p.rows &&
               p.cols <= whole.cols && p.col <= whole.cols - p.cols,
           "checkpoint: the piece of tensor {} at row {}, column {} with {} x {} elements lies "
           "outside of its {} x {}",
           p.name, p.row, p.col, p.rows, p.cols, whole.rows, whole.cols);
}

}  // namespace

void check_places(const std::vector<CheckpointPiece>& pieces) {
  for (const CheckpointPiece& p : pieces) check_place(p);
}

void Unfit::look(const float* values, size_t n) {
  constexpr uint32_t kExponent = 0x7f800000u;  // all ones: infinite or not a number
  for (size_t i = 0; i < n; ++i)
    bad_ += (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent;
}

void Unfit::end_of(const CheckpointPiece& p) {
  if (bad_ > 0 && tensors_++ == 0)
    first_ = fmt::format("{} of {} values of {} (rows {} to {})", bad_, p.rows * p.cols, p.name,
                         p.row, p.row + p.rows);
  bad_ = 0;
}

std::string Unfit::text() const {
  if (tensors_ == 0) return "";
  return fmt::format(
      "{}{} are infinite or no number: such weights are not kept. Go on from an older checkpoint "
      "with a smaller optimizer.lr, or with guard.non_finite: stop",
      first_, tensors_ > 1 ? fmt::format(" and some of {} more tensors", tensors_ - 1) : "");
}

}  // namespace detail
}  // namespace ft

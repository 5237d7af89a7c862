#include "parallel/store.h"

#include "core/heartbeat.h"
#include "parallel/collectives.h"

#include <algorithm>

namespace ft {

namespace {

constexpr int64_t kAlign = 64;  // elements: where a parameter begins in a buffer
int64_t aligned(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

Tensor slice(const Tensor& flat, int64_t at, const Param& p) {
  const Tensor part = flat.row_range(at, at + p.size());
  return p.vector() ? part : part.view({p.rows, p.cols});
}

// Of a piece of a parameter that lies at `offset`, its copy at `copy_offset`.
ops::Segment segment_of(const Param& p, const Piece& piece, int64_t offset, int64_t copy_offset) {
  const int64_t begin = piece.row * p.cols + piece.col;
  const bool whole_rows = piece.cols == p.cols;
  return {.offset = offset + begin,
          .copy_offset = copy_offset < 0 ? -1 : copy_offset + begin,
          .rows = whole_rows ? 1 : piece.rows,
          .cols = whole_rows ? piece.size() : piece.cols,
          .stride = whole_rows ? piece.size() : p.cols};
}

}  // namespace

Store::Store(const std::function<void(const std::function<void(Param&)>&)>& visit) {
  visit([&](Param& p) { params_.push_back(&p); });
}

// The last visited is the first whose gradient backward finishes.
void Store::lay_out(bool mixed) {
  places_.resize(params_.size());
  for (size_t i = params_.size(); i-- > 0;) {
    const Param& p = *params_[i];
    const bool copied = mixed && !p.always_fp32;
    places_[i] = {size_, copied ? copies_size_ : -1};
    size_ += aligned(p.size());
    if (copied) copies_size_ += aligned(p.size());
  }
  int64_t run = 0;
  for (size_t i = 0; i < params_.size(); ++i)
    for (const Piece& piece : params_[i]->pieces) {
      ops::Segment segment = segment_of(*params_[i], piece, places_[i].offset, places_[i].copy);
      segment.first_run = run;
      run += segment.runs();
      table_.push_back(segment);
    }
}

void Store::bind(Memory& memory, Precision precision, bool training) {
  const bool mixed = precision.compute != Dtype::F32;
  lay_out(mixed);
  Buffers& b = buffers_;
  b.master = memory.make(mixed ? "master weights" : "weights", Dtype::F32, {size_});
  if (mixed) b.copies = memory.make("weights", precision.compute, {copies_size_});
  if (training) {
    b.gradients = memory.make("gradients", Dtype::F32, {size_});
    b.exp_avg = memory.make("optimizer", Dtype::F32, {size_});
    b.exp_avg_sq = memory.make("optimizer", Dtype::F32, {size_});
  }
  for (size_t i = 0; i < params_.size(); ++i) {
    Param& p = *params_[i];
    const auto [offset, copy] = places_[i];
    p.master = slice(b.master, offset, p);
    p.value = copy < 0 ? p.master : slice(b.copies, copy, p);
    if (!training) continue;
    p.grad = slice(b.gradients, offset, p);
    p.exp_avg = slice(b.exp_avg, offset, p);
    p.exp_avg_sq = slice(b.exp_avg_sq, offset, p);
  }
  const auto bytes = static_cast<int64_t>(table_.size() * sizeof(ops::Segment));
  device_table_ = memory.make("inputs", Dtype::U8, {bytes});
  transfer_ = &memory.transfer(), virtual_ = memory.is_virtual();
  write_segments();
}

ops::Segments Store::segments() const {
  ops::Segments all{.table = device_table_, .count = static_cast<int64_t>(table_.size())};
  for (const ops::Segment& segment : table_)
    all.runs += segment.runs(), all.elements += segment.size();
  return all;
}

void Store::write_segments() {
  if (!transfer_ || virtual_) return;
  size_t i = 0;
  for_pieces([&](Param&, Piece& piece) {
    table_[i].lr_multiplier = piece.lr_multiplier;
    table_[i++].weight_decay = piece.weight_decay.value_or(0);
  });
  transfer_->upload(device_table_, reinterpret_cast<const uint8_t*>(table_.data()));
}

void Store::for_pieces(const std::function<void(Param&, Piece&)>& f) const {
  for (Param* p : params_)
    for (Piece& piece : p->pieces) f(*p, piece);
}

int64_t Store::parameters() const {
  int64_t n = 0;
  for_pieces([&](Param&, Piece& piece) { n += piece.size(); });
  return n;
}

void Store::load(const ReadRow& read, int threads) {
  for_pieces([&](Param& p, Piece& piece) {
    beat();
    transfer_->fill(
        box(p.master, piece), [&](int64_t row, float* to) { read(piece, row, to); }, threads);
  });
}

namespace {

void read_piece(const Checkpoint& checkpoint, const std::string& name, const Piece& piece,
                const Tensor& to, Transfer& transfer) {
  checkpoint.read(name, {piece.tensor_row, piece.tensor_col, piece.rows, piece.cols},
                  [&](const Checkpoint::Box& part, const float* values, int64_t pitch) {
                    const Tensor rows = to.row_range(part.row, part.row + part.rows);
                    transfer.upload(
                        rows.dims > 1 ? rows.columns(part.col, part.col + part.cols) : rows, values,
                        pitch);
                  });
}

}  // namespace

void Store::load(const Checkpoint& checkpoint) {
  for_pieces([&](Param& p, Piece& piece) {
    FT_CHECK(checkpoint.contains(piece.name) && checkpoint.shape(piece.name) == piece.shape,
             "{}: tensor {} is missing or has another shape than the model's configuration",
             checkpoint.path(), piece.name);
    read_piece(checkpoint, piece.name, piece, box(p.master, piece), *transfer_);
  });
}

void Store::load_optimizer(const Checkpoint& checkpoint) {
  for_pieces([&](Param& p, Piece& piece) {
    const auto read = [&](const char* moment, const Tensor& storage) {
      read_piece(checkpoint, moment + piece.name, piece, box(storage, piece), *transfer_);
    };
    read("optimizer.exp_avg.", p.exp_avg), read("optimizer.exp_avg_sq.", p.exp_avg_sq);
  });
}

void Store::refresh_copies(Ctx& c) {
  if (!buffers_.copies.dims) return;
  c(ops::ComputeCopies{.copies = buffers_.copies, .w = buffers_.master, .segments = segments()});
}

void Store::reduce_gradients(Ctx& c, Group& data) {
  c.where = "gradients over ranks";
  if (data.size() > 1) c(ops::AllReduce{.data = buffers_.gradients, .group = data});
}

int64_t Store::reduction_bytes(int ranks) const {
  return ops::AllReduce::workspace(buffers_.gradients.size(), buffers_.gradients.dtype, ranks);
}

std::vector<CheckpointPiece> Store::checkpoint_pieces(bool with_optimizer) const {
  std::vector<CheckpointPiece> out;
  for_pieces([&](Param& p, Piece& piece) {
    const auto add = [&](const std::string& prefix, const Tensor& storage) {
      out.push_back({.name = prefix + piece.name,
                     .shape = piece.shape,
                     .row = piece.tensor_row,
                     .col = piece.tensor_col,
                     .rows = piece.rows,
                     .cols = piece.cols,
                     .read = [values = box(storage, piece), transfer = transfer_](
                                 int64_t row, int64_t rows, float* to) {
                       transfer->download(values.row_range(row, row + rows), to);
                     }});
    };
    add("", p.master);
    if (with_optimizer)
      add("optimizer.exp_avg.", p.exp_avg), add("optimizer.exp_avg_sq.", p.exp_avg_sq);
  });
  return out;
}

}  // namespace ft

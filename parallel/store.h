// The parameters of a model: their memory, and what moves it as a whole. Master weights, gradients
// and moments are flat buffers that are laid out alike, in the order in which backward finishes the
// gradients, so that what is ready lies together; a Param's tensors are views of them. The device has
// a table of all pieces (core/ops/optimizer.h), by which one op serves them all.
#pragma once

#include "core/context.h"
#include "core/memory.h"
#include "core/param.h"
#include "core/precision.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/comm/comm.h"

#include <functional>
#include <vector>

namespace ft {

class Store {
 public:
  // Collects the parameters that `visit` shows; they must outlive the store.
  explicit Store(const std::function<void(const std::function<void(Param&)>&)>& visit);

  // Memory for weights, and with `training` gradients and moments.
  void bind(Memory& memory, Precision precision, bool training);

  struct Buffers {
    Tensor master;  // f32; the weights themselves where compute is fp32
    Tensor copies;  // bf16, what ops read, of all that are not always fp32; absent where compute is
    Tensor gradients, exp_avg, exp_avg_sq;  // f32; absent without training
  };
  const Buffers& buffers() const { return buffers_; }
  Transfer& transfer() const { return *transfer_; }
  // One entry a piece, in the order of for_pieces.
  ops::Segments segments() const;
  // After a change of the pieces' learning-rate multipliers and weight decays: the table has them.
  void write_segments();

  // Values from elsewhere: f(piece, row, to) writes a row of the piece's box.
  using ReadRow = std::function<void(const Piece& piece, int64_t row, float* to)>;
  void load(const ReadRow& read, int threads = 1);  // who may call it at once
  void load(const Checkpoint& checkpoint);          // weights
  void load_optimizer(const Checkpoint& checkpoint);
  void refresh_copies(Ctx& c);  // compute copies from master weights

  // Gradients summed over the data-parallel ranks, in rank order.
  void reduce_gradients(Ctx& c, Group& data);
  int64_t reduction_bytes(int ranks) const;  // that the group takes for it, and keeps

  // What a checkpoint holds; data-parallel ranks, which hold the same, share it out.
  std::vector<CheckpointPiece> checkpoint_pieces(bool with_optimizer) const;
  void for_pieces(const std::function<void(Param&, Piece&)>& f) const;
  int64_t parameters() const;  // elements, padding left out

 private:
  struct Place {
    int64_t offset, copy;  // where a parameter begins in the buffers; -1: it has no copy
  };
  void lay_out(bool mixed);

  std::vector<Param*> params_;
  std::vector<Place> places_;  // of each parameter
  Buffers buffers_;
  std::vector<ops::Segment> table_;  // as the device's
  Tensor device_table_;
  int64_t size_ = 0, copies_size_ = 0;  // elements of the buffers, padding included
  Transfer* transfer_ = nullptr;        // null: nothing is bound yet
  bool virtual_ = false;
};

}  // namespace ft

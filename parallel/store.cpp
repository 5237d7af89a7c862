#include "parallel/store.h"

#include "core/rng.h"

#include <algorithm>
#include <cmath>

namespace ft {

namespace {

constexpr int64_t kAlign = 32;                 // elements between parameters in a flat buffer
constexpr int64_t kBucket = int64_t{1} << 22;  // elements reduced at once over ranks
int64_t aligned(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

Tensor slice(const Tensor& flat, int64_t at, const Param& p) {
  const Tensor part = flat.row_range(at, at + p.size());
  return p.vector() ? part : part.view({p.rows, p.cols});
}

double starting_value(const Init& init, uint64_t seed, uint64_t stream, int64_t index,
                      int64_t row) {
  const auto i = static_cast<uint64_t>(index);
  const auto uniform = [&] { return random_uniform(seed, Purpose::Init, stream, i); };
  switch (init.kind) {
    case Init::Kind::Zero:
      return 0;
    case Init::Kind::One:
      return 1;
    case Init::Kind::Normal:
      return init.a * random_normal(seed, Purpose::Init, stream, i);
    case Init::Kind::Uniform:
      return init.a + (init.b - init.a) * uniform();
    case Init::Kind::LogRange:
      return std::log(1.0 + static_cast<double>(row));
    case Init::Kind::LogUniform:
      return std::log(init.a + (init.b - init.a) * uniform());
    case Init::Kind::DtBias: {  // inverse softplus of a log-uniform step
      const double dt =
          std::max(std::exp(std::log(init.a) + (std::log(init.b) - std::log(init.a)) * uniform()),
                   init.floor);
      return dt + std::log(-std::expm1(-dt));
    }
  }
  throw Error("unknown initialisation");
}

}  // namespace

bool matches(const std::string& pattern, const std::string& text) {
  size_t p = 0, t = 0, star = std::string::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
      ++p, ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++, mark = t;
    } else if (star != std::string::npos) {
      p = star + 1, t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

Store::Store(const std::function<void(const std::function<void(Param&)>&)>& visit) {
  visit([&](Param& p) { params_.push_back(&p); });
}

void Store::bind(Memory& memory, Precision precision, bool training) {
  device_ = &memory.device(), transfer_ = &memory.transfer();
  training_ = training;
  int64_t total = 0, low = 0;
  const bool mixed = precision.compute != Dtype::F32;
  for (const Param* p : params_) {
    total += aligned(p->size());
    if (mixed && !p->always_fp32) low += aligned(p->size());
  }
  const Tensor master = memory.make(mixed ? "master weights" : "weights", Dtype::F32, {total});
  const Tensor compute = mixed ? memory.make("weights", precision.compute, {low}) : master;
  Tensor m, v;
  if (training) {
    grads_ = memory.make("gradients", Dtype::F32, {total});
    m = memory.make("optimizer", Dtype::F32, {total});
    v = memory.make("optimizer", Dtype::F32, {total});
  }
  int64_t at = 0, low_at = 0;
  for (Param* p : params_) {
    p->master = slice(master, at, *p);
    p->value = p->master;
    if (mixed && !p->always_fp32) {
      p->value = slice(compute, low_at, *p);
      low_at += aligned(p->size());
    }
    if (training) {
      p->grad = slice(grads_, at, *p);
      p->exp_avg = slice(m, at, *p);
      p->exp_avg_sq = slice(v, at, *p);
    }
    at += aligned(p->size());
  }
  scalars_ = memory.make("inputs", Dtype::F32, {4});
  grad_squares_ = memory.make("inputs", Dtype::F64, {1});
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

void Store::set_groups(const std::vector<PieceGroup>& groups, double weight_decay) {
  for_pieces([&](Param&, Piece& piece) {
    piece.lr_multiplier = 1;
    piece.weight_decay = piece.decay ? static_cast<float>(weight_decay) : 0.0f;
  });
  for (const PieceGroup& group : groups) {
    int64_t hits = 0;
    for_pieces([&](Param&, Piece& piece) {
      const bool named = group.match.empty() || matches(group.match, piece.label()) ||
                         matches(group.match, piece.name);
      if (!named ||
          (!group.parameters.empty() && !matches(group.parameters, parameter_class(piece))))
        return;
      ++hits;
      if (group.lr_multiplier) piece.lr_multiplier = static_cast<float>(*group.lr_multiplier);
      if (group.weight_decay) piece.weight_decay = static_cast<float>(*group.weight_decay);
    });
    FT_CHECK_CONFIG(hits > 0,
                    "optimizer.groups: match \"{}\" with class \"{}\" finds no parameter of this "
                    "model. Names look like model.layers.0.mamba.dt_bias or "
                    "model.layers.0.mamba.in_proj.weight[dt], * stands for any text; classes: {}",
                    group.match, group.parameters, fmt::join(parameter_classes(), ", "));
  }
}

void Store::initialise(uint64_t seed) {
  load([&](const Piece& piece, int64_t r, float* to) {
    const uint64_t stream = name_hash(piece.name.data(), piece.name.size()) >> 8;
    const int64_t width = piece.shape.size() > 1 ? piece.shape[piece.shape.size() - 1] : 1;
    for (int64_t i = 0; i < piece.cols; ++i) {
      const int64_t row = piece.tensor_row + r, col = piece.tensor_col + i;
      to[i] = static_cast<float>(starting_value(piece.init, seed, stream, row * width + col, row));
    }
  });
}

void Store::load(const ReadRow& read) {
  for_pieces([&](Param& p, Piece& piece) {
    transfer_->fill(box(p.master, piece), [&](int64_t row, float* to) { read(piece, row, to); });
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

void Store::refresh_compute(Ctx& c) {
  for (const Param* p : params_)
    if (p->value.data != p->master.data || p->value.dtype != p->master.dtype)
      c(ops::Copy{.y = p->value, .x = p->master});
}

// In buckets, one under way while the next starts: what a group needs for its parts stays small.
void Store::reduce_gradients(Group& data) {
  if (data.size() == 1) return;
  const HostAccess access(*device_);  // MPI reads and writes them until the last request is done
  const int64_t n = grads_.size();
  Request before;
  for (int64_t begin = 0; begin < n; begin += kBucket) {
    Request next =
        data.all_reduce(grads_.row_range(begin, std::min(n, begin + kBucket)), Reduce::Sum);
    before.wait();
    before = std::move(next);
  }
  before.wait();
}

// Of each bucket that is under way, the ranks' parts of this rank's slice.
int64_t Store::reduction_bytes(int ranks) const {
  if (ranks == 1) return 0;
  const int64_t n = grads_.size(), first = std::min(n, kBucket),
                second = std::min(n - first, kBucket);
  const auto parts = [&](int64_t count) { return (count + ranks - 1) / ranks * ranks; };
  return (parts(first) + parts(second)) * size_of(Dtype::F32);
}

void Store::gradient_norm(Ctx& c) {
  c.where = "gradient norm";
  Grad grad = Grad::Overwrite;
  for (const Param* p : params_)
    for (const Piece& piece : p->pieces) {
      c(ops::Sum{.out = grad_squares_, .x = box(p->grad, piece), .squared = true, .grad = grad});
      grad = Grad::Accumulate;
    }
}

void Store::step(Ctx& c, const AdamSettings& a) {
  c.where = "optimizer";
  for (Param* p : params_)
    for (const Piece& piece : p->pieces) {
      const bool copy = p->value.dtype != Dtype::F32;
      c(ops::AdamW{.w = box(p->master, piece),
                   .m = box(p->exp_avg, piece),
                   .v = box(p->exp_avg_sq, piece),
                   .g = box(p->grad, piece),
                   .scalars = scalars_,
                   .compute = copy ? std::optional<Out>(box(p->value, piece)) : std::nullopt,
                   .lr_multiplier = piece.lr_multiplier,
                   .weight_decay = piece.weight_decay.value_or(0),
                   .beta1 = static_cast<float>(a.beta1),
                   .beta2 = static_cast<float>(a.beta2),
                   .eps = static_cast<float>(a.eps)});
    }
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

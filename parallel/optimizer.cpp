#include "parallel/optimizer.h"

#include <iterator>

namespace ft {

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

void set_groups(Store& store, const std::vector<PieceGroup>& groups, double weight_decay) {
  store.for_pieces([&](Param&, Piece& piece) {
    piece.lr_multiplier = 1;
    piece.weight_decay = piece.decay ? static_cast<float>(weight_decay) : 0.0f;
  });
  for (const PieceGroup& group : groups) {
    int64_t hits = 0;
    store.for_pieces([&](Param&, Piece& piece) {
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
  store.write_segments();
}

Optimizer::Optimizer(Store& store, Memory& memory) : store_(store) {
  scalars_ = memory.make("inputs", Dtype::F64, {ops::kStepScalars});
  sum_squares_ = memory.make("inputs", Dtype::F64, {1});
  piece_squares_ = memory.make("inputs", Dtype::F64, {store.segments().count});
}

void Optimizer::set_count(int64_t updates) {
  const auto count = static_cast<double>(updates);
  store_.transfer().upload(scalars_.row_range(ops::kCount, ops::kCount + 1), &count);
}

void Optimizer::begin(const StepInputs& in) {
  const double values[] = {in.lr, in.weight_decay_factor, static_cast<double>(in.labels),
                           in.loss_bound};
  static_assert(std::size(values) == ops::kCount);
  store_.transfer().upload(scalars_.row_range(0, ops::kCount), values);
}

void Optimizer::gradient_norm(Ctx& c) {
  c.where = "gradient norm";
  c(ops::SumSquares{.squares = piece_squares_,
                    .x = store_.buffers().gradients,
                    .segments = store_.segments(),
                    .total = sum_squares_});
}

void Optimizer::verdict(Ctx& c, const Tensor& loss_sum, double max_norm) {
  c.where = "verdict";
  c(ops::StepVerdict{.scalars = scalars_,
                     .loss_sum = loss_sum,
                     .sum_squares = sum_squares_,
                     .max_norm = static_cast<float>(max_norm)});
}

void Optimizer::step(Ctx& c, const AdamSettings& a) {
  c.where = "optimizer";
  const Store::Buffers& b = store_.buffers();
  c(ops::AdamW{.w = b.master,
               .m = b.exp_avg,
               .v = b.exp_avg_sq,
               .g = b.gradients,
               .scalars = scalars_,
               .segments = store_.segments(),
               .copies = b.copies.dims ? std::optional<Out>(b.copies) : std::nullopt,
               .beta1 = static_cast<float>(a.beta1),
               .beta2 = static_cast<float>(a.beta2),
               .eps = static_cast<float>(a.eps)});
}

}  // namespace ft

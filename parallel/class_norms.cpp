#include "parallel/class_norms.h"

#include <algorithm>
#include <cmath>

namespace ft {

ClassNorms::ClassNorms(const Store& store, Memory& memory)
    : store_(store), device_(memory.device()) {
  std::map<std::string, bool> found;
  store.for_pieces([&](Param&, Piece& piece) { found[parameter_class(piece)] = true; });
  for (const std::string& name : parameter_classes())
    if (found.count(name)) classes_.push_back(name);
  squares_ = memory.make("inputs", Dtype::F64, {2, static_cast<int64_t>(classes_.size())});
}

void ClassNorms::compute(Ctx& c) {
  c.where = "norms by class";
  const auto count = static_cast<int64_t>(classes_.size());
  std::vector<Grad> grad(classes_.size(), Grad::Overwrite);
  const Tensor flat = squares_.view({2 * count});
  store_.for_pieces([&](Param& p, Piece& piece) {
    const auto at = std::find(classes_.begin(), classes_.end(), parameter_class(piece));
    const int64_t i = at - classes_.begin();
    Grad& how = grad[static_cast<size_t>(i)];
    c(ops::Sum{
        .out = flat.row_range(i, i + 1), .x = box(p.grad, piece), .squared = true, .grad = how});
    c(ops::Sum{.out = flat.row_range(count + i, count + i + 1),
               .x = box(p.master, piece),
               .squared = true,
               .grad = how});
    how = Grad::Accumulate;
  });
}

std::map<std::string, double> ClassNorms::read(int64_t row) const {
  std::vector<double> squares(classes_.size());
  device_.synchronize({});
  device_.copy(squares.data(), squares_.row_range(row, row + 1).data,
               squares.size() * sizeof(double), {});
  device_.synchronize({});
  std::map<std::string, double> norms;
  for (size_t i = 0; i < classes_.size(); ++i) norms[classes_[i]] = std::sqrt(squares[i]);
  return norms;
}

}  // namespace ft

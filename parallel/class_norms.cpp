#include "parallel/class_norms.h"

#include <cmath>

namespace ft {

ClassNorms::ClassNorms(const Store& store, Memory& memory) : store_(store) {
  store.for_pieces([&](Param&, Piece& piece) { classes_.push_back(parameter_class(piece)); });
  squares_ = memory.make("inputs", Dtype::F64, {store.segments().count});
}

void ClassNorms::compute(Ctx& c) {
  c.where = "norms by class";
  c(ops::SumSquares{
      .squares = squares_, .x = store_.buffers().master, .segments = store_.segments()});
}

std::map<std::string, double> ClassNorms::norms(const std::vector<double>& squares) const {
  std::map<std::string, double> norms;
  for (size_t i = 0; i < classes_.size(); ++i) norms[classes_[i]] += squares[i];
  for (auto& [name, norm] : norms) norm = std::sqrt(norm);
  return norms;
}

}  // namespace ft

// Euclidean norms of gradients and weights by class of parameters (core/param.h): which part
// of a model grows.
#pragma once

#include "core/context.h"
#include "core/memory.h"
#include "parallel/store.h"

#include <map>
#include <string>
#include <vector>

namespace ft {

class ClassNorms {
 public:
  // The store must outlive this. Takes 8 bytes a piece on the device.
  ClassNorms(const Store& store, Memory& memory);

  // Of the master weights as they are. Reads every parameter once, in a fixed order; changes none.
  void compute(Ctx& c);
  // What the last compute() found: sums of squares by piece, [pieces] f64 on the device.
  Tensor squares() const { return squares_; }
  // Such sums, read from the device, as norms by class; only classes that the model has.
  std::map<std::string, double> norms(const std::vector<double>& squares) const;

 private:
  const Store& store_;
  std::vector<std::string> classes_;  // of each piece
  Tensor squares_;
};

}  // namespace ft

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
  // The store must outlive this. Takes 16 bytes a class on the device.
  ClassNorms(const Store& store, Memory& memory);

  // Of the gradients as they are (reduced over ranks, not clipped) and of the master weights. Reads
  // every parameter once, in a fixed order; changes none.
  void compute(Ctx& c);
  // What the last compute() found, by class; only classes that the model has.
  std::map<std::string, double> gradients() const { return read(0); }
  std::map<std::string, double> weights() const { return read(1); }

 private:
  std::map<std::string, double> read(int64_t row) const;

  const Store& store_;
  Device& device_;
  std::vector<std::string> classes_;
  Tensor squares_;  // [2, classes] f64: gradients, weights
};

}  // namespace ft

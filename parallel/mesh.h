// Where a rank sits: rank = ((pp * DP + dp) * CP + cp) * TP + tp, tensor innermost (Megatron's
// order).
#pragma once

#include "parallel/comm/comm.h"

#include <memory>

namespace ft {

struct Mesh {
  int tensor = 1, context = 1, data_size = 1, pipeline = 1;  // sizes
  int tp = 0, cp = 0, dp = 0, pp = 0;                        // my coordinates
  std::unique_ptr<Group> data;                               // ranks that differ in dp alone

  // Collective. Throws ConfigError where the ranks do not divide.
  static Mesh build(World& world, int tensor, int pipeline, int context);
};

}  // namespace ft

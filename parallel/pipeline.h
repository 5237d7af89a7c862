// Pipeline schedules as data: what a stage does, in order. Pure functions, tested without ranks.
#pragma once

#include <cstdint>
#include <vector>

namespace ft {

struct Action {
  enum Kind : uint8_t {
    ReceiveActivations,
    Forward,
    SendActivations,
    ReceiveGradients,
    Backward,
    SendGradients
  };
  Kind kind;
  int micro;  // micro-batch
};

// One forward, one backward (Narayanan et al. 2021). One stage gives F0 B0 F1 B1 ...: gradient
// accumulation.
std::vector<Action> one_f_one_b(int stages, int stage, int micro_batches);

}  // namespace ft

#include "parallel/pipeline.h"

#include <algorithm>

namespace ft {

std::vector<Action> one_f_one_b(int stages, int stage, int micro_batches) {
  std::vector<Action> actions;
  const bool first = stage == 0, last = stage == stages - 1;
  const auto forward = [&](int m) {
    if (!first) actions.push_back({Action::ReceiveActivations, m});
    actions.push_back({Action::Forward, m});
    if (!last) actions.push_back({Action::SendActivations, m});
  };
  const auto backward = [&](int m) {
    if (!last) actions.push_back({Action::ReceiveGradients, m});
    actions.push_back({Action::Backward, m});
    if (!first) actions.push_back({Action::SendGradients, m});
  };
  const int warm = std::min(stages - 1 - stage, micro_batches);
  for (int m = 0; m < warm; ++m) forward(m);
  for (int m = warm; m < micro_batches; ++m) {
    forward(m);
    backward(m - warm);
  }
  for (int m = micro_batches - warm; m < micro_batches; ++m) backward(m);
  return actions;
}

}  // namespace ft

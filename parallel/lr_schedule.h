// The learning rate's factor as a pure function of the tokens seen.
#pragma once

#include <string>

namespace ft {

struct LrSchedule {
  std::string type = "cosine";              // constant | linear | cosine | wsd
  double warmup = 0, decay = 0, total = 0;  // tokens
  double final_ratio = 0.1;                 // factor at the end
  std::string decay_shape = "exponential";  // of wsd: exponential | linear | cosine
};

// tokens: seen at the end of the step that uses the factor.
double lr_factor(const LrSchedule& schedule, double tokens);

}  // namespace ft

#include "models/layers/norm.h"

#include "models/layers/declare.h"

namespace ft {

void Norm::declare(const std::string& name, int64_t width, double epsilon) {
  weight = vector_param(name, width, {Init::Kind::One}, {ParamClass::Norm, "norms"});
  eps = static_cast<float>(epsilon);
}

Norm::Saved Norm::saved(SlotBank& bank, const std::string& which, Dtype compute,
                        int64_t tokens) const {
  Saved s;
  s.y = bank.slot("h" + which, Fate::Cheap, compute, {tokens, weight.rows});
  s.rstd = bank.slot("rstd" + which, Fate::Cheap, Dtype::F32, {tokens});
  return s;
}

void Norm::forward(Ctx& c, const Saved& s, const Tensor& x) const {
  c(ops::RmsNorm{.in = {.x = x, .w = weight.value}, .y = s.y, .rstd = s.rstd, .eps = eps});
}

void Norm::backward(Ctx& c, const Tensor& rstd, const Tensor& x, const Tensor& dy, const Tensor& dx,
                    std::optional<In> residual) const {
  c(ops::RmsNormGrad{.in = {.x = x, .w = weight.value},
                     .rstd = rstd,
                     .dy = dy,
                     .dx = dx,
                     .dw = weight.grad,
                     .dresidual = residual,
                     .grad = c.grad});
}

}  // namespace ft

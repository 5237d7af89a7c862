#include "models/layers/mlp.h"

#include "models/layers/declare.h"

namespace ft {

void Mlp::declare(const std::string& name, int64_t hidden, Init init, bool bias) {
  const int64_t d = hidden, i = width;
  const auto role = [](ParamClass kind) { return Role{kind, "mlp"}; };
  gate_up.weight = {.rows = 2 * i, .cols = d};
  gate_up.weight.pieces = {
      matrix(name + "gate_proj.weight", 0, 0, i, d, init, Cut::Out, role(ParamClass::Gate)),
      matrix(name + "up_proj.weight", i, 0, i, d, init, Cut::Out, role(ParamClass::Up))};
  down.weight = {.rows = d, .cols = i};
  down.weight.pieces = {
      matrix(name + "down_proj.weight", 0, 0, d, i, init, Cut::In, role(ParamClass::Down))};
  if (!bias) return;
  const auto vector = [&](const char* which, int64_t size) {
    return vector_param(name + which + "_proj.bias", size, {}, role(ParamClass::Bias));
  };
  gate_up.biases.push_back({vector("gate", i), 0, 1});
  gate_up.biases.push_back({vector("up", i), i, 1});
  down.biases.push_back({vector("down", d), 0, down_scale});
}

Mlp::Saved Mlp::saved(SlotBank& bank, Dtype compute, int64_t tokens) const {
  Saved s;
  s.gate_up = bank.slot("gate_up", Fate::Block, compute, {tokens, 2 * width});
  s.act = bank.slot("act", Fate::Cheap, compute, {tokens, width});
  return s;
}

ops::SwiGluInputs Mlp::inputs(const Saved& s) const {
  return {.gate = s.gate_up.columns(0, width),
          .up = s.gate_up.columns(width, 2 * width),
          .gate_scale = gate_scale};
}

void Mlp::forward(Ctx& c, const Saved& s, const Tensor& h, const Slot& y,
                  const Tensor& residual) const {
  gate_up.forward(c, s.gate_up, h);
  c(ops::SwiGlu{.in = inputs(s), .y = s.act});
  down.forward(c, y, s.act, down_scale, residual);
}

Temp Mlp::backward(Ctx& c, const Saved& s, const Tensor& h, const Tensor& dy) const {
  const int64_t T = dy.rows(), i = width;
  const Temp dgate_up = c.temp(dy.dtype, {T, 2 * i});
  {
    const Temp dact = c.temp(dy.dtype, {T, i});
    down.backward_input(c, dact, dy, down_scale);
    down.backward_weight(c, dy, s.act, down_scale);
    c(ops::SwiGluGrad{.in = inputs(s),
                      .dy = dact,
                      .dgate = dgate_up.get().columns(0, i),
                      .dup = dgate_up.get().columns(i, 2 * i)});
  }
  Temp dh = c.temp(dy.dtype, {T, h.cols()});
  gate_up.backward_input(c, dh, dgate_up);
  gate_up.backward_weight(c, dgate_up, h);
  return dh;
}

}  // namespace ft

// Every argument of every op with a wrong dtype, rank, extent and stride: the gateway refuses it by
// layer, op and argument, whether it runs ops or counts them, and no kernel runs.
#include "parallel/collectives.h"
#include "tests/ops/case.h"

#include <algorithm>
#include <set>

using namespace ft;
using namespace ft::test;
using Catch::Contains;

namespace {

// An op that is well, of shapes alone: a kernel that ran would meet null pointers.
template <class Op>
struct Row {
  Op op;
  // Extents of these say what others have to be: where one of them is wrong, another is named.
  std::set<std::string> leads = {};
  std::set<std::pair<std::string, int>> free = {};  // extents that may be anything
};

// To be defined for each op of ops::All and each that talks; the linker names one that has none.
template <class Op>
Row<Op> row();

Tensor f32(std::initializer_list<int64_t> shape) { return {nullptr, Dtype::F32, shape}; }
Tensor f64(std::initializer_list<int64_t> shape) { return {nullptr, Dtype::F64, shape}; }
Tensor i32(std::initializer_list<int64_t> shape) { return {nullptr, Dtype::I32, shape}; }
Tensor act(std::initializer_list<int64_t> shape) { return {nullptr, Dtype::BF16, shape}; }

template <>
Row<ops::Gemm> row() {
  return {{.y = act({6, 5}), .a = act({6, 4}), .b = act({5, 4}), .residual = act({6, 5})},
          {"a", "b"}};
}
template <>
Row<ops::AddBias> row() {
  return {{.y = act({6, 8}), .bias = f32({8})}, {"y"}, {{"y", 0}}};
}
template <>
Row<ops::AddBiasGrad> row() {
  return {{.dbias = f32({8}), .dy = act({6, 8})}, {"dy"}, {{"dy", 0}}};
}
template <>
Row<ops::Embedding> row() {
  return {{.y = act({6, 8}), .ids = i32({6}), .weight = act({9, 8})}, {"y"}, {{"weight", 0}}};
}
template <>
Row<ops::EmbeddingGrad> row() {
  return {{.dweight = f32({9, 8}), .dy = act({6, 8}), .ids = i32({6})}, {"dy"}, {{"dweight", 0}}};
}
template <>
Row<ops::RmsNorm> row() {
  return {{.in = {.x = f32({6, 8}), .w = f32({8})}, .y = act({6, 8}), .rstd = f32({6})}, {"x"}};
}
template <>
Row<ops::RmsNormGrad> row() {
  return {{.in = {.x = f32({6, 8}), .w = f32({8})},
           .rstd = f32({6}),
           .dy = act({6, 8}),
           .dx = f32({6, 8}),
           .dw = f32({8}),
           .dresidual = f32({6, 8})},
          {"x"}};
}
ops::GatedNormInputs gated_norm() {
  return {.x = act({6, 8}), .z = act({6, 8}), .w = f32({8}), .groups = 2};
}
template <>
Row<ops::GatedNorm> row() {
  return {{.in = gated_norm(), .y = act({6, 8}), .rstd = f32({6, 2})}, {"x"}};
}
template <>
Row<ops::GatedNormGrad> row() {
  return {{.in = gated_norm(),
           .dy = act({6, 8}),
           .dx = act({6, 8}),
           .dz = act({6, 8}),
           .dw = f32({8}),
           .rstd = f32({6, 2})},
          {"x"}};
}
ops::Conv1dInputs conv1d() {
  return {.x = act({6, 8}),
          .w = f32({8, 4}),
          .docs = i32({6}),
          .bias = f32({8}),
          .history = act({6, 8}),
          .sections = {4, 2, 2},
          .sequences = 2};
}
template <>
Row<ops::Conv1d> row() {
  return {{.in = conv1d(), .y = act({6, 8})}, {"x", "w"}};
}
template <>
Row<ops::Conv1dGrad> row() {
  return {{.in = conv1d(),
           .dy = act({6, 8}),
           .dx = act({6, 8}),
           .dw = f32({8, 4}),
           .dbias = f32({8}),
           .dhistory = f32({6, 8})},
          {"x", "w"}};
}
// Two sequences of three tokens, four heads of two in two groups, a state of three, chunks of two.
ops::SsdInputs ssd() {
  return {.x = act({6, 8}),
          .b = act({6, 6}),
          .c = act({6, 6}),
          .dt = act({6, 4}),
          .dt_bias = f32({4}),
          .a_log = f32({4}),
          .d = f32({4}),
          .docs = i32({6}),
          .sequences = 2,
          .groups = 2,
          .state = 3,
          .chunk = 2};
}
template <>
Row<ops::Ssd> row() {
  return {{.in = ssd(),
           .y = act({6, 8}),
           .states = f32({4, 24}),
           .initial_state = f32({2, 24}),
           .final_state = f32({2, 24})},
          {"x", "a_log"}};
}
template <>
Row<ops::SsdGrad> row() {
  return {{.in = ssd(),
           .states = f32({4, 24}),
           .dy = act({6, 8}),
           .dx = act({6, 8}),
           .db = act({6, 6}),
           .dc = act({6, 6}),
           .ddt = act({6, 4}),
           .ddt_bias = f32({4}),
           .da_log = f32({4}),
           .dd = f32({4}),
           .dfinal_state = f32({2, 24}),
           .dinitial_state = f32({2, 24})},
          {"x", "a_log"}};
}
template <>
Row<ops::DtPeak> row() {
  return {{.peak = InOut(f32({1})), .dt = act({6, 4}), .dt_bias = f32({4})}, {"dt"}, {{"dt", 0}}};
}
template <>
Row<ops::RopeTable> row() {
  return {{.table = f32({9, 4})}, {"table"}, {{"table", 0}}};
}
template <>
Row<ops::Rope> row() {
  return {{.x = InOut(act({6, 8})), .table = f32({9, 4}), .docs = i32({6})},
          {"x", "table"},
          {{"table", 0}}};
}
ops::AttentionInputs attention() {
  return {.q = act({6, 8}),
          .k = act({10, 4}),
          .v = act({10, 4}),
          .docs = i32({6}),
          .heads = 4,
          .kv_heads = 2,
          .sequences = 2};
}
template <>
Row<ops::Attention> row() {
  return {{.in = attention(), .o = act({6, 8}), .lse = f32({4, 6})}, {"q", "k"}};
}
template <>
Row<ops::AttentionGrad> row() {
  return {{.in = attention(),
           .o = act({6, 8}),
           .lse = f32({4, 6}),
           .d_o = act({6, 8}),
           .dq = act({6, 8}),
           .dk = act({10, 4}),
           .dv = act({10, 4})},
          {"q", "k"}};
}
template <>
Row<ops::SwiGlu> row() {
  return {{.in = {.gate = act({6, 8}), .up = act({6, 8})}, .y = act({6, 8})}, {"gate"}};
}
template <>
Row<ops::SwiGluGrad> row() {
  return {{.in = {.gate = act({6, 8}), .up = act({6, 8})},
           .dy = act({6, 8}),
           .dgate = act({6, 8}),
           .dup = act({6, 8})},
          {"gate"}};
}
template <>
Row<ops::CrossEntropy> row() {
  return {{.loss = f32({6}),
           .z = f32({6}),
           .logits = InOut(act({6, 8})),
           .labels = i32({6}),
           .vocab = 7,
           .inv_count = f32({1})},
          {"logits"},
          {{"logits", 1}}};
}
template <>
Row<ops::Sum> row() {
  return {{.out = f64({1}), .x = act({6, 8})}, {}, {{"x", 0}, {"x", 1}}};
}
template <>
Row<ops::AbsMax> row() {
  return {{.out = f32({1}), .x = act({6, 8})}, {}, {{"x", 0}, {"x", 1}}};
}
template <>
Row<ops::SumByRow> row() {
  return {
      {.sums = InOut(f64({4})), .losses = f32({6}), .labels = i32({6}), .group_of_row = i32({3})},
      {"sums", "losses", "group_of_row"}};
}
ops::Segments segments() {
  const auto bytes = static_cast<int64_t>(2 * sizeof(ops::Segment));
  return {.table = Tensor(nullptr, Dtype::U8, {bytes}), .count = 2, .runs = 2, .elements = 40};
}
template <>
Row<ops::SumSquares> row() {
  return {{.squares = f64({2}), .x = f32({48}), .segments = segments(), .total = f64({1})},
          {},
          {{"x", 0}}};
}
template <>
Row<ops::ComputeCopies> row() {
  return {
      {.copies = act({48}), .w = f32({48}), .segments = segments()}, {}, {{"copies", 0}, {"w", 0}}};
}
template <>
Row<ops::StepVerdict> row() {
  return {
      {.scalars = InOut(f64({ops::kStepScalars})), .loss_sum = f64({1}), .sum_squares = f64({1})}};
}
template <>
Row<ops::AdamW> row() {
  return {{.w = InOut(f32({48})),
           .m = InOut(f32({48})),
           .v = InOut(f32({48})),
           .g = f32({48}),
           .scalars = f64({ops::kStepScalars}),
           .segments = segments(),
           .copies = act({48})},
          {"w"},
          {{"copies", 0}}};
}
template <>
Row<ops::Copy> row() {
  return {{.y = f64({6, 8}), .x = act({6, 8})}, {"x"}};
}
template <>
Row<ops::Add> row() {
  return {{.y = InOut(f32({6, 8})), .x = act({6, 8})}, {"x"}};
}
template <>
Row<ops::Fill> row() {
  return {{.y = i32({6, 8})}, {}, {{"y", 0}, {"y", 1}}};
}
template <>
Row<ops::AllReduce> row() {
  static const auto group = counted_group(2);
  return {{.data = InOut(f32({8})), .group = *group}, {}, {{"data", 0}}};
}

struct Kernels : Observer {
  int runs = 0;
  void before(const std::string&, const char*) override { ++runs; }
  void after(const std::string&, const char*, const std::vector<Seen>&, double, double) override {}
};

// What the gateway says of an op, the same whether it would run or count it.
template <class Op>
std::string refusal(const Op& op) {
  Bench& bench = Bench::now();
  std::string words[2];
  for (const bool execute : {false, true}) {
    Kernels kernels;
    Ctx c(*bench.device, bench.scratch, execute);
    c.observer = &kernels, c.where = "model.layers.3.";
    try {
      c(op);
    } catch (const Error& error) {
      words[execute] = error.what();
    }
    CHECK(kernels.runs == 0);
    CHECK(c.tally.ops == 0);
  }
  CHECK(words[0] == words[1]);
  return words[0];
}

template <class Op>
std::vector<std::pair<std::string, Tensor>> arguments(const Op& op) {
  std::vector<std::pair<std::string, Tensor>> all;
  op.args([&](const char* name, const auto& a) { all.emplace_back(name, a); });
  return all;
}

// The op with one argument changed by f.
template <class Op, class F>
Op with_changed(Op op, const std::string& argument, F&& f) {
  op.args([&](const char* name, const auto& a) {
    if (name == argument) f(const_cast<Tensor&>(static_cast<const Tensor&>(a)));  // op is ours
  });
  return op;
}

template <class Op>
void check_argument(const Row<Op>& row, const std::string& name, const Tensor& tensor) {
  INFO(Op::kName << "." << name);
  const std::string of_op = fmt::format("model.layers.3: {}: ", Op::kName), it = of_op + name;
  const auto refused = [&](auto&& change) {
    return refusal(with_changed(row.op, name, std::forward<decltype(change)>(change)));
  };
  CHECK_THAT(refused([](Tensor& t) { t.dtype = Dtype::I16; }), Contains(it + " is int16 ["));
  CHECK_THAT(refused([](Tensor& t) { t.dims = 3, t.shape[2] = t.stride[2] = 1; }),
             Contains(it + " is ") && Contains(", wanted "));
  if (tensor.shape[tensor.dims - 1] > 1)
    CHECK_THAT(refused([](Tensor& t) { t.stride[t.dims - 1] = 2; }), Contains(it + " has "));
  for (int d = 0; d < tensor.dims; ++d) {
    if (row.free.count({name, d})) continue;
    INFO("extent " << d);
    const std::string words = refused([&](Tensor& t) { ++t.shape[d]; });
    if (!row.leads.count(name)) CHECK_THAT(words, Contains(it + " is ") && Contains(", wanted "));
    else CHECK_THAT(words, Contains(of_op));
  }
}

template <class Op>
void check_row() {
  Bench& bench = Bench::now();
  const Row<Op> r = row<Op>();
  INFO(Op::kName);
  Ctx counting(*bench.device, bench.scratch, false);
  CHECK_NOTHROW(counting(r.op));
  CHECK(counting.tally.ops == 1);
  for (const auto& [name, tensor] : arguments(r.op)) check_argument(r, name, tensor);
}

}  // namespace

TEST_CASE("each op refuses each argument of another dtype or shape, by name", "[check]") {
  Bench bench(backends().front());
  ops::All::each([](auto type) { check_row<typename decltype(type)::type>(); });
  check_row<ops::AllReduce>();
}

TEST_CASE("the words of a refusal: layer, op, argument, what it holds and what is wanted",
          "[check]") {
  const Bench bench(backends().front());
  auto op = row<ops::Ssd>().op;
  op.in.b = f32({6, 7});
  CHECK(refusal(op) == "model.layers.3: ssd: b is fp32 [6, 7], wanted bf16 [6, 6]");
  auto rows = row<ops::Rope>().op;
  rows.x = InOut(i32({6, 8}));
  CHECK(refusal(rows) == "model.layers.3: rope: x is int32 [6, 8], wanted fp32 or bf16 [any, any]");
}

TEST_CASE("arguments that go together and numbers beside tensors are checked too", "[check]") {
  const Bench bench(backends().front());
  auto gate = row<ops::GatedNorm>().op;
  gate.rstd.reset();
  CHECK_THAT(refusal(gate), Contains("rstd is absent, wanted it with w"));
  gate = row<ops::GatedNorm>().op, gate.in.w.reset();
  CHECK_THAT(refusal(gate), Contains("rstd is there, wanted it only with w"));
  gate = row<ops::GatedNorm>().op, gate.in.groups = 3;
  CHECK_THAT(refusal(gate), Contains("8 channels are not 3 groups"));
  auto conv = row<ops::Conv1dGrad>().op;
  conv.dbias.reset();
  CHECK_THAT(refusal(conv), Contains("dbias is absent"));
  conv = row<ops::Conv1dGrad>().op, conv.in.sections = {8, 1, 0};
  CHECK_THAT(refusal(conv), Contains("sections 8 + 1 + 0"));
  for (const int64_t sequences : {0, 4}) {
    auto scan = row<ops::Ssd>().op;
    scan.in.sequences = sequences;
    CHECK_THAT(refusal(scan), Contains("6 tokens are not"));
  }
  auto scan = row<ops::Ssd>().op;
  scan.in.groups = 3;
  CHECK_THAT(refusal(scan), Contains("4 heads do not go into 3 groups"));
  scan = row<ops::Ssd>().op, scan.in.chunk = 0;
  CHECK_THAT(refusal(scan), Contains("chunks of 0 tokens"));
  auto attend = row<ops::Attention>().op;
  attend.in.kv_heads = 3;
  CHECK_THAT(refusal(attend), Contains("4 heads cannot share 3 key heads"));
  auto loss = row<ops::CrossEntropy>().op;
  loss.vocab = 9;
  CHECK_THAT(refusal(loss), Contains("a vocabulary of 9 in 8 columns"));
}

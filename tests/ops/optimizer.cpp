// The optimizer's ops over a table of pieces: of odd shapes, of none, of very many.
#include "tests/ops/case.h"

#include "tests/reference/optimizer.h"

#include <limits>

using namespace ft;
using namespace ft::test;

namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// Pieces in flat buffers with room between them. Of three in a row two have a compute copy.
struct Table {
  std::vector<ops::Segment> pieces;
  int64_t size = 5, copies = 3, runs = 0, elements = 0;
  mutable std::optional<Buffer> lent;  // the pieces, for ops

  void add(int64_t rows, int64_t cols, int64_t gap) {
    const auto n = static_cast<float>(pieces.size());
    ops::Segment s{.offset = size,
                   .rows = gap > 0 ? rows : 1,
                   .cols = gap > 0 ? cols : rows * cols,
                   .stride = cols + gap,
                   .first_run = runs,
                   .lr_multiplier = 1 + n / 8,
                   .weight_decay = n / 64};
    if (pieces.size() % 3 != 2) s.copy_offset = copies, copies += rows * (cols + gap) + 7;
    size += rows * (cols + gap) + 11, runs += s.runs(), elements += s.size();
    pieces.push_back(s), lent.reset();
  }
  ops::Segments segments() const {
    if (!lent) lent.emplace(pieces.data(), pieces.size() * sizeof(ops::Segment));
    return {.table = **lent,
            .count = static_cast<int64_t>(pieces.size()),
            .runs = runs,
            .elements = elements};
  }
  // f(place in the buffers, place among the copies or -1, number of the element in its piece)
  template <class F>
  static void each(const ops::Segment& s, F&& f) {
    for (int64_t r = 0; r < s.rows; ++r)
      for (int64_t c = 0; c < s.cols; ++c) {
        const int64_t at = r * s.stride + c;
        f(s.offset + at, s.copy_offset < 0 ? -1 : s.copy_offset + at, r * s.cols + c);
      }
  }
  static Vector box(const Buffer& flat, const ops::Segment& s) {
    Vector values;
    each(s, [&](int64_t at, int64_t, int64_t) { values.push_back(flat.get(at)); });
    return values;
  }
};

Table odd_shapes() {
  Table t;
  for (const auto& [rows, cols, gap] :
       std::initializer_list<std::array<int64_t, 3>>{{1, 1, 0},
                                                     {0, 16, 0},  // nothing in it
                                                     {9, 17, 0},
                                                     {7, 0, 4},  // nothing in its rows
                                                     {3, 4097, 2},
                                                     {2, 4096, 0},
                                                     {64, 1, 6},
                                                     {5, 8192, 1},
                                                     {1, 12289, 0},
                                                     {0, 0, 0}})
    t.add(rows, cols, gap);
  return t;
}

struct State {
  const Table& table;
  Buffer w, m, v, g, low, scalars{Dtype::F64, ops::kStepScalars};
  explicit State(const Table& t)
      : table(t), w(Dtype::F32, t.size), m(w), v(w), g(w), low(Dtype::BF16, t.copies) {
    w.random(1), m.fill(0), v.fill(0), low.fill(-7), scalars.fill(0);
  }
  void step(int count, double lr, double clip, bool apply = true) {
    scalars.set(ops::kLr, lr);
    scalars.set(ops::kWeightDecayFactor, 0.5);
    scalars.set(ops::kCount, count);
    scalars.set(ops::kClip, clip);
    scalars.set(ops::kApply, apply ? 1 : 0);
    g.random(static_cast<uint64_t>(10 + count), 0.3);
    run(ops::AdamW{.w = *w,
                   .m = *m,
                   .v = *v,
                   .g = *g,
                   .scalars = *scalars,
                   .segments = table.segments(),
                   .copies = *low});
  }
  std::vector<Buffer> all() const { return {w, m, v, low}; }
};

// Which places of the buffers (or of the copies) belong to a piece.
std::vector<bool> taken(const Table& t, bool copies) {
  std::vector<bool> taken(static_cast<size_t>(copies ? t.copies : t.size));
  for (const ops::Segment& s : t.pieces)
    Table::each(s, [&](int64_t at, int64_t copy, int64_t) {
      const int64_t place = copies ? copy : at;
      if (place >= 0) taken[static_cast<size_t>(place)] = true;
    });
  return taken;
}

void check_rest(const std::string& what, const Buffer& after, const Buffer& before,
                const std::vector<bool>& taken) {
  int64_t changed = 0;
  for (size_t i = 0; i < taken.size(); ++i)
    changed +=
        !taken[i] && after.get(static_cast<int64_t>(i)) != before.get(static_cast<int64_t>(i));
  INFO(what << ": values outside of all pieces changed");
  CHECK(changed == 0);
}

}  // namespace

TEST_CASE("adamw by a table equals its twin over steps, and touches nothing else", "[optimizer]") {
  FT_ON_EACH_BACKEND;
  const Table table = odd_shapes();
  State s(table);
  const State before = s;
  const double lr = 1e-2, clip = 0.75;
  std::vector<reference::AdamW> twins;
  for (const ops::Segment& p : table.pieces)
    twins.push_back({lr * p.lr_multiplier, 0.9f, 0.95f, 1e-8f, 0.5 * p.weight_decay, clip,
                     Table::box(s.w, p), Vector(static_cast<size_t>(p.size())),
                     Vector(static_cast<size_t>(p.size()))});
  for (int count = 1; count <= 12; ++count) {
    s.step(count, lr, clip);
    for (size_t i = 0; i < twins.size(); ++i)
      twins[i].step(count, Table::box(s.g, table.pieces[i]));
  }
  for (size_t i = 0; i < twins.size(); ++i) {
    const ops::Segment& p = table.pieces[i];
    INFO("piece " << i);
    check_close("w", Table::box(s.w, p), twins[i].w, kTight);
    check_close("m", Table::box(s.m, p), twins[i].m, kTight);
    check_close("v", Table::box(s.v, p), twins[i].v, kTight);
    Table::each(p, [&](int64_t at, int64_t copy, int64_t) {
      if (copy >= 0 && s.low.get(copy) != static_cast<float>(bf16(static_cast<float>(s.w.get(at)))))
        FAIL("the copy of piece " << i << " is not its weight rounded");
    });
  }
  check_rest("w", s.w, before.w, taken(table, false));
  check_rest("m", s.m, before.m, taken(table, false));
  check_rest("v", s.v, before.v, taken(table, false));
  check_rest("copies", s.low, before.low, taken(table, true));
}

TEST_CASE("adamw of a step that is left out writes nothing", "[optimizer]") {
  FT_ON_EACH_BACKEND;
  const Table table = odd_shapes();
  State s(table);
  s.step(1, 1e-2, 1);
  const auto before = s.all();
  s.step(2, std::nan(""), std::nan(""), false);
  const auto after = s.all();
  for (size_t i = 0; i < before.size(); ++i) CHECK(before[i].same_bits(after[i]));
}

TEST_CASE("sums of squares by piece are those of the pieces alone, folded in order",
          "[optimizer]") {
  const Bench bench(backends().front());  // very many launches
  Table table = odd_shapes();
  const bool many = GENERATE(false, true);
  if (many)
    for (int i = 0; i < 20000; ++i) table.add(1 + i % 3, i % 7, i % 2);
  const auto count = static_cast<int64_t>(table.pieces.size());
  Buffer x(Dtype::F32, table.size), squares(Dtype::F64, count), total(Dtype::F64, 1),
      one(Dtype::F64, 1), sum(Dtype::F64, 1);
  x.random(3);
  run(ops::SumSquares{.squares = *squares, .x = *x, .segments = table.segments(), .total = *total});
  sum.fill(0);
  int64_t different = 0;
  double plain = 0;
  for (int64_t i = 0; i < count; ++i) {
    const ops::Segment& s = table.pieces[static_cast<size_t>(i)];
    const Tensor flat = *x;
    Tensor box(static_cast<float*>(flat.data) + s.offset, Dtype::F32, {s.rows, s.cols});
    if (s.rows > 1) box.stride[0] = s.stride;
    run(ops::Sum{.out = *one, .x = box, .squared = true});
    run(ops::Sum{.out = *sum, .x = box, .squared = true, .grad = Grad::Accumulate});
    different += one.get(0) != squares.get(i);
    for (double v : Table::box(x, s)) plain += v * v;
  }
  CHECK(different == 0);
  CHECK(total.get(0) == sum.get(0));
  CHECK(total.get(0) == Approx(plain).epsilon(1e-12));
  // A value that is no number is seen, in its piece alone; what lies between pieces is not read.
  x.set(table.pieces[2].offset + 3, std::nan(""));
  x.set(table.pieces[2].offset - 1, std::nan(""));
  run(ops::SumSquares{.squares = *squares, .x = *x, .segments = table.segments(), .total = *total});
  int64_t bad = 0;
  for (int64_t i = 0; i < count; ++i) bad += std::isnan(squares.get(i));
  CHECK(bad == 1);
  CHECK(std::isnan(squares.get(2)));
  CHECK(std::isnan(total.get(0)));
}

TEST_CASE("a table without pieces is no work", "[optimizer]") {
  FT_ON_EACH_BACKEND;
  const Table table;
  State s(table);
  const auto before = s.all();
  s.step(1, 1e-2, 1);
  Buffer total(Dtype::F64, 1);
  run(ops::SumSquares{.squares = Tensor(nullptr, Dtype::F64, {0}),
                      .x = *s.w,
                      .segments = table.segments(),
                      .total = *total});
  CHECK(total.get(0) == 0);
  CHECK(before[0].same_bits(s.all()[0]));
}

TEST_CASE("compute copies are master weights rounded, of the pieces that have one", "[optimizer]") {
  FT_ON_EACH_BACKEND;
  const Table table = odd_shapes();
  State s(table);
  const Buffer before = s.low;
  run(ops::ComputeCopies{.copies = *s.low, .w = *s.w, .segments = table.segments()});
  int64_t wrong = 0;
  for (const ops::Segment& p : table.pieces)
    Table::each(p, [&](int64_t at, int64_t copy, int64_t) {
      if (copy < 0) return;
      wrong += s.low.get(copy) != static_cast<float>(bf16(static_cast<float>(s.w.get(at))));
    });
  CHECK(wrong == 0);
  check_rest("copies", s.low, before, taken(table, true));
}

TEST_CASE("the verdict on a step: finite, below its bound, with labels", "[optimizer]") {
  FT_ON_EACH_BACKEND;
  const double nan = std::nan("");
  Buffer scalars(Dtype::F64, ops::kStepScalars), loss(Dtype::F64, 1), squares(Dtype::F64, 1);
  for (double labels : {0.0, 1.0, 300.0})
    for (double bound : {kInfinite, 2.5, -1.0})
      for (double sum : {0.0, 2.5, 750.0, 750.1, -3.0, nan, kInfinite})
        for (double square : {0.0, 0.25, 16.0, 1e300, nan, kInfinite})
          for (float most : {0.0f, 1.0f, 1e9f}) {
            INFO(labels << " labels, bound " << bound << ", loss " << sum << ", squares " << square
                        << ", clip " << most);
            scalars.fill(-5);
            scalars.set(ops::kLabels, labels);
            scalars.set(ops::kLossBound, bound);
            scalars.set(ops::kCount, 41);
            loss.fill(sum), squares.fill(square);
            run(ops::StepVerdict{
                .scalars = *scalars, .loss_sum = *loss, .sum_squares = *squares, .max_norm = most});
            const auto want = reference::verdict(sum, labels, bound, square, most);
            CHECK(scalars.get(ops::kApply) == (want.apply ? 1 : 0));
            CHECK(scalars.get(ops::kCount) == 41 + (want.apply ? 1 : 0));
            if (want.apply) CHECK(scalars.get(ops::kClip) == Approx(want.clip).epsilon(1e-14));
            CHECK(scalars.get(ops::kLr) == -5);  // the host's own are left alone
            CHECK(scalars.get(ops::kLabels) == labels);
          }
}

namespace {

Case adamw_case() {
  return {"adamw",
          [] {
            const Table table = odd_shapes();
            State s(table);
            for (int count = 1; count <= 3; ++count) s.step(count, 1e-2, 0.5);
            return std::vector<Output>{{"w", s.w}, {"m", s.m}, {"v", s.v}, {"low", s.low}};
          },
          [] { return std::vector<Want>{}; }};
}

Case squares_case() {
  return {"sum_squares and compute_copies",
          [] {
            const Table table = odd_shapes();
            State s(table);
            Buffer squares(Dtype::F64, static_cast<int64_t>(table.pieces.size())),
                total(Dtype::F64, 1);
            run(ops::SumSquares{
                .squares = *squares, .x = *s.w, .segments = table.segments(), .total = *total});
            run(ops::ComputeCopies{.copies = *s.low, .w = *s.w, .segments = table.segments()});
            return std::vector<Output>{{"squares", squares}, {"total", total}, {"low", s.low}};
          },
          [] { return std::vector<Want>{}; }};
}

}  // namespace

TEST_CASE("the optimizer's ops do not depend on the number of threads", "[threads]") {
  FT_ON_EACH_BACKEND;
  check_threads(adamw_case()), check_threads(squares_case());
}

TEST_CASE("the optimizer's ops: backends agree", "[optimizer][backends]") {
  check_backends(adamw_case()), check_backends(squares_case());
}

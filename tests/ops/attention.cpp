// Attention and AttentionGrad against the twin that forms every score; the twin's gradient against
// differences.
#include "tests/catch.h"

#include "core/ops.h"
#include "tests/reference/array.h"
#include "tests/reference/attention.h"

#include <omp.h>

using namespace ft;
using reference::Array;

namespace {

struct Shape {
  int64_t B = 1, queries = 7, before = 0, heads = 2, kv_heads = 1,
          dim = 8;                // before: keys ahead of the queries
  std::vector<int64_t> starts{};  // of documents, in each sequence
  bool carried = false;           // the first document begins 7 tokens before the queries
  double out_scale = 1, size = 1;
  int64_t gap = 0;
  Dtype dtype = Dtype::F32;
};

struct Run {
  Shape s;
  std::mt19937_64 random{5};
  int64_t T = s.B * s.queries, keys = s.queries + s.before, Tk = s.B * keys;
  Array q, k, v, o, dout, dq, dk, dv, lse;
  std::vector<int32_t> docs;
  reference::Attention twin;

  explicit Run(const Shape& shape)
      : s(shape),
        q(T, s.heads * s.dim, s.dtype, s.gap),
        k(Tk, s.kv_heads * s.dim, s.dtype, s.gap),
        v(k),
        o(q),
        dout(q),
        dq(q),
        dk(k),
        dv(k),
        lse(s.heads, T),
        docs(reference::documents(s.B, s.queries, s.starts, s.carried)) {
    for (Array* a : {&q, &k, &v, &dout}) a->fill(random, s.size);
    // without a document that was carried over, whole sequences are one document
    if (!s.carried && s.before > 0)
      for (int64_t t = 0; t < T; ++t)
        if (docs[t] == t / s.queries * s.queries) docs[t] -= static_cast<int32_t>(s.before);
    twin = {s.B,      s.queries, keys,     s.heads, s.kv_heads, s.dim,
            q.values, k.values,  v.values, docs,    scale(),    s.out_scale};
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(s.dim)); }
  void forward() {
    cpu::run(ops::Attention{.o = o.tensor(),
                            .lse = lse.tensor(),
                            .q = q.tensor(),
                            .k = k.tensor(),
                            .v = v.tensor(),
                            .docs = reference::docs_tensor(docs),
                            .softmax_scale = scale(),
                            .out_scale = static_cast<float>(s.out_scale),
                            .heads = s.heads,
                            .kv_heads = s.kv_heads,
                            .sequences = s.B},
             {});
  }
  void backward() {
    cpu::run(ops::AttentionGrad{.dq = dq.tensor(),
                                .dk = dk.tensor(),
                                .dv = dv.tensor(),
                                .doo = dout.tensor(),
                                .o = o.tensor(),
                                .lse = lse.tensor(),
                                .q = q.tensor(),
                                .k = k.tensor(),
                                .v = v.tensor(),
                                .docs = reference::docs_tensor(docs),
                                .softmax_scale = scale(),
                                .out_scale = static_cast<float>(s.out_scale),
                                .heads = s.heads,
                                .kv_heads = s.kv_heads,
                                .sequences = s.B},
             {});
  }
};

void check(const Shape& shape) {
  Run r(shape);
  const double limit = shape.dtype == Dtype::F32 ? 1e-5 : 2e-2;
  INFO("B " << shape.B << " queries " << shape.queries << " before " << shape.before << " heads "
            << shape.heads << "/" << shape.kv_heads << " dim " << shape.dim << " documents "
            << shape.starts.size());
  r.forward();
  const reference::AttentionValues v = reference::attention(r.twin);
  CHECK(r.o.error(v.o) <= limit);
  CHECK(r.lse.error(v.lse) <= 1e-5);
  r.backward();
  const reference::AttentionGrads g = reference::attention_grad(r.twin, r.dout.values);
  // Where one key is all a query sees, dq and dk are 0 but for rounding: hence the size of dv
  // beside theirs.
  const auto off = [](const Array& got, std::vector<double> want,
                      const std::vector<double>& beside) {
    double most = 0, size = 1e-30;
    for (size_t i = 0; i < want.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      const double d = std::abs(got.at(at / got.cols, at % got.cols) - want[i]);
      if (!(d <= most)) most = d;
      size = std::max(size, std::abs(want[i]));
    }
    for (const double x : beside) size = std::max(size, 0.1 * std::abs(x));
    return most / size;
  };
  CHECK(off(r.dq, g.q, g.v) <= limit);
  CHECK(off(r.dk, g.k, g.v) <= limit);
  CHECK(off(r.dv, g.v, g.v) <= limit);
}

const std::vector<std::pair<int64_t, int64_t>> kHeads{{1, 1}, {4, 2}, {6, 2}, {4, 1}, {8, 8}};

}  // namespace

TEST_CASE("the attention twin's gradient is that of finite differences", "[attention]") {
  for (const int64_t before : {0, 3})
    for (const bool carried : {false, true}) {
      Run r({.B = 2,
             .queries = 5,
             .before = before,
             .heads = 4,
             .kv_heads = 2,
             .dim = 4,
             .starts = {2, 3},
             .carried = carried,
             .out_scale = 0.7});
      reference::Attention& s = r.twin;
      const reference::AttentionGrads g = reference::attention_grad(s, r.dout.values);
      const auto loss = [&] { return reference::inner(reference::attention(s).o, r.dout.values); };
      CHECK(reference::worst(g.q, reference::differences(s.q, loss)) < 1e-7);
      CHECK(reference::worst(g.k, reference::differences(s.k, loss)) < 1e-7);
      CHECK(reference::worst(g.v, reference::differences(s.v, loss)) < 1e-7);
    }
}

TEST_CASE("attention: gradients are finite differences of the twin's value", "[attention]") {
  Run r({.B = 2,
         .queries = 6,
         .before = 2,
         .heads = 4,
         .kv_heads = 2,
         .dim = 8,
         .starts = {4},
         .carried = true,
         .out_scale = 0.6});
  r.forward(), r.backward();
  reference::Attention& s = r.twin;
  const auto loss = [&] { return reference::inner(reference::attention(s).o, r.dout.values); };
  CHECK(r.dq.error(reference::differences(s.q, loss)) < 1e-5);
  CHECK(r.dk.error(reference::differences(s.k, loss)) < 1e-5);
  CHECK(r.dv.error(reference::differences(s.v, loss)) < 1e-5);
}

TEST_CASE("attention: every length, grouping and head_dim", "[attention]") {
  for (const int64_t L : {1, 2, 3, 17, 64, 65, 130})
    for (const auto& [heads, kv_heads] : kHeads)
      for (const int64_t dim : {8, 16, 64})
        check({.queries = L, .heads = heads, .kv_heads = kv_heads, .dim = dim, .out_scale = 0.8});
}

TEST_CASE("attention: sequences and documents", "[attention]") {
  const std::vector<std::vector<int64_t>> layouts{{},
                                                  {64},
                                                  {63},
                                                  {65},
                                                  {5},
                                                  {1, 2, 3, 4},
                                                  {64, 65, 128},
                                                  {20, 129},
                                                  {3, 31, 32, 33, 100},
                                                  {127, 128, 129}};
  for (const auto& starts : layouts)
    for (const int64_t B : {1, 3})
      for (const bool carried : {false, true})
        check({.B = B,
               .queries = 130,
               .heads = 4,
               .kv_heads = 2,
               .dim = 16,
               .starts = starts,
               .carried = carried,
               .out_scale = 1.5});
  std::vector<int64_t> each(130);
  for (int64_t i = 0; i < 130; ++i) each[i] = i;
  check({.B = 2, .queries = 130, .starts = each});  // one token a document
}

TEST_CASE("attention: keys longer than queries", "[attention]") {
  for (const int64_t queries : {1, 2, 17, 65})
    for (const int64_t before : {1, 7, 63, 64, 130})
      for (const bool carried : {false, true})
        check({.B = 2,
               .queries = queries,
               .before = before,
               .heads = 4,
               .kv_heads = 2,
               .dim = 16,
               .starts = queries > 4 ? std::vector<int64_t>{4} : std::vector<int64_t>{},
               .carried = carried,
               .out_scale = 0.9});
}

TEST_CASE("attention: column views, uneven head_dim, large scores, bf16", "[attention]") {
  check({.B = 2, .queries = 70, .heads = 6, .kv_heads = 2, .dim = 20, .starts = {9}, .gap = 3});
  check({.queries = 40, .heads = 2, .kv_heads = 2, .dim = 5, .gap = 1});
  check({.queries = 90, .heads = 2, .kv_heads = 1, .dim = 128, .gap = 8});
  Run large(
      {.queries = 130, .dim = 64, .size = 8});  // scores of +-200: the maximum has to be taken out
  large.forward();
  CHECK(large.o.error(reference::attention(large.twin).o) < 1e-4);
  for (const int64_t L : {1, 17, 130})
    check({.B = 2,
           .queries = L,
           .heads = 4,
           .kv_heads = 2,
           .dim = 64,
           .starts = {5},
           .gap = 3,
           .dtype = Dtype::BF16});
}

TEST_CASE("attention: q, k, v and their gradients in one wide matrix", "[attention]") {
  Run r({.B = 2, .queries = 70, .heads = 4, .kv_heads = 2, .dim = 16, .starts = {30}});
  const int64_t C = 64, K = 32, T = 140;
  Array wide(T, C + 2 * K), dwide(T, C + 2 * K);
  const auto place = [&](Array& from, int64_t column) {
    for (int64_t t = 0; t < T; ++t)
      std::memcpy(wide.memory.data() + (t * (C + 2 * K) + column) * 4,
                  from.memory.data() + t * from.cols * 4, from.cols * 4);
  };
  place(r.q, 0), place(r.k, C), place(r.v, C + K);
  r.forward(), r.backward();
  const auto cut = [&](Array& a, int64_t from, int64_t to) { return a.tensor().columns(from, to); };
  Array o(T, C), lse(4, T);
  cpu::run(ops::Attention{.o = o.tensor(),
                          .lse = lse.tensor(),
                          .q = cut(wide, 0, C),
                          .k = cut(wide, C, C + K),
                          .v = cut(wide, C + K, C + 2 * K),
                          .docs = reference::docs_tensor(r.docs),
                          .softmax_scale = r.scale(),
                          .heads = 4,
                          .kv_heads = 2,
                          .sequences = 2},
           {});
  CHECK(o.same_bits(r.o));
  cpu::run(ops::AttentionGrad{.dq = cut(dwide, 0, C),
                              .dk = cut(dwide, C, C + K),
                              .dv = cut(dwide, C + K, C + 2 * K),
                              .doo = r.dout.tensor(),
                              .o = o.tensor(),
                              .lse = lse.tensor(),
                              .q = cut(wide, 0, C),
                              .k = cut(wide, C, C + K),
                              .v = cut(wide, C + K, C + 2 * K),
                              .docs = reference::docs_tensor(r.docs),
                              .softmax_scale = r.scale(),
                              .heads = 4,
                              .kv_heads = 2,
                              .sequences = 2},
           {});
  bool same = true;
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t c = 0; c < C; ++c) same &= dwide.at(t, c) == r.dq.at(t, c);
    for (int64_t c = 0; c < K; ++c)
      same &= dwide.at(t, C + c) == r.dk.at(t, c) && dwide.at(t, C + K + c) == r.dv.at(t, c);
  }
  CHECK(same);
}

TEST_CASE("attention: the same bits with one thread and with several", "[attention]") {
  const Shape shape{.B = 2, .queries = 200, .heads = 6, .kv_heads = 2, .dim = 16, .starts = {70}};
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  Run one(shape);
  one.forward(), one.backward();
  for (const int threads : {2, 3}) {
    omp_set_num_threads(threads);
    Run more(shape);
    more.forward(), more.backward();
    CHECK(more.o.same_bits(one.o));
    CHECK(more.lse.same_bits(one.lse));
    CHECK(more.dq.same_bits(one.dq));
    CHECK(more.dk.same_bits(one.dk));
    CHECK(more.dv.same_bits(one.dv));
  }
  omp_set_num_threads(before);
}

TEST_CASE("attention: a NaN among the keys shows in what reads it, and only there", "[attention]") {
  Run r({.queries = 20, .starts = {10}});
  const float nan = std::nanf("");
  std::memcpy(r.k.memory.data() + 4 * 8 * 4, &nan, 4);  // token 4
  r.forward();
  CHECK(!std::isnan(r.o.at(3, 0)));
  CHECK(std::isnan(r.o.at(4, 0)));
  CHECK(std::isnan(r.o.at(9, 0)));
  CHECK(!std::isnan(r.o.at(10, 0)));
}

TEST_CASE("attention: shapes that do not fit are refused", "[attention]") {
  Run r({.heads = 3, .kv_heads = 2});
  CHECK_THROWS_AS(r.forward(), Error);
  Run fewer({.queries = 7});
  fewer.k.rows = 6, fewer.v.rows = 6;
  CHECK_THROWS_AS(fewer.forward(), Error);
}

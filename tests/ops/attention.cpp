// Attention and AttentionGrad against the twin that forms every score; the twin's gradient against
// differences.
#include "tests/ops/case.h"

#include "tests/reference/attention.h"

using namespace ft;
using namespace ft::test;

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
  Buffer q{s.dtype, T, s.heads*s.dim, s.gap}, o{q}, dout{q}, dq{q};
  Buffer k{s.dtype, Tk, s.kv_heads*s.dim, s.gap}, v{k}, dk{k}, dv{k};
  Buffer lse{Dtype::F32, s.heads, T};
  std::vector<int32_t> docs = documents(s.B, s.queries, s.starts, s.carried);
  std::optional<Buffer> document_starts;
  reference::Attention twin;

  explicit Run(const Shape& shape) : s(shape) {
    for (Buffer* b : {&q, &k, &v, &dout}) b->uniform(random, s.size);
    // without a document that was carried over, whole sequences are one document
    if (!s.carried && s.before > 0)
      for (int64_t t = 0; t < T; ++t)
        if (docs[t] == t / s.queries * s.queries) docs[t] -= static_cast<int32_t>(s.before);
    document_starts.emplace(docs);
    twin = {s.B,        s.queries,  keys,       s.heads, s.kv_heads, s.dim,
            q.values(), k.values(), v.values(), docs,    scale(),    s.out_scale};
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(s.dim)); }
  ops::AttentionInputs inputs() const {
    return {.q = *q,
            .k = *k,
            .v = *v,
            .docs = **document_starts,
            .softmax_scale = scale(),
            .out_scale = static_cast<float>(s.out_scale),
            .heads = s.heads,
            .kv_heads = s.kv_heads,
            .sequences = s.B};
  }
  void forward() { run(ops::Attention{.in = inputs(), .o = *o, .lse = *lse}); }
  void backward() {
    run(ops::AttentionGrad{
        .in = inputs(), .o = *o, .lse = *lse, .d_o = *dout, .dq = *dq, .dk = *dk, .dv = *dv});
  }
};

Case case_of(const Shape& shape) {
  const auto outputs = [shape] {
    Run r(shape);
    r.forward(), r.backward();
    return std::vector<Output>{
        {"o", r.o}, {"lse", r.lse}, {"dq", r.dq}, {"dk", r.dk}, {"dv", r.dv}};
  };
  const auto wanted = [shape] {
    const Run r(shape);
    const double limit = shape.dtype == Dtype::F32 ? 1e-5 : 2e-2;
    const reference::AttentionValues v = reference::attention(r.twin);
    const reference::AttentionGrads g = reference::attention_grad(r.twin, r.dout.values());
    // Where one key is all a query sees, dq and dk are 0 but for rounding: hence the size of dv
    // beside theirs.
    double size = 0;
    for (const double x : g.v) size = std::max(size, 0.1 * std::abs(x));
    return std::vector<Want>{{"o", v.o, limit},
                             {"lse", v.lse, 1e-5},
                             {"dq", g.q, limit, Norm::Largest, size},
                             {"dk", g.k, limit, Norm::Largest, size},
                             {"dv", g.v, limit, Norm::Largest, size}};
  };
  return {fmt::format("B {} queries {} before {} heads {}/{} dim {} documents {}", shape.B,
                      shape.queries, shape.before, shape.heads, shape.kv_heads, shape.dim,
                      shape.starts.size()),
          outputs, wanted};
}

void check_shape(const Shape& shape) { check(case_of(shape)); }

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
      const reference::AttentionGrads g = reference::attention_grad(s, r.dout.values());
      const auto loss = [&] { return dot(reference::attention(s).o, r.dout.values()); };
      CHECK(error_of(g.q, differences(s.q, loss)) < 1e-7);
      CHECK(error_of(g.k, differences(s.k, loss)) < 1e-7);
      CHECK(error_of(g.v, differences(s.v, loss)) < 1e-7);
    }
}

TEST_CASE("attention: gradients are finite differences of the twin's value", "[attention]") {
  FT_ON_EACH_BACKEND;
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
  const auto loss = [&] { return dot(reference::attention(s).o, r.dout.values()); };
  CHECK(error_of(r.dq, differences(s.q, loss)) < 1e-5);
  CHECK(error_of(r.dk, differences(s.k, loss)) < 1e-5);
  CHECK(error_of(r.dv, differences(s.v, loss)) < 1e-5);
}

TEST_CASE("attention: every length, grouping and head_dim", "[attention]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t L : {1, 2, 3, 17, 64, 65, 130})
    for (const auto& [heads, kv_heads] : kHeads)
      for (const int64_t dim : {8, 16, 64})
        check_shape(
            {.queries = L, .heads = heads, .kv_heads = kv_heads, .dim = dim, .out_scale = 0.8});
}

TEST_CASE("attention: sequences and documents", "[attention]") {
  FT_ON_EACH_BACKEND;
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
        check_shape({.B = B,
                     .queries = 130,
                     .heads = 4,
                     .kv_heads = 2,
                     .dim = 16,
                     .starts = starts,
                     .carried = carried,
                     .out_scale = 1.5});
  std::vector<int64_t> each(130);
  for (int64_t i = 0; i < 130; ++i) each[i] = i;
  check_shape({.B = 2, .queries = 130, .starts = each});  // one token a document
}

TEST_CASE("attention: keys longer than queries", "[attention]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t queries : {1, 2, 17, 65})
    for (const int64_t before : {1, 7, 63, 64, 130})
      for (const bool carried : {false, true})
        check_shape({.B = 2,
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
  FT_ON_EACH_BACKEND;
  check_shape(
      {.B = 2, .queries = 70, .heads = 6, .kv_heads = 2, .dim = 20, .starts = {9}, .gap = 3});
  check_shape({.queries = 40, .heads = 2, .kv_heads = 2, .dim = 5, .gap = 1});
  check_shape({.queries = 90, .heads = 2, .kv_heads = 1, .dim = 128, .gap = 8});
  Run large(
      {.queries = 130, .dim = 64, .size = 8});  // scores of +-200: the maximum has to be taken out
  large.forward();
  CHECK(error_of(large.o, reference::attention(large.twin).o) < 1e-4);
  for (const int64_t L : {1, 17, 130})
    check_shape({.B = 2,
                 .queries = L,
                 .heads = 4,
                 .kv_heads = 2,
                 .dim = 64,
                 .starts = {5},
                 .gap = 3,
                 .dtype = Dtype::BF16});
}

TEST_CASE("attention: bf16 in rows of 16 bytes", "[attention]") {
  FT_ON_EACH_BACKEND;
  Shape s{.B = 2, .heads = 6, .kv_heads = 2, .out_scale = 0.8, .gap = 8, .dtype = Dtype::BF16};
  for (s.dim = 64; s.dim <= 128; s.dim += 64)
    for (const int64_t queries : {1, 17, 65, 200})
      for (const int64_t before : {0, 7, 130})
        for (const bool carried : {false, true}) {
          s.queries = queries, s.before = before, s.carried = carried;
          s.starts = queries > 5 ? std::vector<int64_t>{5} : std::vector<int64_t>{};
          check_shape(s);
        }
  s.before = 0, s.queries = 300, s.carried = false;
  for (s.dim = 8; s.dim <= 136; s.dim += 16) {
    s.starts = {};
    check_shape(s);
    s.starts = {3, 31, 32, 33, 127, 129, 260};
    check_shape(s);
  }
  check_threads(case_of(s));
}

TEST_CASE("attention: q, k, v and their gradients in one wide matrix", "[attention]") {
  FT_ON_EACH_BACKEND;
  Run r({.B = 2, .queries = 70, .heads = 4, .kv_heads = 2, .dim = 16, .starts = {30}});
  const int64_t C = 64, K = 32, T = 140;
  Buffer wide(Dtype::F32, T, C + 2 * K), dwide(wide);
  wide.fill(0), dwide.fill(0);
  Vector together = wide.values();
  const auto place = [&](const Buffer& from, int64_t column) {
    for (int64_t t = 0; t < T; ++t)
      for (int64_t i = 0; i < from.cols(); ++i)
        together[t * (C + 2 * K) + column + i] = from.at(t, i);
  };
  place(r.q, 0), place(r.k, C), place(r.v, C + K);
  wide.assign(together);
  r.forward(), r.backward();
  const auto cut = [&](Buffer& b, int64_t from, int64_t to) {
    return b.tensor().columns(from, to);
  };
  Buffer o(Dtype::F32, T, C), lse(Dtype::F32, 4, T);
  ops::AttentionInputs in = r.inputs();
  in.q = cut(wide, 0, C), in.k = cut(wide, C, C + K), in.v = cut(wide, C + K, C + 2 * K);
  run(ops::Attention{.in = in, .o = *o, .lse = *lse});
  CHECK(o.same_bits(r.o));
  run(ops::AttentionGrad{.in = in,
                         .o = *o,
                         .lse = *lse,
                         .d_o = *r.dout,
                         .dq = cut(dwide, 0, C),
                         .dk = cut(dwide, C, C + K),
                         .dv = cut(dwide, C + K, C + 2 * K)});
  bool same = true;
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t c = 0; c < C; ++c) same &= dwide.at(t, c) == r.dq.at(t, c);
    for (int64_t c = 0; c < K; ++c)
      same &= dwide.at(t, C + c) == r.dk.at(t, c) && dwide.at(t, C + K + c) == r.dv.at(t, c);
  }
  CHECK(same);
}

TEST_CASE("attention: the same bits with one thread and with several", "[attention]") {
  FT_ON_EACH_BACKEND;
  check_threads(
      case_of({.B = 2, .queries = 200, .heads = 6, .kv_heads = 2, .dim = 16, .starts = {70}}));
}

TEST_CASE("attention: backends agree", "[attention][backends]") {
  for (const Dtype dtype : kBoth)
    for (const int64_t before : {0, 7})
      check_backends(case_of({.B = 2,
                              .queries = 70,
                              .before = before,
                              .heads = 4,
                              .kv_heads = 2,
                              .dim = 16,
                              .starts = {9},
                              .gap = 3,
                              .dtype = dtype}));
}

TEST_CASE("attention: a NaN among the keys shows in what reads it, and only there", "[attention]") {
  FT_ON_EACH_BACKEND;
  Run r({.queries = 20, .starts = {10}});
  r.k.set(4 * 8, std::nan(""));  // token 4
  r.forward();
  CHECK(!std::isnan(r.o.at(3, 0)));
  CHECK(std::isnan(r.o.at(4, 0)));
  CHECK(std::isnan(r.o.at(9, 0)));
  CHECK(!std::isnan(r.o.at(10, 0)));
}

TEST_CASE("attention: shapes that do not fit are refused", "[attention]") {
  FT_ON_EACH_BACKEND;
  Run r({.heads = 3, .kv_heads = 2});
  CHECK_THROWS_AS(r.forward(), Error);
  Run fewer({.queries = 7});
  ops::AttentionInputs in = fewer.inputs();
  in.k = in.k.row_range(0, 6), in.v = in.v.row_range(0, 6);
  CHECK_THROWS_AS(run(ops::Attention{.in = in, .o = *fewer.o, .lse = *fewer.lse}), Error);
}

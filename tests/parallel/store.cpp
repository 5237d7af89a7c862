// Where parameters lie in memory, and the table of their pieces.
#include "parallel/optimizer.h"
#include "parallel/store.h"
#include "tests/catch.h"

#include "core/memory.h"
#include "cpu/device.h"

using namespace ft;

namespace {

Piece piece(const std::string& name, int64_t row, int64_t col, int64_t rows, int64_t cols) {
  Piece p;
  p.name = name, p.row = row, p.col = col, p.rows = rows, p.cols = cols;
  return p;
}

// A padded matrix of two pieces by rows, one of two by columns, a vector, an empty one.
std::vector<Param> some_params() {
  std::vector<Param> params(4);
  params[0] = {.rows = 48, .cols = 10};
  params[0].pieces = {piece("a.q_proj.weight", 0, 0, 20, 10),
                      piece("a.k_proj.weight", 20, 0, 13, 10)};
  params[1] = {.rows = 7, .cols = 24};
  params[1].pieces = {piece("a.o_proj.weight", 0, 0, 7, 16),
                      piece("a.out_proj.weight", 0, 16, 7, 8)};
  params[2] = {.rows = 65, .always_fp32 = true};
  params[2].pieces = {piece("a.norm.weight", 0, 0, 65, 1)};
  params[3] = {.rows = 0, .cols = 4};
  params[3].pieces = {piece("a.up_proj.weight", 0, 0, 0, 4)};
  return params;
}

struct Fixture {
  std::unique_ptr<Device> device = cpu::open_device(1);
  Memory memory;
  std::vector<Param> params = some_params();
  Store store;
  explicit Fixture(Dtype compute, bool is_virtual = false)
      : memory(*device, is_virtual), store([this](const std::function<void(Param&)>& f) {
          for (Param& p : params) f(p);
        }) {
    store.bind(memory, {.compute = compute, .residual = compute}, true);
  }
};

int64_t offset(const Tensor& flat, const Tensor& view) {
  return (static_cast<char*>(view.data) - static_cast<char*>(flat.data)) / size_of(flat.dtype);
}

}  // namespace

TEST_CASE("store: parameters lie in backward's order, aligned, alike in all buffers") {
  Fixture f(Dtype::BF16);
  const Store::Buffers& b = f.store.buffers();
  // Visited 0 1 2 3; gradients come as 3 2 1 0: 0 elements, 65, 168, 480.
  const std::vector<int64_t> places = {128 + 192, 128, 0, 0}, copies = {192, 0, -1, 0};
  for (size_t i = 0; i < f.params.size(); ++i) {
    INFO(i);
    const Param& p = f.params[i];
    for (const auto& [flat, view] : {std::pair{b.master, p.master},
                                     {b.gradients, p.grad},
                                     {b.exp_avg, p.exp_avg},
                                     {b.exp_avg_sq, p.exp_avg_sq}})
      CHECK(offset(flat, view) == places[i]);
    CHECK(places[i] % 64 == 0);
    if (copies[i] >= 0) CHECK(offset(b.copies, p.value) == copies[i]);
    else CHECK(p.value.data == p.master.data);
  }
  CHECK(b.master.size() == 128 + 192 + 512);
  CHECK(b.copies.size() == 192 + 512);
  CHECK(f.store.parameters() == 200 + 130 + 112 + 56 + 65);
}

TEST_CASE("store: the table has each piece's box and rates, in the order of the pieces") {
  const Dtype compute = GENERATE(Dtype::F32, Dtype::BF16);
  Fixture f(compute);
  set_groups(f.store, {{"*.o_proj.weight", "", 0.5, 0.25}}, 0.1);
  const ops::Segments all = f.store.segments();
  const auto* table = reinterpret_cast<const ops::Segment*>(all.table.ptr<uint8_t>());
  const Store::Buffers& b = f.store.buffers();
  int64_t i = 0, runs = 0;
  f.store.for_pieces([&](Param& p, Piece& piece) {
    INFO(piece.name);
    const ops::Segment& s = table[i++];
    const Tensor master = box(p.master, piece), value = box(p.value, piece);
    CHECK(s.offset == offset(b.master, master));
    CHECK(s.size() == piece.size());
    CHECK((s.rows == 1 || s.stride == master.stride[0]));
    CHECK((s.rows == 1) == (piece.cols == p.cols));
    const bool copied = compute == Dtype::BF16 && !p.always_fp32;
    CHECK(s.copy_offset == (copied ? offset(b.copies, value) : -1));
    CHECK(s.first_run == runs);
    CHECK(s.lr_multiplier == piece.lr_multiplier);
    CHECK(s.weight_decay == piece.weight_decay.value());
    runs += s.runs();
  });
  CHECK(table[2].lr_multiplier == 0.5f);
  CHECK(table[2].weight_decay == 0.25f);
  CHECK(all.count == i);
  CHECK(all.runs == runs);
  CHECK(all.elements == f.store.parameters());
}

TEST_CASE("store: planned in virtual memory it knows as much of its table") {
  Fixture real(Dtype::BF16), planned(Dtype::BF16, true);
  set_groups(planned.store, {}, 0.1);  // writes nothing
  CHECK(planned.store.segments().runs == real.store.segments().runs);
  CHECK(planned.store.segments().elements == real.store.segments().elements);
  CHECK(planned.store.segments().table.size() == real.store.segments().table.size());
  CHECK(planned.memory.total() == real.memory.total());
}

#include "parallel/initialise.h"

#include "core/rng.h"

#include <algorithm>
#include <cmath>

namespace ft {

namespace {

double starting_value(const Init& init, uint64_t seed, uint64_t stream, int64_t index,
                      int64_t row) {
  const auto i = static_cast<uint64_t>(index);
  const auto uniform = [&] { return random_uniform(seed, Purpose::Init, stream, i); };
  switch (init.kind) {
    case Init::Kind::Zero:
      return 0;
    case Init::Kind::One:
      return 1;
    case Init::Kind::Normal:
      return init.a * random_normal(seed, Purpose::Init, stream, i);
    case Init::Kind::Uniform:
      return init.a + (init.b - init.a) * uniform();
    case Init::Kind::LogRange:
      return std::log(1.0 + static_cast<double>(row));
    case Init::Kind::LogUniform:
      return std::log(init.a + (init.b - init.a) * uniform());
    case Init::Kind::DtBias: {  // inverse softplus of a log-uniform step
      const double dt =
          std::max(std::exp(std::log(init.a) + (std::log(init.b) - std::log(init.a)) * uniform()),
                   init.floor);
      return dt + std::log(-std::expm1(-dt));
    }
  }
  throw Error("unknown initialisation");
}

}  // namespace

void initialise(Store& store, uint64_t seed, int threads) {
  const auto value_row = [&](const Piece& piece, int64_t r, float* to) {
    const uint64_t stream = name_hash(piece.name.data(), piece.name.size()) >> 8;
    const int64_t width = piece.shape.size() > 1 ? piece.shape[piece.shape.size() - 1] : 1;
    for (int64_t i = 0; i < piece.cols; ++i) {
      const int64_t row = piece.tensor_row + r, col = piece.tensor_col + i;
      to[i] = static_cast<float>(starting_value(piece.init, seed, stream, row * width + col, row));
    }
  };
  store.load(value_row, threads);
}

}  // namespace ft

#include "parallel/mesh.h"

namespace ft {

Mesh Mesh::build(World& world, int tensor, int pipeline, int context) {
  const int ranks = world.all().size(), rank = world.all().rank(),
            layout = tensor * pipeline * context;
  FT_CHECK_CONFIG(layout > 0 && ranks % layout == 0,
                  "parallel: {} ranks do not divide by tensor {} x pipeline {} x context {}; start "
                  "a multiple of {}",
                  ranks, tensor, pipeline, context, layout);
  Mesh m;
  m.tensor = tensor, m.pipeline = pipeline, m.context = context, m.data_size = ranks / layout;
  m.tp = rank % tensor;
  m.cp = rank / tensor % context;
  m.dp = rank / (tensor * context) % m.data_size;
  m.pp = rank / (tensor * context * m.data_size);
  m.data = world.split((m.pp * context + m.cp) * tensor + m.tp, m.dp);
  return m;
}

}  // namespace ft

// Catch2's session inside an MPI world, so the same cases run alone and under mpirun.
#define CATCH_CONFIG_RUNNER
#include "tests/catch.h"

#include "cuda/device.h"
#include "parallel/comm/comm.h"
#include "tests/world.h"

#include <cstdio>
#include <cstdlib>

namespace ft::test {
World* g_world = nullptr;
World& world() { return *g_world; }
}  // namespace ft::test

int main(int argc, char** argv) {
  // Tests that start mpirun may run as root, as in a container.
  ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
  ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
  auto world = ft::World::open(&argc, &argv);
  ft::test::g_world = world.get();
  if (std::getenv("FT_TEST_GPU") && !ft::cuda::available()) {
    std::puts("skipped: no GPU is here");
    return 77;  // ctest's word for it, see tests/CMakeLists.txt
  }
  int failed = Catch::Session().run(argc, argv);
  return static_cast<int>(ft::all_max(world->all(), static_cast<int64_t>(failed ? 1 : 0)));
}

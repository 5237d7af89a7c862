// The CPU device and the workspaces of its ops.
#include "tests/ops/case.h"

#include "cpu/common.h"
#include "cpu/device.h"

#include <algorithm>

using namespace ft;
using namespace ft::test;

TEST_CASE("the device gives zeroed aligned memory and counts it; workspaces only grow",
          "[device]") {
  const int before = omp_get_max_threads();
  auto device = cpu::open_device(2);
  CHECK(omp_get_max_threads() == 2);
  CHECK(device->kind() == DeviceKind::Cpu);
  CHECK(!device->description().empty());
  CHECK(device->memory_total() > (int64_t{1} << 28));
  auto* memory = static_cast<unsigned char*>(device->allocate(1001));
  CHECK(reinterpret_cast<uintptr_t>(memory) % 128 == 0);
  CHECK(std::all_of(memory, memory + 1001, [](unsigned char c) { return c == 0; }));
  CHECK(device->allocations() == 1);
  device->release(memory);
#ifndef __SANITIZE_ADDRESS__  // which ends the process instead
  CHECK_THROWS_AS(device->allocate(size_t{1} << 62), Error);
#endif
  cpu::open_device(0);
  CHECK(omp_get_max_threads() >= 1);
  omp_set_num_threads(before);

  void* first = cpu::workspace(15, 100);
  const int64_t growths = cpu::workspace_growths();
  CHECK(cpu::workspace(15, 50) == first);
  CHECK(cpu::workspace_growths() == growths);
  cpu::workspace(15, 100000);
  CHECK(cpu::workspace_growths() == growths + 1);
}

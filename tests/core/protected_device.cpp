// The protected device finds what it is there for: host code that touches device memory, changes
// memory under a copy, reads before it arrived, or forgets an event between streams.
#include "tests/protected_device.h"

#include "core/context.h"
#include "core/memory.h"
#include "tests/catch.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

using namespace ft;
using test::ProtectedDevice;

namespace {

// The signal that ends a child process that does this; 0: none.
int signal_of(const std::function<void(ProtectedDevice&, Memory&)>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    ::signal(SIGABRT, SIG_DFL);  // Catch2 reports these as failures
    ProtectedDevice device;
    Memory memory(device, false);
    work(device, memory);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("protected device: the host's touch ends the process, an op's does not", "[protected]") {
  const auto tensor = [](Memory& memory) { return memory.make("x", Dtype::F32, {3000}); };
  CHECK(signal_of([&](auto&, Memory& memory) {
          volatile float x = tensor(memory).f32()[2999];
          (void)x;
        }) == SIGSEGV);
  CHECK(signal_of([&](auto&, Memory& memory) { tensor(memory).f32()[0] = 1; }) == SIGSEGV);
  CHECK(signal_of([&](auto&, Memory& memory) {  // behind the end, for ops as well
          const HostAccess access(memory.device());
          tensor(memory).f32()[3072] = 1;
        }) == SIGSEGV);
  CHECK(signal_of([&](ProtectedDevice& device, Memory& memory) {
          Scratch scratch;
          Ctx c(device, scratch, true);
          const Tensor x = tensor(memory);
          c(ops::Fill{.y = x, .value = 2});
          const HostAccess outer(device), inner(device);
          if (x.f32()[2999] != 2) ::abort();
        }) == 0);
}

TEST_CASE("protected device: host memory of a copy is left alone until it is done", "[protected]") {
  const auto changed = [](bool op_between, bool synchronized) {
    return signal_of([=](ProtectedDevice& device, Memory& memory) {
      const Tensor x = memory.make("x", Dtype::F32, {4});
      float values[4] = {1, 2, 3, 4};
      device.copy(x.data, values, sizeof values, {});
      Scratch scratch;
      Ctx c(device, scratch, true);
      if (op_between) c(ops::Copy{.y = x, .x = x});
      if (synchronized) device.synchronize({});
      values[2] = 9;
      device.synchronize({});
    });
  };
  CHECK(changed(false, false) == SIGABRT);
  CHECK(changed(true, false) == SIGABRT);
  CHECK(changed(true, true) == 0);
}

TEST_CASE("protected device: what is downloaded arrives with the synchronization", "[protected]") {
  ProtectedDevice device;
  Memory memory(device, false);
  const Tensor x = memory.make("x", Dtype::I32, {2});
  const int32_t sent[2] = {5, 6};
  int32_t got[2] = {0, 0};
  device.copy(x.data, sent, sizeof sent, {});
  device.copy(got, x.data, sizeof got, {});
  CHECK(got[0] == -1);
  device.synchronize({});
  CHECK((got[0] == 5 && got[1] == 6));
  const auto event = device.event();
  event->wait();  // never recorded: reached
  device.copy(got, x.data, sizeof got, device.streams().side);
  event->record(device.streams().side);
  device.synchronize({});  // another stream's
  CHECK(got[1] == -1);
  event->wait();
  CHECK(got[1] == 6);
}

TEST_CASE("protected device: a stream sees another's copies behind an event alone", "[protected]") {
  ProtectedDevice device;
  Memory memory(device, false);
  Scratch scratch;
  Ctx c(device, scratch, true);
  const auto x = memory.make("x", Dtype::F32, {1}), y = memory.make("x", Dtype::F32, {1}),
             z = memory.make("x", Dtype::F32, {1});
  const float sent = 3;
  const Stream side = device.streams().side;
  const auto copied_on_side = [&](bool ordered) {
    c(ops::Fill{.y = x, .value = 1});
    device.copy(x.data, &sent, sizeof sent, {});
    const auto event = device.event();
    event->record({});
    if (ordered) event->hold(side);
    float got = 0;
    device.copy(&got, x.data, sizeof got, side);
    device.synchronize(side);
    device.synchronize({});
    return got;
  };
  CHECK(copied_on_side(false) == 1.f);
  CHECK(copied_on_side(true) == 3.f);
  // A fork has its events: the second branch reads what came before it, and what follows reads both.
  device.copy(x.data, &sent, sizeof sent, {});
  c.fork([&] { c(ops::Copy{.y = y, .x = x}); }, [&] { c(ops::Copy{.y = z, .x = x}); });
  CHECK(memory.transfer().read(y) + memory.transfer().read(z) == 6.0);
}

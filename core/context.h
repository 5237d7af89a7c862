// The gateway. Ops are not called, they are handed to the context, and only here is decided what
// becomes of an op: run it, skip it (replay, outputs kept), count it (plan), and show it to an
// observer (time, NaN hunt). Before an op is run or counted its check() sees to dtypes and
// shapes, so kernels take them for granted; what an op throws names the layer and the op.
#pragma once

#include "core/memory.h"
#include "core/ops.h"
#include "core/platform.h"

#include <map>
#include <string>
#include <type_traits>
#include <vector>

namespace ft {

// What an observer sees of an op: its outputs.
struct Seen {
  const char* name;
  Tensor tensor;
};

// Looks at ops as they run: core/observe.h has the profile and the NaN hunt.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void before(const std::string& where, const char* op) = 0;
  virtual void after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
                     double flops, double bytes) = 0;
};

// What a counting pass adds up.
struct Tally {
  int64_t ops = 0;
  double flops = 0;  // of all ops, as executed
  double bytes = 0;
  double link_bytes = 0;  // that go to other ranks
  // Of a counting pass only:
  double model_flops = 0;                     // of the ops that make up a model's, without padding
  std::map<std::string, double> flops_by_op;  // model_flops where an op has them, else flops
  WorkspaceNeed workspaces;
};

// "model.layers.3." begins names of parameters; alone it is shown without its point.
std::string layer_label(std::string where);
// Throws the error that is being handled again, its message naming the layer and the op.
[[noreturn]] void rethrow_of(const std::string& where, const char* op, const Error& error);

// Ops that talk over a group (parallel/collectives.h) run themselves; a backend runs the others.
template <class Op>
inline constexpr bool kTalks = requires(const Op& op, Stream stream) {
  op.run(stream);
};

class Ctx {
 public:
  // execute = false: ops are only counted.
  Ctx(Device& device, Scratch& scratch, bool execute)
      : device(device), scratch(scratch), execute_(execute) {}

  Device& device;
  Scratch& scratch;
  Grad grad = Grad::Overwrite;  // of weight gradients: the first micro-batch of a step overwrites
  bool replay = false;          // forward again, to refill slots that were not kept
  std::string where;            // label of the layer at work, for messages
  Observer* observer = nullptr;
  Tally tally;

  template <class Op>
  void operator()(const Op& op) {
    static_assert(ops::All::has<Op> || kTalks<Op>,
                  "an op of a backend that is missing in ops::All (core/ops.h)");
    if (replay && outputs_kept(op)) return;
    try {
      op.check();
      ++tally.ops;
      tally.flops += op.flops();
      tally.bytes += bytes_of(op);
      if constexpr (kTalks<Op>) tally.link_bytes += op.link_bytes();
      execute_ ? execute(op) : count(op);
    } catch (const Error& error) {
      rethrow_of(where, Op::kName, error);
    }
  }

  Temp temp(Dtype dtype, std::initializer_list<int64_t> shape) {
    return Temp(scratch, dtype, shape);
  }

  // Two branches that do not depend on each other, at once where the device has a stream for each.
  template <class A, class B>
  void fork(A&& a, B&& b) {
    scratch.open_fork();
    const Stream before = stream_, side = device.streams().side;
    if (!execute_ || side == before) {
      a(), b();
    } else {
      const auto order = device.event();  // b waits for what came before the fork, then all for b
      order->record(before), order->hold(side);
      a();
      stream_ = side, b(), stream_ = before;
      order->record(side), order->hold(before);
    }
    scratch.close_fork();
  }

  bool executes() const { return execute_; }

 private:
  template <class Op>
  void execute(const Op& op) {
    if (observer) observer->before(where, Op::kName);
    if constexpr (kTalks<Op>) {
      talk(op);
    } else if constexpr (kBuiltWithCuda) {
      if (device.kind() == DeviceKind::Cuda) cuda::run(op, stream_);
      else run_on_cpu(op);
    } else {
      run_on_cpu(op);
    }
    if (observer) observer->after(where, Op::kName, outputs(op), op.flops(), bytes_of(op));
  }
  template <class Op>
  void talk(const Op& op) {
    if (device.kind() != DeviceKind::Cpu) return op.run(stream_);
    const HostAccess access(device, stream_);  // MPI reads and writes until the last part is there
    op.run(stream_);
  }
  template <class Op>
  void run_on_cpu(const Op& op) {
    const HostAccess access(device, stream_);
    cpu::run(op, stream_);
  }
  template <class Op>
  static bool outputs_kept(const Op& op) {
    bool any = false, all = true;
    op.args([&](const char*, const auto& a) {
      if constexpr (std::is_base_of_v<Out, std::decay_t<decltype(a)>>) any |= a.kept, all &= a.kept;
    });
    FT_CHECK(any == all, "op {}: some of its outputs survive until backward and some do not",
             Op::kName);
    return all;
  }
  template <class Op>
  void count(const Op& op) {
    if constexpr (requires { op.model_flops(); }) {
      tally.model_flops += op.model_flops();
      tally.flops_by_op[Op::kName] += op.model_flops();
    } else {
      tally.flops_by_op[Op::kName] += op.flops();
    }
    if constexpr (!kTalks<Op>) {
      if (device.kind() == DeviceKind::Cpu) cpu::need(op, tally.workspaces);
      else if constexpr (kBuiltWithCuda) cuda::need(op, tally.workspaces);
    }
  }
  template <class Op>
  static double bytes_of(const Op& op) {
    if constexpr (requires { op.touched(); }) return op.touched();
    double bytes = 0;
    op.args([&](const char*, const auto& a) {
      bytes += static_cast<double>(a.bytes()) *
               (std::is_same_v<std::decay_t<decltype(a)>, InOut> ? 2 : 1);
    });
    return bytes;
  }
  template <class Op>
  static std::vector<Seen> outputs(const Op& op) {
    std::vector<Seen> seen;
    op.args([&](const char* name, const auto& a) {
      if constexpr (std::is_base_of_v<Out, std::decay_t<decltype(a)>>) seen.push_back({name, a});
    });
    return seen;
  }

  bool execute_;
  Stream stream_;
};

}  // namespace ft

// The yardstick of MFU: what the processors of a run do in large matrix products of the run's own
// precision. It is measured once in the life of a run and kept in runs/NAME/yardstick.json, so that
// MFU is one curve over all resumes; on other processors, ranks or threads it is measured anew.
#pragma once

#include "app/machine/ranks.h"
#include "core/device.h"

#include <limits>
#include <string>

namespace ft {

struct Yardstick {
  double flops = std::numeric_limits<double>::quiet_NaN();  // a second, of all ranks; NaN: unknown
  std::string precision = "fp32";
  std::string machine;        // processor, precision, ranks and threads that it holds for
  std::string history;        // where a resume did not measure, or measured anew: why; else empty
  std::string words() const;  // for the start of a run; empty where it is unknown
};

// Collective. `folder`: of the run; resumed: it goes on from a checkpoint. Unknown where log.mfu is
// false and on a device other than a CPU. Measuring takes one to two seconds, and memory of the
// device that is given back.
Yardstick yardstick_of(World& world, Device& device, const Config& config, const Ranks& ranks,
                       const std::string& folder, bool resumed);
// Writes it into the run's folder, which exists; rank 0's work. Nothing where it is unknown.
void keep(const Yardstick& yardstick, const std::string& folder);

}  // namespace ft

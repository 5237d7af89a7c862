// The ranks of a run on their machines: the threads that each computes with, the memory that each
// may take.
#pragma once

#include "app/config/config.h"
#include "core/device.h"
#include "parallel/comm/comm.h"

#include <cstdint>
#include <string>

namespace ft {

struct Ranks {
  int count = 1;
  int threads = 0;                      // of this rank; 0: what run.threads means in this process
  int most = 0;                         // of any rank; 0: as `threads`
  int64_t memory = 0;                   // bytes, the least share of any rank; 0: not asked
  DeviceKind device = DeviceKind::Cpu;  // whose memory that is
  std::string words;                    // "2 a rank (4 cores shared by 2 ranks)"
  // What is planned with, equal on all ranks.
  int planned() const { return most > 0 ? most : threads; }
};

// What so many ranks compute on: run.device; auto: a GPU where there is one.
DeviceKind device_of(const RunConfig& run, int ranks);

// Of the ranks of this world, who see on which cores the others of their machine are. Collective.
Ranks ranks_of(World& world, const RunConfig& run);
// Of so many ranks on this machine, whoever started this process.
Ranks planned_ranks(const RunConfig& run, int count);

}  // namespace ft

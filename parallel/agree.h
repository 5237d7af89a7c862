// Ranks that hold different things would train apart, or end in MPI's own words.
#pragma once

#include "parallel/comm/comm.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct Fact {
  std::string name;  // "configuration", "data", ...
  std::string text;  // lines; of a map in YAML the message tells the path of what differs
  std::string fix;   // what to do where it differs
};

// 16 digits that stand for bytes too many to compare.
class Digest {
 public:
  void add(const void* data, size_t bytes);
  std::string text() const;

 private:
  uint64_t hash_ = 0;
};

// Collective. Where the ranks' facts differ, all of them throw the same SharedError (exit code 2):
// "optimizer.lr: 0.001 on rank 0, 0.002 on rank 1; FIX". Texts are compared by hash and travel only
// when they differ.
void agree(Group& group, const std::vector<Fact>& facts);

// The first line in which two texts differ, as it is told: "PATH: A on rank 0, B on rank N".
std::string difference(const std::string& first, const std::string& other, int rank);

}  // namespace ft

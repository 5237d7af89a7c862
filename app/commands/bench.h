// bench: each op of a model, and whole steps, against what the machine can do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct BenchOptions {
  std::vector<std::string> configs;  // empty: Tiny-90M and the quickstart model
  std::vector<std::string> sets;
  int64_t tokens = 512;  // of a sequence
  int64_t sequences = 1;
  int64_t documents = 0;  // tokens of each that the sequences are packed from; 0: one a sequence
  std::string filter;     // only ops whose name or shape holds this text
  double seconds = 2;     // of measuring, a configuration
  std::string precision = "fp32";
  int threads = 0;    // 0: as training would take
  bool step = false;  // whole steps instead of single ops
  std::string json;   // file for the numbers; "-": standard output, without tables
};

// Every op that one optimizer step runs is timed where it runs, forward, backward and optimizer, so
// an op that is added to the model is measured without a line here. Its floor is the larger of its
// FLOPs over the matrix-product ceiling and its bytes over the copy ceiling; an op whose operands
// stay in a cache may run below the latter.
int bench(const BenchOptions& options);

}  // namespace ft

// Where the data stream of a run stands. A value: prefetching works on a copy.
#pragma once

#include "data/order.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ft {

struct SourcePosition {
  Cursor cursor;         // tokens -1: as read from a checkpoint that does not say it
  std::string identity;  // of the files
  // What the order is a function of beside seed and epoch: the name that the source had at first.
  std::string key;
};

// From sample `sample` of the run on, sources were mixed like this.
struct BlendRecord {
  int64_t sample = 0;
  int64_t sequence_length = 0;
  std::map<std::string, double> weights;  // by source, sum 1
};

struct Position {
  uint64_t seed = 0;
  int64_t samples = 0;  // given so far
  std::map<std::string, SourcePosition>
      sources;  // by name; sources that left the blend keep theirs
  std::vector<BlendRecord> history;
  std::map<std::string, int64_t> taken;  // samples of each source since the blend began
};

std::string position_text(const Position& position);  // JSON
Position parse_position(const std::string& text);     // throws ConfigError

// Enters a blend into the history where it differs from the present one. Other weights start the
// counts `taken` afresh; another sequence length alone does not.
void enter_blend(Position& position, const BlendRecord& blend);

}  // namespace ft

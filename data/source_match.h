// Which sources of a checkpoint those of a run are: the same files under any name and in any place.
#pragma once

#include "data/position.h"

#include <functional>
#include <string>
#include <vector>

namespace ft {

struct PresentSource {
  std::string name, path;
  std::string identity;
  std::function<std::string()> sparse_identity;  // as the first checkpoints have it
};

// How the sources differ from those that the checkpoint's blend had.
struct SourceChanges {
  std::vector<std::string> added, removed;
  struct Renamed {
    std::string from, to;
  };
  std::vector<Renamed> renamed;
  // A line each: what it is, and what becomes of it.
  std::vector<std::string> lines() const;
};

// Gives a checkpoint's sources the names of the present ones that have the same files; cursor, key
// of the order, and place in the blend stay. Present sources that the checkpoint does not know
// begin at their start. A source is the same by its files first; of several with equal files, by
// its name, then by the end of its path. Throws ConfigError where a source of the same name has
// other files.
SourceChanges match_sources(Position& position, const std::vector<PresentSource>& present);

}  // namespace ft

#include "data/source_match.h"

#include "core/check.h"
#include "data/tokens.h"

#include <algorithm>
#include <map>
#include <set>

namespace ft {

namespace {

bool same_files(const std::string& saved, const PresentSource& source) {
  return saved == (is_sparse_identity(saved) ? source.sparse_identity() : source.identity);
}

size_t common_end(const std::string& a, const std::string& b) {
  const auto ends = std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend());
  return static_cast<size_t>(ends.first - a.rbegin());
}

// Renames the keys of a map at once, so that two may change places.
template <class Value>
void rename(std::map<std::string, Value>& all, const std::map<std::string, std::string>& names) {
  std::map<std::string, Value> renamed;
  for (auto& [name, value] : all) {
    const auto found = names.find(name);
    renamed.emplace(found == names.end() ? name : found->second, std::move(value));
  }
  all = std::move(renamed);
}

// From the checkpoint's names to the present ones.
using Names = std::map<std::string, std::string>;

Names match(const Position& p, const std::vector<PresentSource>& present) {
  Names names;
  std::set<std::string> found;
  for (const PresentSource& source : present) {
    const auto saved = p.sources.find(source.name);
    if (saved == p.sources.end() || !same_files(saved->second.identity, source)) continue;
    names[source.name] = source.name;
    found.insert(source.name);
  }
  for (const PresentSource& source : present) {
    if (found.contains(source.name)) continue;
    std::string best;
    size_t longest = 0;
    for (const auto& [name, saved] : p.sources) {
      if (names.contains(name) || !same_files(saved.identity, source)) continue;
      const size_t length = common_end(name, source.name) + 1;
      if (length > longest) best = name, longest = length;
    }
    if (longest == 0) continue;
    names[best] = source.name;
    found.insert(source.name);
  }
  return names;
}

}  // namespace

std::vector<std::string> SourceChanges::lines() const {
  std::vector<std::string> lines;
  for (const Renamed& r : renamed)
    lines.push_back(fmt::format("data source '{}' -> '{}': the same files, read on", r.from, r.to));
  for (const std::string& name : added)
    lines.push_back(fmt::format("data source '{}' is new: it begins at its start", name));
  for (const std::string& name : removed)
    lines.push_back(fmt::format("data source '{}' is left out from here on", name));
  return lines;
}

SourceChanges match_sources(Position& p, const std::vector<PresentSource>& present) {
  Names names = match(p, present);
  std::set<std::string> taken;
  for (const auto& [from, to] : names) taken.insert(to);
  for (const PresentSource& source : present) {
    const auto saved = p.sources.find(source.name);
    if (saved == p.sources.end() || names.contains(source.name)) continue;
    FT_CHECK_CONFIG(
        taken.contains(source.name),
        "data source '{}': {}.bin, .idx or .mask.bin changed since the checkpoint ({} then, {} "
        "now: sizes and hashes); "
        "bring the old files back, or give the new ones another name to start them afresh",
        source.name, source.path, saved->second.identity, source.identity);
    // A source that left, whose name another one has now.
    names[source.name] = fmt::format("{} ({})", source.name, saved->second.identity);
  }
  SourceChanges changes;
  std::set<std::string> blended;
  if (!p.history.empty())
    for (const auto& [name, _] : p.history.back().weights) blended.insert(name);
  for (const auto& [from, to] : names)
    if (from != to && taken.contains(to)) changes.renamed.push_back({from, to});
  for (const std::string& name : blended)
    if (!names.contains(name) || !taken.contains(names.at(name))) changes.removed.push_back(name);

  for (auto& [name, source] : p.sources)
    if (source.key.empty()) source.key = name;
  rename(p.sources, names);
  rename(p.taken, names);
  for (BlendRecord& blend : p.history) rename(blend.weights, names);
  for (const PresentSource& source : present) {
    const bool known = p.sources.contains(source.name);
    SourcePosition& position = p.sources[source.name];
    if (!known) position.key = source.name;
    if (!known) changes.added.push_back(source.name);
    position.identity = source.identity;
  }
  return changes;
}

}  // namespace ft

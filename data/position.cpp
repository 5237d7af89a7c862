#include "data/position.h"

#include "core/check.h"

#include <nlohmann/json.hpp>

namespace ft {

using nlohmann::json;

std::string position_text(const Position& p) {
  json sources = json::object(), history = json::array();
  for (const auto& [name, s] : p.sources)
    sources[name] = {{"epoch", s.cursor.epoch},   {"document", s.cursor.document},
                     {"offset", s.cursor.offset}, {"tokens", s.cursor.tokens},
                     {"identity", s.identity},    {"key", s.key}};
  for (const BlendRecord& b : p.history)
    history.push_back(
        {{"sample", b.sample}, {"sequence_length", b.sequence_length}, {"weights", b.weights}});
  const json all = {{"seed", p.seed},
                    {"samples", p.samples},
                    {"sources", sources},
                    {"history", history},
                    {"taken", p.taken}};
  return all.dump();
}

Position parse_position(const std::string& text) {
  Position p;
  try {
    const json all = json::parse(text);
    p.seed = all.at("seed").get<uint64_t>();
    p.samples = all.at("samples").get<int64_t>();
    for (const auto& [name, s] : all.at("sources").items())
      p.sources[name] = {{s.at("epoch").get<int64_t>(), s.at("document").get<int64_t>(),
                          s.at("offset").get<int64_t>(), s.value("tokens", int64_t{-1})},
                         s.at("identity").get<std::string>(),
                         s.value("key", name)};
    for (const json& b : all.at("history"))
      p.history.push_back({b.at("sample").get<int64_t>(), b.at("sequence_length").get<int64_t>(),
                           b.at("weights").get<std::map<std::string, double>>()});
    p.taken = all.at("taken").get<std::map<std::string, int64_t>>();
  } catch (const json::exception& e) {
    throw ConfigError(fmt::format("the checkpoint's data state is damaged: {}", e.what()));
  }
  for (const auto& [name, s] : p.sources)
    FT_CHECK_CONFIG(s.cursor.epoch >= 0 && s.cursor.document >= 0 && s.cursor.offset >= 0,
                    "the checkpoint's data state is damaged: the cursor of source '{}' is negative",
                    name);
  return p;
}

void enter_blend(Position& p, const BlendRecord& blend) {
  const bool same_weights = !p.history.empty() && p.history.back().weights == blend.weights;
  if (same_weights && p.history.back().sequence_length == blend.sequence_length) return;
  if (!same_weights) {
    p.taken.clear();
    for (const auto& [name, weight] : blend.weights) p.taken[name] = 0;
  }
  // A blend that gave no sample leaves no trace.
  if (!p.history.empty() && p.history.back().sample == p.samples) p.history.pop_back();
  p.history.push_back(blend);
  p.history.back().sample = p.samples;
}

}  // namespace ft

#include "app/run/resume_changes.h"

#include "app/machine/build_info.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

namespace ft {

namespace {

using Flat = std::map<std::string, std::string>;
const std::string kNone = "(none)";

// A value on one line.
std::string short_text(const OptionNode& node) {
  if (node.is_null()) return "null";
  if (node.is_scalar()) return node.scalar();
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (node.is_list()) {
    for (const OptionNode& item : node.items()) add(short_text(item));
    return "[" + text + "]";
  }
  for (const std::string& key : node.keys()) add(key + ": " + short_text(node.at(key)));
  return "{" + text + "}";
}

// Sources have names, which stay when their order changes; other lists are one value.
bool has_names(const OptionNode& list) {
  const auto items = list.items();
  return !items.empty() && std::all_of(items.begin(), items.end(), [](const OptionNode& item) {
    return item.is_map() && item.at("name").present();
  });
}

void flatten(const OptionNode& node, const std::string& path, Flat& into) {
  if (node.is_map()) {
    for (const std::string& key : node.keys())
      flatten(node.at(key), path.empty() ? key : path + "." + key, into);
  } else if (node.is_list() && has_names(node)) {
    for (const OptionNode& item : node.items())
      flatten(item, path + "[" + item.at("name").scalar() + "]", into);
  } else if (!node.is_list() || !node.items().empty()) {
    into[path] = short_text(node);
  }
}

Flat settings(const Config& config, const std::string& where) {
  Flat flat;
  flatten(OptionNode::parse(config_text(config), where), "", flat);
  flat.erase("model.init_from");  // of the first start alone
  return flat;
}

// Two may have changed places.
Flat under_present_names(const Flat& then, const SourceChanges& sources) {
  Flat flat;
  for (const auto& [path, value] : then) {
    std::string present = path;
    for (const auto& [from, to] : sources.renamed)
      if (const std::string old = fmt::format("data.train[{}]", from); path.starts_with(old))
        present = fmt::format("data.train[{}]{}", to, path.substr(old.size()));
    flat.emplace(present, value);
  }
  return flat;
}

void compare(const Flat& then, const Flat& now, std::vector<Change>& changes) {
  Flat all = then;
  all.insert(now.begin(), now.end());
  for (const auto& [what, ignored] : all) {
    const auto before = then.find(what), after = now.find(what);
    const std::string from = before == then.end() ? kNone : before->second,
                      to = after == now.end() ? kNone : after->second;
    if (from != to) changes.push_back({what, from, to});
  }
}

// Settings that say nothing of the numbers; a name that ends with a dot or bracket stands for all
// behind it.
constexpr std::array kHarmless = {
    "run.name",  "run.directory",  "run.threads",   "run.timeout",     "run.stop_before",
    "validate.", "checkpoint.",    "log.",          "train.recompute", "data.validation",
    "data.read", "data.tokenizer", "libraries.MPI", "threads"};

bool length_matters(const Config& config) {
  const auto& s = config.schedule;
  const std::string decay = s.weight_decay.type;
  return (s.type != "constant" && s.type != "points") ||
         (decay != "auto" && decay != "constant" && decay != "points" && decay != "lr");
}

}  // namespace

State process_facts(const Device& device, int ranks, int threads) {
  auto build = build_libraries();
  return {{"machine", device.description()},
          {"build", build["falcon-train"] + ", " + build["build"] + ", " + build["compiler"]},
          {"libraries.matrix products", build["matrix products"]},
          {"libraries.MPI", build["MPI"]},
          {"ranks", std::to_string(ranks)},
          {"threads", std::to_string(threads)}};
}

std::vector<Change> changes_since(const State& saved, const std::string& where,
                                  const Config& config, const State& facts,
                                  const SourceChanges& sources) {
  std::vector<Change> changes;
  const Config then = parse_config(saved.at("config"), where);
  compare(under_present_names(settings(then, where), sources), settings(config, "this run"),
          changes);
  for (const auto& [what, now] : facts) {
    const auto then = saved.find(what);
    if (then != saved.end() && then->second != now) changes.push_back({what, then->second, now});
  }
  return changes;
}

std::vector<std::string> not_bitwise(const std::vector<Change>& changes, const Config& config) {
  std::vector<std::string> found;
  for (const Change& change : changes) {
    const bool harmless = std::any_of(kHarmless.begin(), kHarmless.end(), [&](const char* name) {
      return change.what.starts_with(name);
    });
    // Of the same files: others count as another source, which has a weight.
    const bool place = change.what.starts_with("data.train[") &&
                       (change.what.ends_with("].path") || change.what.ends_with("].name"));
    const bool longer = change.what == "train.tokens" && !length_matters(config);
    if (!harmless && !place && !longer) found.push_back(change.what);
  }
  return found;
}

}  // namespace ft

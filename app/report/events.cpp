#include "app/report/events.h"

#include "app/run/metrics.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace ft {

using nlohmann::json;

namespace {

std::string text_at(const json& row, const char* key) {
  const auto at = row.find(key);
  if (at == row.end() || at->is_null()) return "";
  return at->is_string() ? at->get<std::string>()
                         : at->dump(-1, ' ', false, json::error_handler_t::replace);
}

double number_at(const json& row, const char* key) {
  const auto at = row.find(key);
  return at != row.end() && at->is_number() ? at->get<double>() : kUnknown;
}

std::string before(const char* words, const std::string& text) {
  return text.empty() ? "" : words + text;
}

std::string changes(const json& row) {
  const auto list = row.find("changed");
  if (list == row.end() || !list->is_array()) return "";
  std::string text;
  for (const json& one : *list)
    if (one.is_object())
      text += fmt::format("; {}: {} -> {}", text_at(one, "what"), text_at(one, "from"),
                          text_at(one, "to"));
  return text;
}

// What an event says in a list and on a plot.
std::string words(const std::string& name, const json& row) {
  const std::string why = text_at(row, "why"), path = text_at(row, "path");
  const std::string action = before(", action: ", text_at(row, "action"));
  if (name == "start")
    return number_at(row, "step") > 0
               ? "resumed " + text_at(row, "time") + before(" from ", text_at(row, "resumed_from"))
               : "started " + text_at(row, "time");
  if (name == "resume") {
    const std::string bitwise = text_at(row, "bitwise");
    return "resumed" + before(" from ", text_at(row, "from")) + changes(row) +
           (bitwise.empty() || bitwise == "yes" ? "" : "; not bit for bit: " + bitwise);
  }
  if (name == "init_from") return "weights from " + path;
  if (name == "moved")
    return fmt::format("{} was moved to {}{}", text_at(row, "from"), text_at(row, "to"),
                       before(": ", why));
  if (name == "save") {
    const double seconds = number_at(row, "seconds");
    return "saved" + before(" ", path) +
           (seconds >= 0 ? fmt::format(" in {:.1f} s", seconds) : std::string());
  }
  if (name == "save_failed")
    return "a save failed" + before(": ", why) + before("; ", text_at(row, "next"));
  if (name == "removal") return "removed" + before(" ", path) + before(": ", why);
  if (name == "spike") return "spike" + before(": ", why) + action;
  if (name == "non_finite") return "not finite" + before(": ", why) + action;
  if (name == "no_labels") return "the step had no label that counts";
  if (name == "skip") return "step left out" + before(": ", why);
  if (name == "validation_failed")
    return "validation failed" + before(" on ", text_at(row, "set")) + before(": ", why);
  if (name == "failure") {
    const double rank = number_at(row, "rank");
    return "failed" + before(": ", text_at(row, "message")) +
           (rank >= 0 ? fmt::format(" (rank {:.0f})", rank) : std::string());
  }
  if (name == "stop") return "stopped" + before(" by ", why) + before(", saved as ", path);
  if (name == "done") return "done" + before(", saved as ", path);
  return name + before(": ", why);
}

}  // namespace

void EventLog::add(const json& row) {
  RunEvent event{.step = static_cast<int64_t>(number_at(row, "step")),
                 .time = text_at(row, "time"),
                 .name = text_at(row, "event")};
  if (event.name.empty()) return;
  event.text = words(event.name, row);
  if (event.name == "start") {
    life_ = events_.size();
    for (RunEvent& earlier : events_) earlier.left |= earlier.step > event.step;
  }
  events_.push_back(std::move(event));
}

void EventLog::add_skip(int64_t step) {
  const bool told = std::any_of(events_.begin(), events_.end(), [&](const RunEvent& e) {
    return e.step == step && e.name == "skip" && !e.left;
  });
  if (!told) events_.push_back({.step = step, .time = "", .name = "skip", .text = "step left out"});
}

std::string EventLog::ending(int64_t last_step, double age, double fresh) const {
  const RunEvent* failure = nullptr;  // the first of this life: others follow from it
  for (size_t i = life_; i < events_.size(); ++i) {
    const RunEvent& e = events_[i];
    if (e.name == "done") return "done";
    if (e.name == "stop") return e.text + fmt::format(" after step {}; can be resumed", e.step);
    if (e.name == "failure" && !failure) failure = &e;
  }
  if (failure) return fmt::format("{}, after step {}", failure->text, last_step);
  if (age <= fresh) return fmt::format("in progress, last heard of {} ago", duration(age));
  return fmt::format(
      "ended without a word after step {}: nothing was written for {}; killed, or the machine went "
      "down",
      last_step, duration(age));
}

}  // namespace ft

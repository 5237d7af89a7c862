// events.jsonl for people: what happened in a run, what of it the plots mark, and how it ended.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct RunEvent {
  int64_t step = 0;
  std::string time, name;  // as in app/run/run_folder.h
  std::string text;        // for people
  bool left = false;       // of a course that a later start, from an earlier step, has left
};

class EventLog {
 public:
  void add(const nlohmann::json& row);  // an object with a step, in the order of the file
  // Of a step that metrics.jsonl shows as left out, where no event tells of it.
  void add_skip(int64_t step);
  const std::vector<RunEvent>& events() const { return events_; }
  // `age`: seconds since the run wrote anything; `fresh`: as long as that is no wonder.
  std::string ending(int64_t last_step, double age, double fresh) const;

 private:
  std::vector<RunEvent> events_;
  size_t life_ = 0;  // index of the last start
};

}  // namespace ft

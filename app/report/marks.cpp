// What happened in a run: marks on its plots, and a list.
#include "app/report/parts.h"

#include <fmt/format.h>

#include <algorithm>

namespace ft {

namespace {

constexpr size_t kMostLines = 200, kMostTeeth = 300;  // on a chart; more would hide it
constexpr size_t kMostRows = 1000;                    // of the list: the last so many

struct Kind {
  const char* name;
  int colour;  // of the page's ten; -1: not marked
  bool small;
};
constexpr Kind kKinds[] = {{"failure", 3, false},
                           {"non_finite", 3, false},
                           {"spike", 1, false},
                           {"skip", 1, false},
                           {"no_labels", 1, false},
                           {"save_failed", 1, false},
                           {"validation_failed", 1, false},
                           {"resume", 0, false},
                           {"stop", 4, false},
                           {"save", 2, true},
                           {"done", -1, true},
                           {"removal", -1, true},
                           {"init_from", -1, true},
                           {"moved", -1, true}};

Kind kind_of(const RunEvent& event) {
  if (event.name == "start") return {"start", event.step > 0 ? 0 : -1, false};
  for (const Kind& kind : kKinds)
    if (event.name == kind.name) return kind;
  return {"", 8, false};  // of a later version
}

// A resumed run has two events at one place; the second tells more.
bool told_again(const std::vector<RunEvent>& events, size_t i) {
  return events[i].name == "start" && i + 1 < events.size() && events[i + 1].name == "resume";
}

}  // namespace

std::vector<Mark> marks_of(const RunData& run) {
  std::vector<Mark> lines, teeth;
  for (size_t i = 0; i < run.events.size(); ++i) {
    const RunEvent& event = run.events[i];
    const Kind kind = kind_of(event);
    if (kind.colour < 0 || event.left || told_again(run.events, i)) continue;
    (kind.small ? teeth : lines)
        .push_back({static_cast<double>(event.step), event.text, kind.colour, kind.small});
  }
  const size_t every = std::max<size_t>(1, (teeth.size() + kMostTeeth - 1) / kMostTeeth);
  std::vector<Mark> marks;
  for (size_t i = 0; i < teeth.size(); i += every) marks.push_back(teeth[i]);
  if (lines.size() > kMostLines) lines.resize(kMostLines);
  marks.insert(marks.end(), lines.begin(), lines.end());
  return marks;
}

std::string events_html(const RunData& run) {
  if (run.events.empty()) return "";
  const size_t first = run.events.size() > kMostRows ? run.events.size() - kMostRows : 0;
  std::string rows;
  size_t marked = 0;
  for (size_t i = first; i < run.events.size(); ++i) {
    const RunEvent& event = run.events[i];
    if (told_again(run.events, i)) continue;
    const Kind kind = kind_of(event);
    marked += kind.colour >= 0 && !kind.small;
    rows += fmt::format(
        "<tr{}><td class=num>{}</td><td><span class='swatch{}'></span>{}</td><td>{}</td>"
        "<td class=text>{}</td></tr>\n",
        event.left
            ? " class=left title='of a course that was left: the run went on from an earlier "
              "step'"
            : "",
        event.step, kind.colour >= 0 ? fmt::format(" b{}", kind.colour) : std::string(),
        html_text(event.name), html_text(event.time), html_text(event.text));
  }
  return fmt::format(
      "<details{}><summary>Events: {}{}</summary>\n<div class=wide><table>\n<tr class=head><th "
      "class=num>step</th><th>event</th><th>time (UTC)</th><th></th></tr>\n{}</table></div>"
      "</details>\n",
      marked > 0 && marked <= 12 ? " open" : "", run.events.size(),
      first > 0 ? fmt::format(", the last {} of them", kMostRows) : std::string(), rows);
}

}  // namespace ft

#include "app/run/metrics.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace ft {

using nlohmann::ordered_json;

namespace {

ordered_json number(double value) {  // strict JSON has no NaN
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json numbers(const std::map<std::string, double>& values) {
  ordered_json object = ordered_json::object();
  for (const auto& [name, value] : values) object[name] = number(value);
  return object;
}

// Names come from users: bytes that are not UTF-8 must not end a run.
std::string text_of(const ordered_json& object) {
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace

std::string json_line(const StepRecord& r) {
  ordered_json object = {{"step", r.step},
                         {"tokens", r.tokens},
                         {"batch", r.batch},
                         {"labels", r.labels},
                         {"loss", number(r.loss)},
                         {"grad_norm", number(r.grad_norm)},
                         {"lr", number(r.lr)},
                         {"weight_decay", number(r.weight_decay)},
                         {"seconds", number(r.seconds)},
                         {"tokens_per_second", number(r.tokens_per_second)},
                         {"mfu", number(r.mfu)},
                         {"memory_planned_bytes", r.memory},
                         {"memory_peak_bytes", r.memory_peak},
                         {"skipped", r.skipped},
                         {"dt_max", number(r.dt_max)}};
  ordered_json sources = ordered_json::object();
  for (const auto& [name, s] : r.sources)
    sources[name] = {{"loss", number(s.loss)}, {"tokens", s.tokens}, {"epoch", number(s.epoch)}};
  object["sources"] = sources;
  if (!r.gradient_norms.empty()) object["gradient_norms"] = numbers(r.gradient_norms);
  if (!r.weight_norms.empty()) object["weight_norms"] = numbers(r.weight_norms);
  if (!r.dt_max_layers.empty()) {
    ordered_json layers = ordered_json::array();
    for (double value : r.dt_max_layers) layers.push_back(number(value));
    object["dt_max_layers"] = layers;
  }
  return text_of(object);
}

std::string json_line(const ValidationRecord& r) {
  return text_of({{"step", r.step},
                  {"validation", r.set},
                  {"loss", number(r.loss)},
                  {"tokens", r.tokens},
                  {"bits_per_byte", number(r.bits_per_byte)}});
}

void for_scalars(const StepRecord& r, const ScalarSink& f) {
  const auto show = [&](const std::string& tag, double value) {
    if (!std::isnan(value)) f(tag, value);
  };
  show("train/loss", r.loss);
  show("train/grad_norm", r.grad_norm);
  show("train/lr", r.lr);
  show("train/weight_decay", r.weight_decay);
  show("train/batch", static_cast<double>(r.batch));
  show("train/tokens", static_cast<double>(r.tokens));
  show("train/seconds", r.seconds);
  show("train/tokens_per_second", r.tokens_per_second);
  show("train/mfu", r.mfu);
  show("train/memory_peak_bytes", static_cast<double>(r.memory_peak));
  show("train/memory_planned_bytes", static_cast<double>(r.memory));
  show("train/skipped", r.skipped ? 1 : 0);
  show("train/dt_max", r.dt_max);
  for (const auto& [name, s] : r.sources) {
    show("sources/" + name + "/loss", s.loss);
    show("sources/" + name + "/tokens", static_cast<double>(s.tokens));
    show("sources/" + name + "/epoch", s.epoch);
  }
  for (const auto& [name, value] : r.gradient_norms) show("norms/gradient/" + name, value);
  for (const auto& [name, value] : r.weight_norms) show("norms/weight/" + name, value);
}

void for_scalars(const ValidationRecord& r, const ScalarSink& f) {
  if (!std::isnan(r.loss)) f("validation/" + r.set, r.loss);
}

std::string duration(double seconds) {
  // What is not known yet, or would overflow, is no duration.
  if (!(seconds < 1e12)) return "?";
  const auto s = static_cast<int64_t>(std::max(0.0, seconds));
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return s >= 60 ? fmt::format("{}m{:02}s", s / 60, s % 60) : fmt::format("{}s", s);
}

std::string rate_text(double rate) {
  if (rate >= 1e6) return fmt::format("{:.2f}M", rate * 1e-6);
  return rate >= 1e4 ? fmt::format("{:.1f}k", rate * 1e-3) : fmt::format("{:.0f}", rate);
}

std::string count_text(double count) {
  if (count >= 1e12) return fmt::format("{:.2f}T", count * 1e-12);
  if (count >= 1e9) return fmt::format("{:.2f}B", count * 1e-9);
  if (count >= 1e6) return fmt::format("{:.2f}M", count * 1e-6);
  return count >= 1e4 ? fmt::format("{:.1f}k", count * 1e-3) : fmt::format("{:.0f}", count);
}

std::string grouped_count(int64_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > (count < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string bytes_text(double bytes) {
  if (bytes >= 1 << 30) return fmt::format("{:.2f} GiB", bytes / (1 << 30));
  if (bytes >= 1 << 20) return fmt::format("{:.1f} MiB", bytes / (1 << 20));
  return fmt::format("{:.0f} bytes", bytes);
}

}  // namespace ft

// What a run left, read for the report: series of at most a few thousand points, however many
// steps.
#pragma once

#include "app/config/config.h"
#include "app/report/events.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// Values over x, in buckets that widen as more come: memory stays bounded. x may repeat or fall
// back (it then lands in the last bucket).
class Series {
 public:
  static constexpr size_t kMost = 2000;  // buckets
  struct Bucket {
    double x = 0;  // of its last value
    double sum = 0, low = 0, high = 0;
    int64_t count = 0;
    double mean() const { return sum / static_cast<double>(count); }
  };
  void add(double x, double value);  // values that are not finite are left out
  const std::vector<Bucket>& buckets() const { return buckets_; }
  bool empty() const { return buckets_.empty(); }
  double last() const { return last_; }
  double smallest() const;

 private:
  std::vector<Bucket> buckets_;
  int64_t per_bucket_ = 1;
  double last_ = 0;
};

struct RunData {
  std::string path, name;
  std::map<std::string, Series> steps;               // "loss", "lr", ...; app/run/metrics.h
  std::map<std::string, Series> validation;          // by set
  std::map<std::string, Series> gradients, weights;  // by class
  std::map<std::string, Series> source_loss, source_tokens, source_epoch;  // by source
  Series tokens_at;                                                        // tokens by step
  Series lr_by_tokens;
  int64_t rows = 0, damaged = 0, skipped = 0;  // steps, unreadable lines, steps left out
  int64_t last_step = 0, total_steps = 0;
  double tokens = 0, seconds = 0;
  double counted_seconds = 0, counted_tokens = 0, mfu_seconds = 0;  // warm-up steps left out
  std::vector<RunEvent> events;                                     // in the order of the file
  std::map<std::string, std::string> facts;                         // of the last start
  std::string state;  // how the run ended, or that it goes on
  std::optional<Config> config;
  std::string config_text;
  std::vector<std::string> notes;  // what could not be read
};

// Tokens that the run had seen after a step, between what its metrics say.
double tokens_at(const RunData& run, double step);

// Throws ConfigError where the folder is no run's; what is missing or damaged in it is noted.
RunData read_run(const std::string& path);

}  // namespace ft

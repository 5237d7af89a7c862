// The commands of falcon-train; each returns its exit code. main.cpp parses, these do.
#pragma once

#include "parallel/comm.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct TrainOptions {
  std::string config;
  std::vector<std::string> sets;
  std::string resume = "auto";  // auto | none | a checkpoint's path
  bool dry_run = false;
};
int train(World& world, const TrainOptions& options);

struct PlanOptions {
  std::string config;
  std::vector<std::string> sets;
  int world = 0;          // ranks; 0: as few as the layout needs
  double memory = 0;      // GiB a rank may take: exit code 2 where that is too little; 0: not asked
  bool schedule = false;  // also a table of learning rate, weight decay and batch
  bool multipliers = false;  // the closed-form multipliers of this shape alone
};
int plan(const PlanOptions& options);

struct ProbeOptions {
  std::string model, tokens, out;
  std::vector<std::string> sets;
  bool gradients = false;
  bool hidden = false;
};
int probe(World& world, const ProbeOptions& options);

struct GenerateOptions {
  std::string model, prompt;
  std::string tokenizer;  // "bytes", a tokenizer.json or its folder; empty: what the model says
  std::vector<int64_t> prompt_ids;
  int64_t tokens = 200;
  double temperature = 1;
  int64_t top_k = 0;  // 0: all
  double top_p = 1;
  uint64_t seed = 0;
  int64_t samples = 1;
  bool ignore_end = false;      // go on past the end of a document
  std::string format = "auto";  // auto | text | bytes | ids
  std::vector<std::string> sets;
};
int generate(const GenerateOptions& options);

struct ReportOptions {
  std::vector<std::string> runs;  // folders
  // "-": standard output; empty: report.html in the run's folder, for several compare.html here
  std::string out;
};
int report(const ReportOptions& options);

struct InspectOptions {
  std::string path;
  std::string tokenizer;  // to show tokens as text; empty: the one that the set names
  bool verify = false;
};
int inspect(const InspectOptions& options);

}  // namespace ft

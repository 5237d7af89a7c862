// evaluate: how well a model predicts token sets (by data set and by length of context), and the
// log-probabilities of given continuations, as evaluation harnesses ask.
#pragma once

#include "parallel/comm/comm.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct EvaluateOptions {
  std::string model;              // run, checkpoint or Hugging Face folder
  std::vector<std::string> data;  // PREFIX or NAME=PREFIX; empty: the run's validation sets
  std::vector<std::string> sets;  // --set
  int64_t sequence_length = 0;    // 0: the run's, or 2048 where there is none
  int64_t sequences = 0;          // of each set; 0: all
  int64_t batch = 0;              // rows at once; 0: about kTokensAtOnce tokens
  std::string json;               // file for the numbers; "-": standard output, without the table
  std::string score;              // JSONL of contexts and continuations: score these instead
  std::string out;                // JSONL of the scores; empty: standard output
  std::string tokenizer;          // "bytes", a tokenizer.json or its folder; empty: what is known
  int64_t max_length = 0;         // tokens of context and continuation; 0: what the model is for
};

// Collective. Rows, and lines to score, are dealt over the ranks; their number changes rounding
// only.
int evaluate(World& world, const EvaluateOptions& options);
// The scoring half (app/commands/score.cpp). A line of the input is
//   {"context": TEXT, "continuation": TEXT} or {"context_ids": [..], "continuation_ids": [..]},
// with an optional "id", which is kept; a line of the output, in the order of the input,
//   {"id", "logprob": sum over the continuation, "greedy": is it what greedy decoding would give,
//    "tokens": of the continuation, "truncated": tokens dropped from the left of the context}.
// Text is encoded as EleutherAI's harness does it: whitespace at the end of the context goes to the
// continuation; both are encoded as one text, and the continuation is what follows as many tokens
// as the context has alone.
int score(World& world, const EvaluateOptions& options);

inline constexpr int64_t kTokensAtOnce = 4096;

}  // namespace ft

// From a piece of an input file to tokens.
#pragma once

#include "app/commands/tokenize.h"
#include "data/text/tokenizer.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// What one thread encodes: a file, or where it is large and not packed a piece of it.
struct EncodeJob {
  std::string file;
  bool lines = false;  // JSONL: the lines that begin in [begin, end)
  int64_t begin = 0;
  int64_t end = -1;  // -1: to the end of the file, which is also the end of a text's document
};

struct Encoded {
  std::vector<uint16_t> bytes;    // tokens without a tokenizer
  std::vector<int32_t> ids;       // tokens with one
  std::vector<uint8_t> mask;      // of each token; empty where no prompt is left out
  std::vector<size_t> documents;  // where they end in the tokens
  size_t tokens() const { return bytes.size() + ids.size(); }
  int64_t text = 0;              // bytes of text in them
  int64_t consumed = 0;          // bytes of the file that this took
  std::vector<std::string> bad;  // what was left out: file, line, why
};

// How text becomes tokens. tokenizer: null for bytes.
struct Encoding {
  const TokenizeOptions& options;
  const Tokenizer* tokenizer;
  std::optional<int32_t> end;  // behind each document
};

// The jobs of a file, in order.
std::vector<EncodeJob> encode_jobs(const std::string& file, const Encoding& encoding);

// Gives the job's tokens in parts of about a million. Throws ConfigError: file, line, what is
// wrong. Safe to use from several threads.
void encode(const EncodeJob& job, const Encoding& encoding,
            const std::function<void(Encoded)>& give);

}  // namespace ft

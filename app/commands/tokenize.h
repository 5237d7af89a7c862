// tokenize: text, JSON Lines and folders to a token set. With the built-in byte tokenizer a byte is
// its own id, 256 ends a document, the vocabulary is 257; or with a tokenizer.json. The set is the
// same for any number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct TokenizeOptions {
  // Files and folders; .gz and .zst are unpacked, .jsonl and its like give a document a line.
  std::vector<std::string> inputs;
  std::string out;             // prefix: OUT.bin, OUT.idx, OUT.json
  std::string field = "text";  // of JSONL lines
  // Of files taken from folders, as "txt", before .gz or .zst; empty: all.
  std::vector<std::string> extensions = {};
  // A field of JSONL lines that goes before the other and does not count in the loss; writes
  // OUT.mask.bin. Empty: none.
  std::string prompt_field = {};
  int64_t threads = 0;               // 0: as many as cores, at most 16
  std::string tokenizer = {};        // a tokenizer.json or its folder; empty: bytes
  std::string end_of_document = {};  // see data/text/end_token.h
  // Lines that are no JSON or lack the field, texts that are not UTF-8 (with a tokenizer.json), and
  // what follows damage in a file are left out and counted; else the first of them is refused.
  bool skip_bad = false;
};

// Throws ConfigError before any work for wrong options, inputs and outputs (app/commands/tokenize_inputs.h).
void tokenize(const TokenizeOptions& options);

}  // namespace ft

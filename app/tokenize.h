// tokenize: text, JSONL and folders to a token set, with the built-in byte tokenizer: a byte is its
// own id, 256 ends a document, the vocabulary is 257. The set is the same for any number of
// threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct TokenizeOptions {
  std::vector<std::string>
      inputs;       // files and folders; .gz and .zst are unpacked, .jsonl gives a document a line
  std::string out;  // prefix: OUT.bin, OUT.idx, OUT.json
  std::string field = "text";  // of JSONL lines
  // Of files taken from folders, as "txt", before .gz or .zst; empty: all.
  std::vector<std::string> extensions = {};
  // A field of JSONL lines that goes before the other and does not count in the loss; writes
  // OUT.mask.bin. Empty: none.
  std::string prompt_field = {};
  int64_t threads = 0;  // 0: as many as cores, at most 16
};

void tokenize(const TokenizeOptions& options);

}  // namespace ft

// Where tokens come from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct DataSource {
  std::string name;   // default: the path
  std::string path;   // prefix: PATH.bin, PATH.idx and, if there, PATH.mask.bin
  double weight = 1;  // relative; training only
  bool operator==(const DataSource&) const = default;
};

struct DataConfig {
  int64_t sequence_length = 0;
  std::vector<DataSource> train;
  std::vector<DataSource> validation;
  bool isolate_documents = true;
  std::string read = "mmap";  // or pread; see data/data_file.h
  std::string tokenizer;      // "bytes", a path to tokenizer.json, or empty: what PATH.json says
  bool operator==(const DataConfig&) const = default;
};

}  // namespace ft

// Hugging Face's safetensors files: reading through mmap, writing with a known header.
// Format: u64 header length, JSON header {name: {dtype, shape, data_offsets}}, raw little-endian
// data.
#pragma once

#include "core/tensor.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ft {

// Where a tensor lies in a safetensors file.
struct TensorInfo {
  std::string dtype;  // as written: "F32", "BF16", "F16", "F64", "I64", "I32", "U8", ...
  std::vector<int64_t> shape;
  int64_t offset = 0;  // from the start of the file, in bytes
  int64_t bytes = 0;
  int64_t size() const;  // elements
};

// A read-only mapped file. Every offset, shape and length in the header is checked against the file
// when it is opened; throws ConfigError naming the file and what is wrong.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;

  const std::string& path() const;
  const std::map<std::string, TensorInfo>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;
  bool contains(const std::string& name) const;
  const TensorInfo& info(const std::string& name) const;  // throws, naming file and tensor
  const void* data(const std::string& name) const;        // may be unaligned
  // Elements [begin, begin + count) as fp32, from F32, BF16, F16 or F64.
  void read_f32(const std::string& name, int64_t begin, int64_t count, float* out) const;
  std::vector<float> read_f32(const std::string& name) const;
  std::vector<int64_t> read_i64(const std::string& name) const;  // from any integer dtype

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json names.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::string& folder);  // throws ConfigError: what is missing
  bool contains(const std::string& name) const;
  const SafetensorsFile& file_of(const std::string& name) const;  // throws, naming the tensor
  std::vector<std::string> names() const;                         // sorted

 private:
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> where_;
};

// What to write: dense data in host memory.
struct NamedTensor {
  std::string name;
  std::string dtype;  // "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  const void* data = nullptr;
  int64_t bytes = 0;
};
// The header bytes (length prefix included, data aligned to 64) and each tensor's offset in the
// file.
std::string safetensors_header(const std::vector<NamedTensor>& tensors,
                               const std::map<std::string, std::string>& metadata,
                               std::vector<int64_t>* offsets);
// Whole or not at all (core/file.h).
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace ft

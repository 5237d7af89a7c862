#include "core/safetensors.h"

#include "core/file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <set>

namespace ft {

using Json = nlohmann::ordered_json;

namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the format's own reader

// Bytes of an element; 0 for a dtype that is not known.
int64_t element_bytes(const std::string& dtype) {
  static const std::map<std::string, int64_t> sizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
      {"F32", 4},  {"I64", 8}, {"U64", 8}, {"F64", 8},     {"C64", 8}};
  const auto it = sizes.find(dtype);
  return it == sizes.end() ? 0 : it->second;
}

// shape * element size, or -1 where it does not fit.
int64_t dense_bytes(const std::vector<int64_t>& shape, int64_t element) {
  int64_t bytes = element;
  for (int64_t n : shape) {
    if (n < 0) return -1;
    if (n == 0) return 0;
    if (__builtin_mul_overflow(bytes, n, &bytes)) return -1;
  }
  return bytes;
}

template <class T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -value : value;
  }
  const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

// The header as JSON; a name given twice is an error, which the parser alone would let pass.
Json parse_header(const std::string& path, const MappedFile& file, uint64_t length) {
  const char* text = reinterpret_cast<const char*>(file.data()) + 8;
  std::set<std::string> seen;
  std::string twice;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !seen.insert(parsed.get<std::string>()).second)
      twice = parsed.get<std::string>();
    return true;
  };
  Json header;
  try {
    header = Json::parse(text, text + length, watch);
  } catch (const Json::exception& error) {
    throw ConfigError(fmt::format("{}: not a safetensors file: its header is not valid JSON: {}",
                                  path, error.what()));
  }
  FT_CHECK_CONFIG(header.is_object(), "{}: not a safetensors file: its header is not a JSON object",
                  path);
  FT_CHECK_CONFIG(twice.empty(), "{}: damaged: the header names '{}' twice", path, twice);
  return header;
}

bool count(const Json& json, int64_t* out) {
  if (!json.is_number_unsigned()) return false;
  const uint64_t value = json.get<uint64_t>();
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
  *out = static_cast<int64_t>(value);
  return true;
}

TensorInfo parse_tensor(const std::string& path, const std::string& name, const Json& json,
                        int64_t start, int64_t size) {
  const bool form = json.is_object() && json.contains("dtype") && json["dtype"].is_string() &&
                    json.contains("shape") && json["shape"].is_array() &&
                    json.contains("data_offsets") && json["data_offsets"].is_array() &&
                    json["data_offsets"].size() == 2;
  FT_CHECK_CONFIG(form, "{}: damaged: tensor '{}' lacks dtype, shape or data_offsets", path, name);
  TensorInfo info;
  info.dtype = json["dtype"].get<std::string>();
  for (const Json& n : json["shape"]) {
    int64_t value = 0;
    FT_CHECK_CONFIG(count(n, &value), "{}: damaged: tensor '{}' has a size that is no whole number",
                    path, name);
    info.shape.push_back(value);
  }
  const int64_t element = element_bytes(info.dtype);
  FT_CHECK_CONFIG(element > 0, "{}: tensor '{}' has the unknown dtype {}", path, name, info.dtype);
  const int64_t expected = dense_bytes(info.shape, element);
  int64_t begin = 0, end = 0;
  FT_CHECK_CONFIG(count(json["data_offsets"][0], &begin) && count(json["data_offsets"][1], &end) &&
                      begin <= end && end <= size,
                  "{}: damaged or cut short: tensor '{}' lies at bytes {} of {} bytes of data",
                  path, name, json["data_offsets"].dump(), size);
  FT_CHECK_CONFIG(expected == end - begin,
                  "{}: damaged: tensor '{}' [{}] of {} needs {} bytes but has {}", path, name,
                  fmt::join(info.shape, ", "), info.dtype, expected, end - begin);
  info.offset = start + begin;
  info.bytes = end - begin;
  return info;
}

// The data section must be covered exactly: no overlap, no gap, nothing behind.
void check_cover(const std::string& path, const std::map<std::string, TensorInfo>& tensors,
                 int64_t start, int64_t size) {
  std::vector<const std::pair<const std::string, TensorInfo>*> order;
  for (const auto& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) {
    return std::pair(a->second.offset, a->second.bytes) <
           std::pair(b->second.offset, b->second.bytes);
  });
  int64_t at = start;
  for (const auto* t : order) {
    FT_CHECK_CONFIG(t->second.offset == at, "{}: damaged: tensor '{}' {}", path, t->first,
                    t->second.offset < at ? "overlaps another one" : "follows a gap in the data");
    at += t->second.bytes;
  }
  FT_CHECK_CONFIG(at == size, "{}: damaged: {} bytes follow the last tensor", path, size - at);
}

}  // namespace

int64_t TensorInfo::size() const {
  int64_t n = 1;
  for (int64_t s : shape) n *= s;
  return n;
}

struct SafetensorsFile::Impl {
  MappedFile file;
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

SafetensorsFile::SafetensorsFile(const std::string& path) : impl_(std::make_unique<Impl>()) {
  try {
    impl_->file = MappedFile(path);
  } catch (const Error& error) {
    throw ConfigError(error.what());
  }
  const int64_t size = impl_->file.size();
  FT_CHECK_CONFIG(size >= 8, "{}: not a safetensors file: only {} bytes", path, size);
  const auto length = load<uint64_t>(impl_->file.data());
  FT_CHECK_CONFIG(length <= kMaxHeader && static_cast<int64_t>(length) <= size - 8,
                  "{}: not a safetensors file, or cut short: a header of {} bytes in a file of {}",
                  path, length, size);
  const int64_t start = 8 + static_cast<int64_t>(length);
  const Json header = parse_header(path, impl_->file, length);
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      impl_->tensors.emplace(name, parse_tensor(path, name, value, start, size - start));
      continue;
    }
    if (value.is_null()) continue;  // none, as the format's own reader has it
    FT_CHECK_CONFIG(value.is_object(), "{}: damaged: __metadata__ is not an object", path);
    for (const auto& [key, text] : value.items()) {
      FT_CHECK_CONFIG(text.is_string(), "{}: damaged: __metadata__ '{}' is not text", path, key);
      impl_->metadata.emplace(key, text.get<std::string>());
    }
  }
  check_cover(path, impl_->tensors, start, size);
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const std::string& SafetensorsFile::path() const { return impl_->file.path(); }
const std::map<std::string, TensorInfo>& SafetensorsFile::tensors() const { return impl_->tensors; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return impl_->metadata;
}
bool SafetensorsFile::contains(const std::string& name) const {
  return impl_->tensors.contains(name);
}

const TensorInfo& SafetensorsFile::info(const std::string& name) const {
  const auto it = impl_->tensors.find(name);
  FT_CHECK_CONFIG(it != impl_->tensors.end(), "{}: has no tensor '{}'", path(), name);
  return it->second;
}

const void* SafetensorsFile::data(const std::string& name) const {
  return impl_->file.data() + info(name).offset;
}

void SafetensorsFile::read_f32(const std::string& name, int64_t begin, int64_t n,
                               float* out) const {
  const TensorInfo& t = info(name);
  FT_CHECK(begin >= 0 && n >= 0 && n <= t.size() - begin,
           "{}: tensor '{}' has {} elements; {} from {} were asked for", path(), name, t.size(), n,
           begin);
  if (n == 0) return;
  const int64_t element = element_bytes(t.dtype);
  const uint8_t* from = impl_->file.data() + t.offset + begin * element;
  if (t.dtype == "F32") {
    std::memcpy(out, from, static_cast<size_t>(n) * 4);
  } else if (t.dtype == "BF16") {
    for (int64_t i = 0; i < n; ++i)
      out[i] = std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(from + 2 * i)) << 16);
  } else if (t.dtype == "F16") {
    for (int64_t i = 0; i < n; ++i) out[i] = half_to_float(load<uint16_t>(from + 2 * i));
  } else if (t.dtype == "F64") {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(load<double>(from + 8 * i));
  } else {
    throw ConfigError(fmt::format("{}: tensor '{}' is {}; expected F32, BF16, F16 or F64", path(),
                                  name, t.dtype));
  }
}

std::vector<float> SafetensorsFile::read_f32(const std::string& name) const {
  std::vector<float> out(static_cast<size_t>(info(name).size()));
  read_f32(name, 0, static_cast<int64_t>(out.size()), out.data());
  return out;
}

namespace {

template <class T>
void widen(const uint8_t* from, std::vector<int64_t>& out) {
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<int64_t>(load<T>(from + i * sizeof(T)));
}

}  // namespace

std::vector<int64_t> SafetensorsFile::read_i64(const std::string& name) const {
  const TensorInfo& t = info(name);
  const uint8_t* from = impl_->file.data() + t.offset;
  std::vector<int64_t> out(static_cast<size_t>(t.size()));
  if (t.dtype == "I64") widen<int64_t>(from, out);
  else if (t.dtype == "I32") widen<int32_t>(from, out);
  else if (t.dtype == "U32") widen<uint32_t>(from, out);
  else if (t.dtype == "I16") widen<int16_t>(from, out);
  else if (t.dtype == "U16") widen<uint16_t>(from, out);
  else if (t.dtype == "I8") widen<int8_t>(from, out);
  else if (t.dtype == "U8" || t.dtype == "BOOL") widen<uint8_t>(from, out);
  else if (t.dtype == "U64") {
    widen<uint64_t>(from, out);
    for (int64_t v : out)
      FT_CHECK_CONFIG(v >= 0, "{}: tensor '{}' holds numbers above 2^63", path(), name);
  } else {
    throw ConfigError(
        fmt::format("{}: tensor '{}' is {}; expected whole numbers", path(), name, t.dtype));
  }
  return out;
}

SafetensorsFolder::SafetensorsFolder(const std::string& folder) {
  namespace fs = std::filesystem;
  const fs::path single = fs::path(folder) / "model.safetensors",
                 index = fs::path(folder) / "model.safetensors.index.json";
  if (fs::is_regular_file(single)) {
    files_.emplace_back(single.string());
    for (const auto& [name, info] : files_[0].tensors()) where_[name] = 0;
    return;
  }
  FT_CHECK_CONFIG(fs::is_regular_file(index),
                  "{}: has neither model.safetensors nor model.safetensors.index.json", folder);
  Json json;
  try {
    json = Json::parse(read_text(index.string()));
  } catch (const Json::exception& error) {
    throw ConfigError(fmt::format("{}: not valid JSON: {}", index.string(), error.what()));
  }
  FT_CHECK_CONFIG(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
                  "{}: has no weight_map", index.string());
  std::map<std::string, size_t> opened;
  for (const auto& [name, shard] : json["weight_map"].items()) {
    FT_CHECK_CONFIG(shard.is_string(), "{}: the shard of '{}' is not a file name", index.string(),
                    name);
    const auto file = shard.get<std::string>();
    FT_CHECK_CONFIG(!file.empty() && file.find('/') == std::string::npos,
                    "{}: shard '{}' lies outside the folder", index.string(), file);
    const auto [it, fresh] = opened.try_emplace(file, files_.size());
    if (fresh) files_.emplace_back((fs::path(folder) / file).string());
    FT_CHECK_CONFIG(files_[it->second].contains(name),
                    "{}: has no tensor '{}', which the index places there",
                    files_[it->second].path(), name);
    where_[name] = it->second;
  }
}

bool SafetensorsFolder::contains(const std::string& name) const { return where_.contains(name); }

const SafetensorsFile& SafetensorsFolder::file_of(const std::string& name) const {
  const auto it = where_.find(name);
  FT_CHECK_CONFIG(it != where_.end(), "{}: no file has the tensor '{}'",
                  files_.empty() ? "safetensors folder"
                                 : std::filesystem::path(files_[0].path()).parent_path().string(),
                  name);
  return files_[it->second];
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> out;
  for (const auto& [name, file] : where_) out.push_back(name);
  return out;
}

std::string safetensors_header(const std::vector<NamedTensor>& tensors,
                               const std::map<std::string, std::string>& metadata,
                               std::vector<int64_t>* offsets) {
  Json json = Json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  std::set<std::string> names;
  std::vector<int64_t> relative;
  int64_t at = 0;
  for (const NamedTensor& t : tensors) {
    FT_CHECK(t.name != "__metadata__" && names.insert(t.name).second,
             "safetensors: the tensor name '{}' is taken", t.name);
    const int64_t element = element_bytes(t.dtype);
    FT_CHECK(element > 0 && dense_bytes(t.shape, element) == t.bytes,
             "safetensors: tensor '{}' [{}] of {} does not have {} bytes", t.name,
             fmt::join(t.shape, ", "), t.dtype, t.bytes);
    json.emplace(
        t.name, Json{{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {at, at + t.bytes}}});
    relative.push_back(at);
    at += t.bytes;
  }
  std::string text = json.dump();
  text.append((64 - (8 + text.size()) % 64) % 64,
              ' ');  // blanks behind JSON are part of the format
  const uint64_t length = text.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  out += text;
  if (offsets) {
    offsets->clear();
    for (int64_t r : relative) offsets->push_back(static_cast<int64_t>(out.size()) + r);
  }
  return out;
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string header = safetensors_header(tensors, metadata, nullptr);
  AtomicFile file(path);
  file.write(header);
  for (const NamedTensor& t : tensors)
    if (t.bytes > 0) file.write(t.data, static_cast<size_t>(t.bytes));
  file.commit();
}

}  // namespace ft

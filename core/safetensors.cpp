#include "core/safetensors.h"

#include "core/file.h"

#include <nlohmann/json.hpp>

#include <bit>
#include <cstring>
#include <filesystem>
#include <set>

namespace ft {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr int64_t kHeaderAlign = 64;
constexpr int64_t kMaxHeader = 100'000'000;   // the format's own limit

int64_t element_bytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL") return 1;
  return 0;
}

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) {
    const float tiny = static_cast<float>(fraction) * 5.9604644775390625e-8f;   // 2^-24
    return sign ? -tiny : tiny;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

template <class E>
E at(const uint8_t* data, int64_t i) {
  E value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(E)), sizeof(E));
  return value;
}

// Parses JSON and refuses duplicate tensor names, which nlohmann would merge silently.
json parse_header(const std::string& path, const char* begin, const char* end) {
  std::set<std::string> names;
  std::string twice;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1 && !names.insert(value.get<std::string>()).second)
      twice = value.get<std::string>();
    return true;
  };
  json header = json::parse(begin, end, watch, false);
  FT_CHECK_CONFIG(header.is_object(), "{}: the header is not a JSON object; is this a safetensors file?", path);
  FT_CHECK_CONFIG(twice.empty(), "{}: tensor {} is named twice", path, twice);
  return header;
}

TensorInfo parse_info(const std::string& path, const std::string& name, const json& entry, int64_t data_begin,
                      int64_t file_size) {
  const bool shaped = entry.is_object() && entry.contains("dtype") && entry["dtype"].is_string() &&
                      entry.contains("shape") && entry["shape"].is_array() && entry.contains("data_offsets") &&
                      entry["data_offsets"].is_array() && entry["data_offsets"].size() == 2;
  FT_CHECK_CONFIG(shaped, "{}: tensor {} has no dtype, shape and data_offsets", path, name);
  TensorInfo info;
  info.dtype = entry["dtype"].get<std::string>();
  const int64_t element = element_bytes(info.dtype);
  FT_CHECK_CONFIG(element > 0, "{}: tensor {} has the unknown dtype {}", path, name, info.dtype);
  const auto whole = [&](const json& n) {
    FT_CHECK_CONFIG(n.is_number_unsigned() && n.get<uint64_t>() < (uint64_t{1} << 62), "{}: tensor {} has the size {}",
                    path, name, n.dump());
    return n.get<int64_t>();
  };
  __int128 bytes = element;
  for (const json& n : entry["shape"]) {
    info.shape.push_back(whole(n));
    bytes *= info.shape.back();
    FT_CHECK_CONFIG(bytes <= file_size, "{}: tensor {} is larger than the file", path, name);
  }
  const int64_t begin = whole(entry["data_offsets"][0]), end = whole(entry["data_offsets"][1]);
  FT_CHECK_CONFIG(begin <= end && end <= file_size - data_begin && end - begin == bytes,
                  "{}: tensor {} at [{}, {}) does not fit its shape or the file of {} bytes", path, name, begin, end,
                  file_size);
  info.offset = data_begin + begin;
  info.bytes = end - begin;
  return info;
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
  impl_->file = MappedFile(path);
  const int64_t size = impl_->file.size();
  FT_CHECK_CONFIG(size >= 8, "{}: {} bytes are too few for a safetensors file", path, size);
  const auto length = at<uint64_t>(impl_->file.data(), 0);
  FT_CHECK_CONFIG(length <= static_cast<uint64_t>(kMaxHeader) && static_cast<int64_t>(length) <= size - 8,
                  "{}: a header of {} bytes does not fit the file of {}; truncated, or not a safetensors file", path,
                  length, size);
  const char* text = reinterpret_cast<const char*>(impl_->file.data()) + 8;
  const auto data_begin = static_cast<int64_t>(length) + 8;
  const json header = parse_header(path, text, text + length);
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      impl_->tensors[name] = parse_info(path, name, entry, data_begin, size);
    } else if (entry.is_object()) {
      for (const auto& [key, value] : entry.items())
        if (value.is_string()) impl_->metadata[key] = value.get<std::string>();
    }
  }
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;
const std::string& SafetensorsFile::path() const { return impl_->file.path(); }
const std::map<std::string, TensorInfo>& SafetensorsFile::tensors() const { return impl_->tensors; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return impl_->metadata; }
bool SafetensorsFile::contains(const std::string& name) const { return impl_->tensors.count(name) > 0; }

const TensorInfo& SafetensorsFile::info(const std::string& name) const {
  const auto found = impl_->tensors.find(name);
  FT_CHECK_CONFIG(found != impl_->tensors.end(), "{}: has no tensor named {}", path(), name);
  return found->second;
}

const void* SafetensorsFile::data(const std::string& name) const { return impl_->file.data() + info(name).offset; }

void SafetensorsFile::read_f32(const std::string& name, int64_t begin, int64_t count, float* out) const {
  const TensorInfo& t = info(name);
  FT_CHECK(begin >= 0 && count >= 0 && begin + count <= t.size(), "{}: elements [{}, {}) of tensor {} with {}", path(),
           begin, begin + count, name, t.size());
  const uint8_t* from = impl_->file.data() + t.offset + begin * element_bytes(t.dtype);
  if (t.dtype == "F32") std::memcpy(out, from, static_cast<size_t>(count) * 4);
  else if (t.dtype == "BF16")
    for (int64_t i = 0; i < count; ++i) out[i] = std::bit_cast<float>(static_cast<uint32_t>(at<uint16_t>(from, i)) << 16);
  else if (t.dtype == "F16")
    for (int64_t i = 0; i < count; ++i) out[i] = half_to_float(at<uint16_t>(from, i));
  else if (t.dtype == "F64")
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(at<double>(from, i));
  else throw ConfigError(fmt::format("{}: tensor {} holds {}, not numbers with a fraction", path(), name, t.dtype));
}

std::vector<float> SafetensorsFile::read_f32(const std::string& name) const {
  std::vector<float> out(static_cast<size_t>(info(name).size()));
  read_f32(name, 0, static_cast<int64_t>(out.size()), out.data());
  return out;
}

std::vector<int64_t> SafetensorsFile::read_i64(const std::string& name) const {
  const TensorInfo& t = info(name);
  const auto* from = static_cast<const uint8_t*>(data(name));
  std::vector<int64_t> out(static_cast<size_t>(t.size()));
  const auto copy = [&](auto type) {
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<int64_t>(at<decltype(type)>(from, static_cast<int64_t>(i)));
  };
  if (t.dtype == "I64") copy(int64_t{});
  else if (t.dtype == "I32") copy(int32_t{});
  else if (t.dtype == "I16") copy(int16_t{});
  else if (t.dtype == "U16") copy(uint16_t{});
  else if (t.dtype == "U32") copy(uint32_t{});
  else if (t.dtype == "U8") copy(uint8_t{});
  else if (t.dtype == "I8") copy(int8_t{});
  else throw ConfigError(fmt::format("{}: tensor {} holds {}, not whole numbers", path(), name, t.dtype));
  return out;
}

SafetensorsFolder::SafetensorsFolder(const std::string& folder) {
  const fs::path base(folder), index = base / "model.safetensors.index.json", single = base / "model.safetensors";
  std::set<std::string> names;
  if (fs::exists(index)) {
    const json parsed = json::parse(read_text(index.string()), nullptr, false);
    FT_CHECK_CONFIG(parsed.is_object() && parsed.contains("weight_map") && parsed["weight_map"].is_object(),
                    "{}: has no weight_map", index.string());
    for (const auto& [name, file] : parsed["weight_map"].items()) {
      FT_CHECK_CONFIG(file.is_string() && fs::path(file.get<std::string>()).filename() == file.get<std::string>(),
                      "{}: tensor {} lies in {}, which is no file name", index.string(), name, file.dump());
      names.insert(file.get<std::string>());
    }
  } else {
    FT_CHECK_CONFIG(fs::exists(single), "{}: has neither model.safetensors nor model.safetensors.index.json", folder);
    names.insert("model.safetensors");
  }
  for (const std::string& name : names) {
    files_.emplace_back((base / name).string());
    for (const auto& [tensor, info] : files_.back().tensors()) where_[tensor] = files_.size() - 1;
  }
}

bool SafetensorsFolder::contains(const std::string& name) const { return where_.count(name) > 0; }

const SafetensorsFile& SafetensorsFolder::file_of(const std::string& name) const {
  const auto found = where_.find(name);
  FT_CHECK_CONFIG(found != where_.end(), "tensor {} is in none of the folder's files", name);
  return files_[found->second];
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> out;
  for (const auto& [name, file] : where_) out.push_back(name);
  return out;
}

std::string safetensors_header(const std::vector<NamedTensor>& tensors,
                               const std::map<std::string, std::string>& metadata, std::vector<int64_t>* offsets) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t at_byte = 0;
  std::vector<int64_t> begins;
  for (const NamedTensor& t : tensors) {
    header[t.name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {at_byte, at_byte + t.bytes}}};
    begins.push_back(at_byte);
    at_byte += t.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 8 + kHeaderAlign - 1) / kHeaderAlign * kHeaderAlign - 8, ' ');
  const uint64_t length = text.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  out += text;
  if (offsets) {
    for (int64_t& begin : begins) begin += static_cast<int64_t>(out.size());
    *offsets = begins;
  }
  return out;
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  file.write(safetensors_header(tensors, metadata, nullptr));
  for (const NamedTensor& t : tensors) file.write(t.data, static_cast<size_t>(t.bytes));
  file.commit();
}

}  // namespace ft

// The manifest's text. A manifest comes from a disk that others can write: nothing in it is
// believed unchecked.
#include "core/check.h"
#include "core/file.h"
#include "core/path.h"
#include "parallel/checkpoint/io.h"

#include <nlohmann/json.hpp>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>

namespace ft::detail {

using nlohmann::json;

namespace {

json tensors_json(const std::map<std::string, StoredTensor>& tensors) {
  json all = json::object();
  for (const auto& [name, t] : tensors) {
    json pieces = json::array();
    for (const StoredPiece& p : t.pieces)
      pieces.push_back({{"file", p.file},
                        {"offset", p.offset},
                        {"start", {p.row, p.col}},
                        {"shape", {p.rows, p.cols}},
                        {"xxh64", hex(p.hash)}});
    all[name] = {{"dtype", "F32"}, {"shape", t.shape}, {"pieces", std::move(pieces)}};
  }
  return all;
}

json files_json(const std::map<std::string, StoredFile>& files) {
  json all = json::object();
  for (const auto& [name, f] : files)
    all[name] = {
        {"bytes", f.bytes}, {"header_bytes", f.header}, {"header_xxh64", hex(f.header_hash)}};
  return all;
}

int64_t number(const json& value, const char* what) {
  FT_CHECK(value.is_number_integer(), "{} is no integer", what);
  if (value.is_number_unsigned())
    FT_CHECK(value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX), "{} is too large", what);
  const auto n = value.get<int64_t>();
  FT_CHECK(n >= 0, "{} is negative: {}", what, n);
  return n;
}

uint64_t hash_of(const json& value) {
  const auto& text = value.get_ref<const std::string&>();
  uint64_t hash = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
  FT_CHECK(text.size() == 16 && error == std::errc() && end == text.data() + text.size(),
           "xxh64 \"{}\" is not 16 hexadecimal digits", text);
  return hash;
}

StoredPiece piece_of(const json& j) {
  StoredPiece p;
  p.file = j.at("file").get<std::string>();
  FT_CHECK(is_rank_file(p.file), "file \"{}\" is not a rank's file (rank-00000.safetensors)",
           p.file);
  p.offset = number(j.at("offset"), "offset");
  FT_CHECK(j.at("start").size() == 2 && j.at("shape").size() == 2,
           "start or shape of a piece is not a pair");
  p.row = number(j.at("start").at(0), "start"), p.col = number(j.at("start").at(1), "start");
  p.rows = number(j.at("shape").at(0), "shape"), p.cols = number(j.at("shape").at(1), "shape");
  p.hash = hash_of(j.at("xxh64"));
  return p;
}

void add_tensors(const json& all, std::map<std::string, StoredTensor>& into) {
  FT_CHECK(all.is_object(), "tensors is no object");
  for (const auto& [name, j] : all.items()) {
    const auto dtype = j.at("dtype").get<std::string>();
    FT_CHECK(dtype == "F32", "tensor {} has dtype {}; format 1 holds F32", name, dtype);
    std::vector<int64_t> shape;
    for (const json& dim : j.at("shape")) shape.push_back(number(dim, "shape"));
    StoredTensor& t = into.try_emplace(name, StoredTensor{shape, {}}).first->second;
    FT_CHECK(t.shape == shape, "tensor {} is offered with different shapes", name);
    FT_CHECK(j.at("pieces").is_array(), "pieces of tensor {} are no list", name);
    for (const json& p : j.at("pieces")) t.pieces.push_back(piece_of(p));
  }
}

void add_files(const json& all, std::map<std::string, StoredFile>& into) {
  FT_CHECK(all.is_object(), "files is no object");
  for (const auto& [name, j] : all.items()) {
    FT_CHECK(is_rank_file(name), "file \"{}\" is not a rank's file (rank-00000.safetensors)", name);
    const StoredFile f{.bytes = number(j.at("bytes"), "bytes"),
                       .header = number(j.at("header_bytes"), "header_bytes"),
                       .header_hash = hash_of(j.at("header_xxh64"))};
    FT_CHECK(f.header <= f.bytes, "the header of {} is longer than the file", name);
    into[name] = f;
  }
}

}  // namespace

MatrixShape as_matrix(const std::string& name, const std::vector<int64_t>& shape) {
  constexpr int64_t kMost = int64_t{1} << 60;  // elements; 4 bytes each still fit in 63 bits
  MatrixShape m;
  int64_t total = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    FT_CHECK(shape[i] >= 0, "tensor {} has a negative dimension", name);
    FT_CHECK(
        !__builtin_mul_overflow(total, shape[i], &total) && total <= kMost && shape[i] <= kMost,
        "tensor {} has more than 2^60 elements", name);
    FT_CHECK(i == 0 || !__builtin_mul_overflow(m.cols, shape[i], &m.cols), "tensor {} is too large",
             name);
    if (i == 0) m.rows = shape[0];
  }
  return m;
}

void check_cover(const std::string& name, StoredTensor& t) {
  const MatrixShape whole = as_matrix(name, t.shape);
  std::sort(t.pieces.begin(), t.pieces.end(), [](const StoredPiece& a, const StoredPiece& b) {
    return std::pair(a.row, a.col) < std::pair(b.row, b.col);
  });
  int64_t covered = 0;
  for (const StoredPiece& p : t.pieces) {
    FT_CHECK(
        p.rows > 0 && p.cols > 0 && p.row >= 0 && p.col >= 0 && p.rows <= whole.rows &&
            p.row <= whole.rows - p.rows && p.cols <= whole.cols && p.col <= whole.cols - p.cols,
        "tensor {}: a piece lies outside of its {} x {} elements", name, whole.rows, whole.cols);
    FT_CHECK(!__builtin_add_overflow(covered, p.rows * p.cols, &covered),
             "tensor {}: its pieces overlap", name);
  }
  for (size_t i = 0; i < t.pieces.size(); ++i) {
    const StoredPiece& a = t.pieces[i];
    for (size_t j = i + 1; j < t.pieces.size() && t.pieces[j].row < a.row + a.rows; ++j) {
      const StoredPiece& b = t.pieces[j];
      FT_CHECK(b.col >= a.col + a.cols || b.col + b.cols <= a.col,
               "tensor {}: two pieces hold row {}, column {}", name, b.row, std::max(a.col, b.col));
    }
  }
  FT_CHECK(covered == whole.rows * whole.cols, "tensor {}: its pieces hold {} of {} elements", name,
           covered, whole.rows * whole.cols);
}

std::string rank_file(int rank) { return fmt::format("rank-{:05}.safetensors", rank); }

bool is_rank_file(std::string_view name) {
  constexpr std::string_view kBegin = "rank-", kEnd = ".safetensors";
  if (name.size() < kBegin.size() + kEnd.size() + 5 || name.size() > 64) return false;
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd)) return false;
  const auto digits = name.substr(kBegin.size(), name.size() - kBegin.size() - kEnd.size());
  return std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

uint64_t text_hash(std::string_view text) { return XXH64(text.data(), text.size(), 0); }
std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

std::string manifest_text(const Manifest& manifest) {
  return json{{"format", kCheckpointFormat},
              {"state", manifest.state},
              {"tensors", tensors_json(manifest.stored.tensors)},
              {"files", files_json(manifest.stored.files)}}
      .dump(1);
}

Manifest parse_manifest(const std::string& path, const std::string& text) {
  try {
    const json j = json::parse(text);
    FT_CHECK(j.is_object(), "it is no object");
    const int64_t format = number(j.at("format"), "format");
    FT_CHECK(format == kCheckpointFormat,
             "it has format {}, this program reads format {}; use the program that wrote it",
             format, kCheckpointFormat);
    Manifest manifest;
    manifest.state = j.at("state").get<State>();
    add_tensors(j.at("tensors"), manifest.stored.tensors);
    for (auto& [name, tensor] : manifest.stored.tensors) check_cover(name, tensor);
    if (j.contains("files")) add_files(j.at("files"), manifest.stored.files);
    return manifest;
  } catch (const std::exception& error) {
    throw Error(fmt::format("{}: cannot be used: {}", path, error.what()));
  }
}

Manifest read_manifest(const std::string& folder) {
  FT_CHECK(is_folder(folder), "{}: is not a checkpoint folder", folder);
  const auto text_of = [&](const char* name, const char* why) {
    const std::string path = folder + name;
    FT_CHECK(is_file(path), "{}: is missing: {}", path, why);
    return InputFile(path).text();
  };
  std::string marker = text_of("/COMPLETE", "the checkpoint was not finished; use an older one");
  while (!marker.empty() && marker.back() == '\n') marker.pop_back();
  const std::string text = text_of("/manifest.json", "the checkpoint is damaged; use an older one");
  const std::string hash = hex(text_hash(text));
  FT_CHECK(hash == marker,
           "{}/manifest.json: is damaged: its checksum is {}, COMPLETE says \"{}\"; use an older "
           "checkpoint",
           folder, hash, marker.substr(0, 32));
  return parse_manifest(folder + "/manifest.json", text);
}

std::string stored_text(const Stored& stored) {
  return json{{"tensors", tensors_json(stored.tensors)}, {"files", files_json(stored.files)}}
      .dump();
}

void merge_stored(const std::string& text, Stored& into) {
  const json j = json::parse(text);
  add_tensors(j.at("tensors"), into.tensors);
  add_files(j.at("files"), into.files);
}

int64_t state_number(const std::string& folder, const State& state, const std::string& key) {
  constexpr int64_t kMost = int64_t{1} << 53;  // also exact in JSON; sums of two stay in 63 bits
  const auto found = state.find(key);
  const std::string text = found == state.end() ? "missing" : found->second;
  int64_t value = -1;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  FT_CHECK(error == std::errc() && at == end && value >= 0 && value <= kMost,
           "{}/manifest.json: state \"{}\" is {}; expected a whole number from 0 to 2^53. The "
           "checkpoint is damaged; use an older one",
           folder, key, found == state.end() ? text : fmt::format("\"{}\"", text.substr(0, 80)));
  return value;
}

}  // namespace ft::detail

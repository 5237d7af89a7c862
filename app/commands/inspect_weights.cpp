#include "app/commands/inspect_parts.h"
#include "app/run/metrics.h"
#include "core/check.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "data/position.h"
#include "parallel/checkpoint/checkpoint.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {

void print_tensor(const std::string& name, const std::string& dtype,
                  const std::vector<int64_t>& shape) {
  fmt::print("  {:<72} {:<5} [{}]\n", name, dtype, fmt::join(shape, ", "));
}

// Safetensors have no checksums: every value is read, and must be a number.
void verify_values(const SafetensorsFile& file) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  std::vector<float> values(kPiece);
  for (const auto& [name, info] : file.tensors()) {
    const bool real = std::set<std::string>{"F64", "F32", "BF16", "F16"}.count(info.dtype) > 0;
    for (int64_t at = 0; real && at < info.size(); at += kPiece) {
      const int64_t n = std::min(kPiece, info.size() - at);
      file.read_f32(name, at, n, values.data());
      const auto bad = std::find_if_not(values.begin(), values.begin() + n,
                                        [](float v) { return std::isfinite(v); });
      FT_CHECK(bad == values.begin() + n, "{}: {}, element {} is {}; the weights are damaged",
               file.path(), name, at + (bad - values.begin()), *bad);
    }
  }
}

// Prints the tensors of a file; returns how many elements they have.
int64_t print_tensors(const SafetensorsFile& file) {
  int64_t elements = 0;
  for (const auto& [name, info] : file.tensors()) {
    print_tensor(name, info.dtype, info.shape);
    elements += info.size();
  }
  return elements;
}

void print_position(const std::string& text) {
  constexpr size_t kShown = 10;
  const Position position = parse_position(text);
  fmt::print("  samples    {}, the blend changed {} times\n", grouped_count(position.samples),
             position.history.empty() ? 0 : position.history.size() - 1);
  size_t shown = 0;
  for (const auto& [name, source] : position.sources)
    if (++shown <= kShown)
      fmt::print("  source     {}: epoch {}, document {} of its order, token {}\n", name,
                 source.cursor.epoch, source.cursor.document, source.cursor.offset);
  if (shown > kShown) fmt::print("  source     and {} more\n", shown - kShown);
}

// The window of losses that the guard compares a step with, as a summary.
void print_guard(const std::string& text) {
  const auto guard = nlohmann::json::parse(text, nullptr, false);
  if (!guard.is_object() || !guard.contains("losses") || !guard["losses"].is_array()) return;
  std::vector<double> losses;
  for (const auto& one : guard["losses"])
    if (one.is_number()) losses.push_back(one.get<double>());
  std::string window = "no losses yet";
  if (!losses.empty()) {
    const auto [low, high] = std::minmax_element(losses.begin(), losses.end());
    window = fmt::format("last {} losses {:.4f} to {:.4f}, the newest {:.4f}", losses.size(), *low,
                         *high, losses.back());
  }
  const auto skipped = guard.find("skipped");
  fmt::print("  guard      {}; {} steps left out\n", window,
             skipped != guard.end() && skipped->is_number_integer() ? skipped->get<int64_t>() : 0);
}

// A value of a checkpoint's state: whole numbers with separators.
std::string shown(const std::string& text) {
  const bool whole = !text.empty() && text.size() < 19 &&
                     text.find_first_not_of("0123456789") == std::string::npos;
  return whole ? grouped_count(std::stoll(text)) : text;
}

}  // namespace

void inspect_safetensors(const std::string& path, bool verify) {
  const SafetensorsFile file(path);
  fmt::print("safetensors file {}\n", path);
  const int64_t elements = print_tensors(file);
  fmt::print("  {} tensors, {} elements, {}\n", file.tensors().size(), grouped_count(elements),
             bytes_text(static_cast<double>(fs::file_size(path))));
  std::fflush(stdout);
  if (!verify) return;
  verify_values(file);
  fmt::print("  verified: every value was read and is finite\n");
}

void inspect_folder(const std::string& path, bool verify) {
  const SafetensorsFolder folder(path);
  fmt::print("Hugging Face folder {}\n", path);
  std::set<const SafetensorsFile*> files;
  int64_t elements = 0;
  for (const std::string& name : folder.names()) files.insert(&folder.file_of(name));
  for (const SafetensorsFile* file : files) {
    fmt::print("  {}\n", fs::path(file->path()).filename().string());
    elements += print_tensors(*file);
  }
  fmt::print("  {} tensors, {} elements in {} files\n", folder.names().size(),
             grouped_count(elements), files.size());
  std::fflush(stdout);
  if (!verify) return;
  for (const SafetensorsFile* file : files) verify_values(*file);
  fmt::print("  verified: every value was read and is finite\n");
}

void inspect_checkpoint(const std::string& path, bool verify) {
  const Checkpoint checkpoint(path);
  fmt::print("checkpoint {}\n", path);
  for (const auto& [name, text] : checkpoint.state()) {
    if (name == "data") print_position(text);
    else if (name == "guard") print_guard(text);
    else if (text.find('\n') == std::string::npos) fmt::print("  {:<10} {}\n", name, shown(text));
  }
  int64_t parameters = 0, moments = 0;
  for (const std::string& name : checkpoint.names()) {
    if (name.starts_with("optimizer.") && ++moments) continue;
    const auto shape = checkpoint.shape(name);
    int64_t n = 1;
    for (const int64_t s : shape) n *= s;
    parameters += n;
    print_tensor(name, "F32", shape);
  }
  fmt::print("  {} parameters; {} tensors of the optimizer\n", grouped_count(parameters), moments);
  std::fflush(stdout);
  if (!verify) return;
  checkpoint.verify();
  fmt::print("  verified: every byte agrees with its checksum\n");
}

void inspect_run(const std::string& path, bool verify) {
  fmt::print("run {}\n", path);
  const auto checkpoints = list_checkpoints(path + "/checkpoints");
  if (checkpoints.empty()) {
    fmt::print("  no complete checkpoint\n");
    return;
  }
  // Of the older ones a line each; the newest in full.
  for (size_t i = 0; i + 1 < checkpoints.size(); ++i) {
    const Checkpoint one(checkpoints[i]);
    if (verify) one.verify();
    const auto step = one.state().find("step"), tokens = one.state().find("tokens");
    fmt::print("  {}: step {}, {} tokens{}\n", checkpoints[i],
               step == one.state().end() ? "?" : step->second,
               tokens == one.state().end() ? "?" : shown(tokens->second),
               verify ? ", verified" : "");
  }
  inspect_checkpoint(checkpoints.back(), verify);
}

}  // namespace ft

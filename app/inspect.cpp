// inspect: what is this path?
#include "app/commands.h"
#include "core/file.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "data/tokens.h"
#include "parallel/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kSampleTokens = 64;

void inspect_tokens(const std::string& prefix, bool verify) {
  const TokenSet set(prefix);
  std::printf("token set %s\n  documents %lld\n  sequences %lld\n  tokens    %lld (%s)\n",
              prefix.c_str(), static_cast<long long>(set.documents()),
              static_cast<long long>(set.sequences()), static_cast<long long>(set.tokens()),
              set.dtype_name().c_str());
  std::vector<int32_t> ids;
  int32_t highest = 0;
  for (int64_t d = 0; d < set.documents(); ++d) {
    if (!verify && d > 0) break;
    const int64_t length =
        verify ? set.document_length(d) : std::min(set.document_length(d), kSampleTokens);
    ids.resize(static_cast<size_t>(length));
    set.read(d, 0, length, ids.data());
    for (int32_t id : ids) highest = std::max(highest, id);
  }
  if (verify) std::printf("  every token read; highest id %d\n", highest);
  ids.resize(set.documents() > 0
                 ? static_cast<size_t>(std::min(set.document_length(0), kSampleTokens))
                 : 0);
  if (!ids.empty()) set.read(0, 0, static_cast<int64_t>(ids.size()), ids.data());
  std::string sample, text;
  bool bytes = true;
  for (int32_t id : ids) {
    sample += fmt::format(" {}", id);
    bytes = bytes && id <= 256;
    if (id < 256) text += static_cast<char>(id);
  }
  std::printf("  first document:%s\n", sample.c_str());
  if (bytes) std::printf("  as bytes: %s\n", text.c_str());
}

void inspect_safetensors(const std::string& path) {
  const SafetensorsFile file(path);
  int64_t elements = 0;
  for (const auto& [name, info] : file.tensors()) {
    std::printf("%-72s %-5s [%s]\n", name.c_str(), info.dtype.c_str(),
                fmt::format("{}", fmt::join(info.shape, ", ")).c_str());
    elements += info.size();
  }
  std::printf("%zu tensors, %lld elements\n", file.tensors().size(),
              static_cast<long long>(elements));
}

void inspect_checkpoint(const std::string& path, bool verify) {
  const Checkpoint checkpoint(path);
  for (const auto& [name, text] : checkpoint.state())
    if (name != "config" && name != "data") std::printf("%-10s %s\n", name.c_str(), text.c_str());
  int64_t parameters = 0;
  for (const std::string& name : checkpoint.names()) {
    const auto shape = checkpoint.shape(name);
    if (name.rfind("optimizer.", 0) == 0) continue;
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    parameters += n;
    std::printf("%-72s [%s]\n", name.c_str(), fmt::format("{}", fmt::join(shape, ", ")).c_str());
  }
  std::printf("%lld parameters\n", static_cast<long long>(parameters));
  if (verify) {
    checkpoint.verify();
    std::printf("every byte agrees with its checksum\n");
  }
}

}  // namespace

int inspect(const InspectOptions& o) {
  const fs::path path(o.path);
  if (fs::exists(o.path + ".idx")) {
    inspect_tokens(o.path, o.verify);
  } else if (path.extension() == ".idx" || path.extension() == ".bin") {
    inspect_tokens(fs::path(o.path).replace_extension("").string(), o.verify);
  } else if (path.extension() == ".safetensors") {
    inspect_safetensors(o.path);
  } else if (fs::exists(path / "manifest.json")) {
    inspect_checkpoint(o.path, o.verify);
  } else if (fs::is_directory(path / "checkpoints")) {
    for (const std::string& one : list_checkpoints((path / "checkpoints").string())) {
      std::printf("== %s\n", one.c_str());
      inspect_checkpoint(one, o.verify);
    }
  } else if (fs::exists(path / "config.json")) {
    const SafetensorsFolder folder(o.path);
    for (const std::string& name : folder.names())
      std::printf(
          "%-72s [%s]\n", name.c_str(),
          fmt::format("{}", fmt::join(folder.file_of(name).info(name).shape, ", ")).c_str());
  } else {
    throw ConfigError(fmt::format(
        "{}: neither a token set (PATH.idx), a safetensors file, a checkpoint, a run nor a "
        "Hugging Face folder",
        o.path));
  }
  return 0;
}

}  // namespace ft

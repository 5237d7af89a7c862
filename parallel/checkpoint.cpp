// Opening, reading, listing and retaining checkpoints. Saving is in checkpoint_save.cpp.
#include "parallel/checkpoint.h"

#include "core/check.h"
#include "core/file.h"
#include "parallel/checkpoint_io.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

struct Checkpoint::Impl {
  std::string path;
  detail::Manifest manifest;
  std::map<std::string, MappedFile> files;
  std::map<std::string, std::vector<bool>> checked;  // by tensor: pieces whose checksum was right

  const uint8_t* bytes_of(const detail::StoredPiece& p) const {
    return files.at(p.file).data() + p.offset;
  }

  void check_hash(const std::string& name, const detail::StoredPiece& p) const {
    const uint64_t found = XXH64(bytes_of(p), static_cast<size_t>(p.bytes()), 0);
    FT_CHECK(found == p.hash,
             "{}/{}: tensor {} (rows {} to {}) is damaged: checksum {}, expected {}; use an older "
             "checkpoint",
             path, p.file, name, p.row, p.row + p.rows, detail::hex(found), detail::hex(p.hash));
  }

  const detail::StoredTensor& tensor(const std::string& name) const {
    const auto found = manifest.tensors.find(name);
    FT_CHECK(found != manifest.tensors.end(), "{}: has no tensor {}", path, name);
    return found->second;
  }
};

namespace {

std::string existing_text(const std::string& path, const char* why) {
  std::error_code ignored;
  FT_CHECK(fs::is_regular_file(path, ignored), "{}: is missing: {}", path, why);
  return read_text(path);
}

bool is_leftover(const fs::path& path) { return path.filename().string().starts_with(".tmp-"); }

// The part [begin, end) that two runs share.
struct Overlap {
  int64_t begin, end;
  Overlap(int64_t a, int64_t a_size, int64_t b, int64_t b_size)
      : begin(std::max(a, b)), end(std::min(a + a_size, b + b_size)) {}
  int64_t size() const { return end - begin; }
};

}  // namespace

Checkpoint::Checkpoint(const std::string& path) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  FT_CHECK(fs::is_directory(path), "{}: is not a checkpoint folder", path);
  std::string marker =
      existing_text(path + "/COMPLETE", "the checkpoint was not finished; use an older one");
  while (!marker.empty() && marker.back() == '\n') marker.pop_back();
  const std::string manifest_path = path + "/manifest.json";
  const std::string text =
      existing_text(manifest_path, "the checkpoint is damaged; use an older one");
  const std::string hash = detail::hex(detail::text_hash(text));
  FT_CHECK(hash == marker,
           "{}: is damaged: its checksum is {}, COMPLETE says \"{}\"; use an older checkpoint",
           manifest_path, hash, marker.substr(0, 32));
  impl_->manifest = detail::parse_manifest(manifest_path, text);
  for (const auto& [name, tensor] : impl_->manifest.tensors) {
    impl_->checked[name].assign(tensor.pieces.size(), false);
    for (const detail::StoredPiece& p : tensor.pieces) {
      auto file = impl_->files.find(p.file);
      if (file == impl_->files.end()) {
        const std::string whole = path + "/" + p.file;
        std::error_code ignored;
        FT_CHECK(fs::is_regular_file(fs::symlink_status(whole, ignored)),
                 "{}: is missing: the checkpoint is damaged; use an older one", whole);
        file = impl_->files.emplace(p.file, MappedFile(whole)).first;
      }
      const int64_t size = file->second.size();
      FT_CHECK(p.bytes() <= size && p.offset <= size - p.bytes(),
               "{}/{}: is too short: {} bytes, but tensor {} needs {} bytes from byte {}; use an "
               "older checkpoint",
               path, p.file, size, name, p.bytes(), p.offset);
    }
  }
}

Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;

const std::string& Checkpoint::path() const { return impl_->path; }
const State& Checkpoint::state() const { return impl_->manifest.state; }

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> all;
  for (const auto& [name, tensor] : impl_->manifest.tensors) all.push_back(name);
  return all;
}

bool Checkpoint::contains(const std::string& name) const {
  return impl_->manifest.tensors.contains(name);
}
std::vector<int64_t> Checkpoint::shape(const std::string& name) const {
  return impl_->tensor(name).shape;
}

void Checkpoint::read(const std::string& name, int64_t row, int64_t col, const Tensor& out) const {
  const detail::StoredTensor& tensor = impl_->tensor(name);
  const detail::MatrixShape whole = detail::as_matrix(name, tensor.shape);
  FT_CHECK(
      (out.dims == 1 || out.dims == 2) && (out.dims == 1 || out.cols() <= 1 || out.stride[1] == 1),
      "{}: tensor {} can be read into boxes with dense rows alone", impl_->path, name);
  const int64_t rows = out.rows(), cols = out.cols();
  FT_CHECK(row >= 0 && col >= 0 && rows <= whole.rows && row <= whole.rows - rows &&
               cols <= whole.cols && col <= whole.cols - cols,
           "{}: tensor {} is {} x {}; the box of {} x {} at row {}, column {} lies outside",
           impl_->path, name, whole.rows, whole.cols, rows, cols, row, col);
  float* to = out.f32();
  std::vector<bool>& checked = impl_->checked.at(name);
  for (size_t i = 0; i < tensor.pieces.size(); ++i) {  // together they are the tensor: check_cover
    const detail::StoredPiece& p = tensor.pieces[i];
    const Overlap r(row, rows, p.row, p.rows), c(col, cols, p.col, p.cols);
    if (r.size() <= 0 || c.size() <= 0) continue;
    if (!checked[i]) {
      impl_->check_hash(name, p);
      checked[i] = true;
    }
    const uint8_t* from = impl_->bytes_of(p);
    for (int64_t at = r.begin; at < r.end; ++at)
      std::memcpy(to + (at - row) * out.stride[0] + (c.begin - col),
                  from + ((at - p.row) * p.cols + (c.begin - p.col)) * 4,
                  static_cast<size_t>(c.size()) * 4);
  }
}

void Checkpoint::verify() const {
  for (const auto& [name, tensor] : impl_->manifest.tensors) {
    std::vector<bool>& checked = impl_->checked.at(name);
    for (size_t i = 0; i < tensor.pieces.size(); ++i) {
      impl_->check_hash(name, tensor.pieces[i]);
      checked[i] = true;
    }
  }
}

int64_t checkpoint_step(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  const size_t last = name.find_last_not_of("0123456789");
  const size_t begin = last == std::string::npos ? 0 : last + 1;
  int64_t step = -1;
  const auto result = std::from_chars(name.data() + begin, name.data() + name.size(), step);
  return result.ec == std::errc() ? step : -1;
}

namespace {

// The folders of steps, oldest first.
std::vector<std::string> step_folders(const std::string& directory) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    std::error_code ignored;
    if (!is_leftover(entry.path()) && entry.is_directory(ignored))
      found.push_back(entry.path().string());
  }
  std::sort(found.begin(), found.end(), [](const std::string& a, const std::string& b) {
    return std::pair(checkpoint_step(a), a) < std::pair(checkpoint_step(b), b);
  });
  return found;
}

bool has_marker(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path + "/COMPLETE", ignored);
}

}  // namespace

std::vector<std::string> list_checkpoints(const std::string& directory) {
  std::vector<std::string> found = step_folders(directory);
  std::erase_if(found, [](const std::string& path) { return !has_marker(path); });
  return found;
}

std::optional<std::string> newest_checkpoint(const std::string& directory,
                                             const std::function<void(const std::string&)>& warn) {
  std::vector<std::string> all = step_folders(directory);
  for (auto path = all.rbegin(); path != all.rend(); ++path) {
    if (checkpoint_step(*path) < 0 && !has_marker(*path)) continue;  // somebody's own folder
    try {
      Checkpoint(*path).verify();
      return *path;
    } catch (const std::exception& error) {
      if (warn) warn(error.what());
    }
  }
  return std::nullopt;
}

void retain_checkpoints(const std::string& directory, int64_t keep_last, int64_t keep_every) {
  const std::vector<std::string> all = list_checkpoints(directory);
  const auto count = static_cast<int64_t>(all.size());
  const int64_t newest = std::max<int64_t>(keep_last, 1);  // the newest one always stays
  for (int64_t i = 0; i < count - newest; ++i) {
    const std::string& path = all[static_cast<size_t>(i)];
    const int64_t step = checkpoint_step(path);
    if (step < 0 || (keep_every > 0 && step % keep_every == 0))
      continue;  // not ours to remove, or kept
    // Out of sight first, so that a kill in between leaves no half of it under its name.
    const std::string aside = directory + "/.tmp-gone-" + fs::path(path).filename().string();
    std::error_code error;
    fs::remove_all(aside, error);
    fs::rename(path, aside, error);
    FT_CHECK(!error, "{}: cannot be removed: {}", path, error.message());
  }
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (is_leftover(entry.path())) leftovers.push_back(entry.path());
  for (const fs::path& path : leftovers) fs::remove_all(path, error);
}

}  // namespace ft

// Opening, reading and verifying. Folders of checkpoints are in checkpoint_folder.cpp, saving is in
// checkpoint_save.cpp.
#include "parallel/checkpoint/checkpoint.h"

#include "core/check.h"
#include "core/file.h"
#include "core/path.h"
#include "parallel/checkpoint/io.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <memory>

namespace ft {

namespace {

constexpr int64_t kChunk = 4 << 20;  // bytes read at once

struct FreeHash {
  void operator()(XXH64_state_t* state) const { XXH64_freeState(state); }
};

// The part [begin, end) that two runs share.
struct Overlap {
  int64_t begin, end;
  Overlap(int64_t a, int64_t a_size, int64_t b, int64_t b_size)
      : begin(std::max(a, b)), end(std::min(a + a_size, b + b_size)) {}
  int64_t size() const { return end - begin; }
};

}  // namespace

struct Checkpoint::Impl {
  std::string path;
  detail::Manifest manifest;
  std::map<std::string, std::vector<bool>> checked;  // by tensor: pieces whose checksum was right
  std::string open_name;
  std::unique_ptr<InputFile> open;  // one at a time: there may be thousands
  std::vector<float> buffer;

  const std::map<std::string, detail::StoredTensor>& tensors() const {
    return manifest.stored.tensors;
  }

  const InputFile& file(const std::string& name) {
    if (!open || open_name != name) {
      open = std::make_unique<InputFile>(path + "/" + name);
      open_name = name;
    }
    return *open;
  }

  // Bytes [begin, end) of a file to take(place of the chunk, values, bytes); returns their checksum.
  template <class Take>
  uint64_t stream(const std::string& name, int64_t begin, int64_t end, const Take& take) {
    const std::unique_ptr<XXH64_state_t, FreeHash> hash(XXH64_createState());
    FT_CHECK(hash, "{}: out of memory", path);
    XXH64_reset(hash.get(), 0);
    buffer.resize(kChunk / sizeof(float));
    for (int64_t at = begin; at < end;) {
      const auto n = static_cast<size_t>(std::min(kChunk, end - at));
      file(name).read(at, buffer.data(), n);
      XXH64_update(hash.get(), buffer.data(), n);
      take(at, buffer.data(), static_cast<int64_t>(n));
      at += static_cast<int64_t>(n);
    }
    return XXH64_digest(hash.get());
  }

  // Rows [begin, end) of a piece to take(first element, data, elements), and its other rows, too,
  // while its checksum is not known to be right.
  template <class Take>
  void read_piece(const std::string& name, size_t piece, int64_t begin, int64_t end,
                  const Take& take) {
    const detail::StoredPiece& p = tensors().at(name).pieces[piece];
    std::vector<bool>& known = checked.at(name);
    if (!known[piece]) begin = 0, end = p.rows;
    const uint64_t found =
        stream(p.file, p.offset + begin * p.cols * 4, p.offset + end * p.cols * 4,
               [&](int64_t at, const float* values, int64_t bytes) {
                 take((at - p.offset) / 4, values, bytes / 4);
               });
    if (known[piece]) return;
    FT_CHECK(found == p.hash,
             "{}/{}: tensor {} (rows {} to {}) is damaged: checksum {}, expected {}; use an older "
             "checkpoint",
             path, p.file, name, p.row, p.row + p.rows, detail::hex(found), detail::hex(p.hash));
    known[piece] = true;
  }

  void check_file(const std::string& name) {
    const std::string whole = path + "/" + name;
    FT_CHECK(!is_link(whole) && is_file(whole),
             "{}: is missing: the checkpoint is damaged; use an older one", whole);
    const auto listed = manifest.stored.files.find(name);
    if (listed == manifest.stored.files.end()) return;
    const int64_t size = file(name).size(), right = listed->second.bytes;
    FT_CHECK(size == right,
             "{}: is too {}: {} bytes, but it was written with {}; use an older checkpoint", whole,
             size < right ? "short" : "long", size, right);
  }

  void check_header(const std::string& name, const detail::StoredFile& f) {
    const uint64_t found = stream(name, 0, f.header, [](int64_t, const float*, int64_t) {});
    FT_CHECK(found == f.header_hash,
             "{}/{}: its header is damaged: checksum {}, expected {}; use an older checkpoint",
             path, name, detail::hex(found), detail::hex(f.header_hash));
  }

  const detail::StoredTensor& tensor(const std::string& name) const {
    const auto found = tensors().find(name);
    FT_CHECK(found != tensors().end(), "{}: has no tensor {}", path, name);
    return found->second;
  }
};

Checkpoint::Checkpoint(const std::string& path) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->manifest = detail::read_manifest(path);
  for (const char* key : {"step", "tokens", "updates"})
    if (state().contains(key)) number(key);
  std::map<std::string, int64_t> sizes;
  const auto size_of_file = [&](const std::string& name) {
    const auto known = sizes.find(name);
    if (known != sizes.end()) return known->second;
    impl_->check_file(name);
    return sizes[name] = impl_->file(name).size();
  };
  for (const auto& [name, tensor] : impl_->tensors()) {
    impl_->checked[name].assign(tensor.pieces.size(), false);
    for (const detail::StoredPiece& p : tensor.pieces) {
      const int64_t size = size_of_file(p.file);
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

const std::string& Checkpoint::text(const std::string& key) const {
  const auto found = state().find(key);
  FT_CHECK(found != state().end(),
           "{}/manifest.json: its state has no \"{}\", which every checkpoint of a run has", path(),
           key);
  return found->second;
}

int64_t Checkpoint::number(const std::string& key) const {
  return detail::state_number(path(), state(), key);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> all;
  for (const auto& [name, tensor] : impl_->tensors()) all.push_back(name);
  return all;
}

bool Checkpoint::contains(const std::string& name) const { return impl_->tensors().contains(name); }
std::vector<int64_t> Checkpoint::shape(const std::string& name) const {
  return impl_->tensor(name).shape;
}

void Checkpoint::read(const std::string& name, const Box& box, const Take& take) const {
  const detail::StoredTensor& tensor = impl_->tensor(name);
  const detail::MatrixShape whole = detail::as_matrix(name, tensor.shape);
  FT_CHECK(box.row >= 0 && box.col >= 0 && box.rows <= whole.rows &&
               box.row <= whole.rows - box.rows && box.cols <= whole.cols &&
               box.col <= whole.cols - box.cols,
           "{}: tensor {} is {} x {}; the box of {} x {} at row {}, column {} lies outside",
           impl_->path, name, whole.rows, whole.cols, box.rows, box.cols, box.row, box.col);
  for (size_t i = 0; i < tensor.pieces.size(); ++i) {  // together they are the tensor: check_cover
    const detail::StoredPiece& p = tensor.pieces[i];
    const Overlap r(box.row, box.rows, p.row, p.rows), c(box.col, box.cols, p.col, p.cols);
    if (r.size() <= 0 || c.size() <= 0) continue;
    // Whole rows of the piece at once, and what a chunk has of a row at its ends.
    const auto give = [&](int64_t first, const float* values, int64_t n) {
      for (int64_t at = first; at < first + n;) {
        const int64_t in_row = at % p.cols, left = first + n - at;
        const int64_t rows = in_row == 0 && left >= p.cols ? left / p.cols : 1;
        const int64_t run = std::min(p.cols - in_row, left);
        const Overlap down(r.begin, r.size(), p.row + at / p.cols, rows);
        const Overlap across(c.begin, c.size(), p.col + in_row, run);
        if (down.size() > 0 && across.size() > 0)
          take({down.begin - box.row, across.begin - box.col, down.size(), across.size()},
               values + (down.begin - p.row) * p.cols + across.begin - p.col - first, p.cols);
        at += rows * run;
      }
    };
    impl_->read_piece(name, i, r.begin - p.row, r.end - p.row, give);
  }
}

void Checkpoint::verify(int reader, int readers) const {
  int64_t total = 0, before = 0;
  for (const auto& [name, tensor] : impl_->tensors())
    for (const detail::StoredPiece& p : tensor.pieces) total += p.bytes();
  // In the order of the manifest, a piece is the reader's in whose share its middle lies.
  const auto mine = [&](int64_t middle) {
    return static_cast<__int128>(middle) * readers / std::max<int64_t>(total, 1) == reader;
  };
  for (const auto& [name, tensor] : impl_->tensors())
    for (size_t i = 0; i < tensor.pieces.size(); ++i) {
      const detail::StoredPiece& p = tensor.pieces[i];
      if (mine(before + p.bytes() / 2)) {
        impl_->checked.at(name)[i] = false;
        impl_->read_piece(name, i, 0, p.rows, [](int64_t, const float*, int64_t) {});
      }
      before += p.bytes();
    }
  int index = 0;
  for (const auto& [name, file] : impl_->manifest.stored.files)
    if (index++ % readers == reader) {
      impl_->check_file(name);
      impl_->check_header(name, file);
    }
}

}  // namespace ft

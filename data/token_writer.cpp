#include "data/token_writer.h"

#include "core/check.h"
#include "core/file.h"
#include "core/path.h"
#include "data/token_format.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <vector>

namespace ft {

using namespace token_format;

struct TokenWriter::Impl {
  std::string prefix;
  int64_t vocab;
  bool narrow_tokens;
  AtomicFile bin, idx;
  std::optional<AtomicFile> mask;
  std::vector<int32_t> lengths;
  std::vector<int64_t> offsets, boundaries{0};
  int64_t begin = 0;  // of the open sequence, in bytes
  std::vector<uint16_t> narrow_row;
  std::vector<int32_t> wide_row;
  std::vector<uint8_t> ones;

  Impl(const std::string& name, int64_t vocab_size, bool with_mask)
      : prefix(name),
        vocab(vocab_size),
        narrow_tokens(vocab_size < kUint16Vocab),
        bin(name + ".bin"),
        idx(name + ".idx") {
    if (with_mask) mask.emplace(name + ".mask.bin");
  }

  int64_t element() const { return narrow_tokens ? 2 : 4; }
  int64_t open() const { return (bin.position() - begin) / element(); }

  // In: the tokens as given; Out: as the file holds them.
  template <class Out, class In>
  void write(const In* tokens, int64_t count, std::vector<Out>& row) {
    if constexpr (std::is_same_v<In, Out>) {
      bin.write(tokens, static_cast<size_t>(count) * sizeof(Out));
    } else {
      row.assign(tokens, tokens + count);
      bin.write(row.data(), row.size() * sizeof(Out));
    }
  }

  template <class In>
  void add(const In* tokens, int64_t count, const uint8_t* counts) {
    FT_CHECK(count >= 0 && count <= std::numeric_limits<int32_t>::max() - open(),
             "{}: a sequence of {} tokens is too long for the format; split it", prefix,
             open() + count);
    // A negative token is a large unsigned one.
    const auto outside = [&](In id) { return static_cast<uint32_t>(id) >= vocab; };
    if (count > 0 && outside(static_cast<In>(highest(tokens, count)))) {
      const In* bad = std::find_if(tokens, tokens + count, outside);
      throw Error(fmt::format("{}: sequence {}, token {}: id {} is outside the vocabulary of {}",
                              prefix, lengths.size(), open() + (bad - tokens), *bad, vocab));
    }
    if (narrow_tokens) write(tokens, count, narrow_row);
    else write(tokens, count, wide_row);
    if (!mask) return;
    if (!counts) {
      ones.resize(std::max(ones.size(), static_cast<size_t>(count)), 1);
      counts = ones.data();
    }
    mask->write(counts, static_cast<size_t>(count));
  }

  template <class In>
  static uint32_t highest(const In* tokens, int64_t count) {
    uint32_t most = 0;
    for (int64_t k = 0; k < count; ++k) most = std::max(most, static_cast<uint32_t>(tokens[k]));
    return most;
  }
};

TokenWriter::TokenWriter(const std::string& prefix, int64_t vocab_size, bool with_mask)
    : impl_(std::make_unique<Impl>(prefix, vocab_size, with_mask)) {}
TokenWriter::~TokenWriter() = default;

void TokenWriter::add(const int32_t* tokens, int64_t count, const uint8_t* mask) {
  impl_->add(tokens, count, mask);
}
void TokenWriter::add(const uint16_t* tokens, int64_t count, const uint8_t* mask) {
  impl_->add(tokens, count, mask);
}

void TokenWriter::end_sequence() {
  Impl& i = *impl_;
  i.lengths.push_back(static_cast<int32_t>(i.open()));
  i.offsets.push_back(i.begin);
  i.begin = i.bin.position();
}

void TokenWriter::add_sequence(const int32_t* tokens, int64_t count, const uint8_t* mask) {
  add(tokens, count, mask);
  end_sequence();
}

void TokenWriter::end_document() {
  impl_->boundaries.push_back(static_cast<int64_t>(impl_->lengths.size()));
}

void TokenWriter::finish() {
  Impl& i = *impl_;
  FT_CHECK(i.open() == 0 && i.boundaries.back() == static_cast<int64_t>(i.lengths.size()),
           "{}: the last document was not ended", i.prefix);
  const uint64_t version = 1, sequences = i.lengths.size(), bounds = i.boundaries.size();
  const uint8_t code = i.narrow_tokens ? kUint16 : kInt32;
  i.idx.write(kMagic, sizeof kMagic);
  i.idx.write(&version, 8);
  i.idx.write(&code, 1);
  i.idx.write(&sequences, 8);
  i.idx.write(&bounds, 8);
  i.idx.write(i.lengths.data(), i.lengths.size() * 4);
  i.idx.write(i.offsets.data(), i.offsets.size() * 8);
  i.idx.write(i.boundaries.data(), i.boundaries.size() * 8);
  // An index is only ever beside its own tokens and mask: the old one goes first, the new one comes
  // last.
  for (const char* suffix : {".idx", ".mask.bin"}) {
    const std::string old = behind_links(i.prefix + suffix);
    std::error_code stays;
    if (is_file(old)) std::filesystem::remove(old, stays);
  }
  i.bin.commit();
  if (i.mask) i.mask->commit();
  i.idx.commit();
}

}  // namespace ft

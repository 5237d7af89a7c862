#include "data/tokens.h"

#include "core/check.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace ft {

namespace {

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr int64_t kHeader = 34;             // magic 9, version 8, dtype 1, sequences 8, documents 8
constexpr int64_t kUint16Vocab = 65500;     // Megatron writes uint16 below this vocabulary

template <class E>
E at(const uint8_t* data, int64_t i) {   // the arrays are not aligned
  E value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(E)), sizeof(E));
  return value;
}

// Codes of the format that hold whole numbers: bytes of a token, or 0.
int64_t token_bytes(uint8_t code) {
  switch (code) {
    case 1: case 2: return 1;
    case 3: case 8: return 2;
    case 4: return 4;
    case 5: return 8;
    default: return 0;
  }
}
const char* token_type(uint8_t code) {
  constexpr const char* kNames[] = {"?", "uint8", "int8", "int16", "int32", "int64", "float64", "float32", "uint16"};
  return code < 9 ? kNames[code] : "?";
}

int64_t token_at(const uint8_t* from, uint8_t code, int64_t i) {
  switch (code) {
    case 1: return at<uint8_t>(from, i);
    case 2: return at<int8_t>(from, i);
    case 3: return at<int16_t>(from, i);
    case 4: return at<int32_t>(from, i);
    case 5: return at<int64_t>(from, i);
    default: return at<uint16_t>(from, i);
  }
}

}  // namespace

struct TokenSet::Impl {
  std::string prefix;
  MappedFile idx, bin;
  uint8_t code = 0;
  int64_t element = 0, sequences = 0, documents = 0;
  const uint8_t *lengths = nullptr, *offsets = nullptr, *boundaries = nullptr;

  int64_t boundary(int64_t d) const {
    const int64_t b = at<int64_t>(boundaries, d);
    FT_CHECK_CONFIG(b >= 0 && b <= sequences && (d == 0 || b >= at<int64_t>(boundaries, d - 1)),
                    "{}: document {} starts at sequence {}, there are {}; the file is damaged", idx.path(), d, b, sequences);
    return b;
  }
  int64_t length(int64_t s) const {
    const int64_t n = at<int32_t>(lengths, s), offset = at<int64_t>(offsets, s);
    FT_CHECK_CONFIG(n >= 0 && offset >= 0 && offset <= bin.size() && n <= (bin.size() - offset) / element,
                    "{}: sequence {} is said to have {} tokens at byte {} of {}, which has {} bytes; one of the two files "
                    "is damaged or cut short", idx.path(), s, n, offset, bin.path(), bin.size());
    return n;
  }
};

TokenSet::TokenSet(const std::string& prefix) : impl_(std::make_unique<Impl>()) {
  Impl& i = *impl_;
  i.prefix = prefix;
  i.idx = MappedFile(prefix + ".idx");
  i.bin = MappedFile(prefix + ".bin");
  const uint8_t* data = i.idx.data();
  const int64_t size = i.idx.size();
  FT_CHECK_CONFIG(size >= kHeader, "{}: {} bytes are too few for an index; the file is cut short", i.idx.path(), size);
  FT_CHECK_CONFIG(std::memcmp(data, kMagic, sizeof kMagic) == 0,
                  "{}: does not start with MMIDIDX: not a Megatron index", i.idx.path());
  const auto version = at<uint64_t>(data + 9, 0);
  FT_CHECK_CONFIG(version == 1, "{}: version {}, expected 1", i.idx.path(), version);
  i.code = data[17];
  i.element = token_bytes(i.code);
  FT_CHECK_CONFIG(i.element > 0, "{}: tokens of type {} (code {}); expected whole numbers", i.idx.path(),
                  token_type(i.code), i.code);
  const auto sequences = at<uint64_t>(data + 18, 0), bounds = at<uint64_t>(data + 26, 0);
  const auto limit = static_cast<uint64_t>(size);
  FT_CHECK_CONFIG(bounds >= 1 && sequences <= limit && bounds <= limit &&
                      kHeader + 12 * sequences + 8 * bounds <= limit,
                  "{}: {} sequences and {} documents do not fit {} bytes; the file is damaged or cut short", i.idx.path(),
                  sequences, bounds - 1, size);
  i.sequences = static_cast<int64_t>(sequences), i.documents = static_cast<int64_t>(bounds) - 1;
  i.lengths = data + kHeader;
  i.offsets = i.lengths + 4 * i.sequences;
  i.boundaries = i.offsets + 8 * i.sequences;
  FT_CHECK_CONFIG(i.boundary(0) == 0 && i.boundary(i.documents) == i.sequences,
                  "{}: documents cover sequences {} to {} of {}; the file is damaged", i.idx.path(), i.boundary(0),
                  i.boundary(i.documents), i.sequences);
  if (i.sequences > 0) i.length(i.sequences - 1);   // a .bin that was cut short shows here
}

TokenSet::~TokenSet() = default;
TokenSet::TokenSet(TokenSet&&) noexcept = default;
const std::string& TokenSet::prefix() const { return impl_->prefix; }
int64_t TokenSet::documents() const { return impl_->documents; }
int64_t TokenSet::sequences() const { return impl_->sequences; }
int64_t TokenSet::tokens() const { return impl_->bin.size() / impl_->element; }
std::string TokenSet::dtype_name() const { return token_type(impl_->code); }

int64_t TokenSet::document_length(int64_t document) const {
  int64_t n = 0;
  for (int64_t s = impl_->boundary(document); s < impl_->boundary(document + 1); ++s) n += impl_->length(s);
  return n;
}

void TokenSet::read(int64_t document, int64_t begin, int64_t count, int32_t* out) const {
  const Impl& i = *impl_;
  for (int64_t s = i.boundary(document); s < i.boundary(document + 1) && count > 0; ++s) {
    const int64_t length = i.length(s);
    if (begin >= length) {
      begin -= length;
      continue;
    }
    const int64_t n = std::min(count, length - begin), first = at<int64_t>(i.offsets, s) + begin * i.element;
    for (int64_t k = 0; k < n; ++k) {
      const int64_t id = token_at(i.bin.data() + first, i.code, k);
      FT_CHECK(id >= 0 && id <= std::numeric_limits<int32_t>::max(), "{}: document {}: token {} at byte {} is no token id",
               i.bin.path(), document, id, first + k * i.element);
      *out++ = static_cast<int32_t>(id);
    }
    count -= n;
    begin = 0;
  }
  FT_CHECK(count == 0, "{}: document {} ends {} tokens too early", i.prefix, document, count);
}

std::string TokenSet::identity() const {
  const Impl& i = *impl_;
  constexpr int64_t kEnds = 4096;
  const int64_t n = std::min(kEnds, i.idx.size());
  return fmt::format("{}-{}-{:016x}{:016x}", i.idx.size(), i.bin.size(), XXH64(i.idx.data(), static_cast<size_t>(n), 0),
                     XXH64(i.idx.data() + i.idx.size() - n, static_cast<size_t>(n), 0));
}

struct TokenWriter::Impl {
  AtomicFile bin, idx;
  bool narrow_tokens;
  std::vector<int32_t> lengths;
  std::vector<int64_t> offsets, boundaries{0};
  std::vector<uint16_t> row;
  Impl(const std::string& prefix, bool narrow) : bin(prefix + ".bin"), idx(prefix + ".idx"), narrow_tokens(narrow) {}
};

TokenWriter::TokenWriter(const std::string& prefix, int64_t vocab_size)
    : impl_(std::make_unique<Impl>(prefix, vocab_size < kUint16Vocab)) {}
TokenWriter::~TokenWriter() = default;

void TokenWriter::add_sequence(const int32_t* tokens, int64_t count) {
  Impl& i = *impl_;
  i.offsets.push_back(i.bin.position());
  i.lengths.push_back(static_cast<int32_t>(count));
  FT_CHECK(i.lengths.back() == count, "a sequence of {} tokens is too long for the format", count);
  if (i.narrow_tokens) {
    i.row.resize(static_cast<size_t>(count));
    for (int64_t k = 0; k < count; ++k) i.row[static_cast<size_t>(k)] = static_cast<uint16_t>(tokens[k]);
    i.bin.write(i.row.data(), i.row.size() * 2);
  } else {
    i.bin.write(tokens, static_cast<size_t>(count) * 4);
  }
}

void TokenWriter::end_document() { impl_->boundaries.push_back(static_cast<int64_t>(impl_->lengths.size())); }

void TokenWriter::finish() {
  Impl& i = *impl_;
  const uint64_t version = 1, sequences = i.lengths.size(), bounds = i.boundaries.size();
  const uint8_t code = i.narrow_tokens ? 8 : 4;
  i.idx.write(kMagic, sizeof kMagic);
  i.idx.write(&version, 8);
  i.idx.write(&code, 1);
  i.idx.write(&sequences, 8);
  i.idx.write(&bounds, 8);
  i.idx.write(i.lengths.data(), i.lengths.size() * 4);
  i.idx.write(i.offsets.data(), i.offsets.size() * 8);
  i.idx.write(i.boundaries.data(), i.boundaries.size() * 8);
  i.bin.commit();
  i.idx.commit();
}

}  // namespace ft

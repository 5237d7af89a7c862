#include "data/tokens.h"

#include "core/check.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>

namespace ft {

namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr int64_t kHeader = 34;          // magic 9, version 8, dtype 1, sequences 8, documents 8
constexpr int64_t kUint16Vocab = 65500;  // Megatron writes uint16 below this vocabulary

template <class E>
E at(const uint8_t* data, int64_t i) {  // the arrays are not aligned
  E value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(E)), sizeof(E));
  return value;
}

// Codes of the format that hold whole numbers: bytes of a token, or 0.
int64_t token_bytes(uint8_t code) {
  switch (code) {
    case 1:
    case 2:
      return 1;
    case 3:
    case 8:
      return 2;
    case 4:
      return 4;
    case 5:
      return 8;
    default:
      return 0;
  }
}
const char* token_type(uint8_t code) {
  constexpr const char* kNames[] = {"?",     "uint8",   "int8",    "int16", "int32",
                                    "int64", "float64", "float32", "uint16"};
  return code < 9 ? kNames[code] : "?";
}

// Widens `count` tokens; returns the index of the first that is no token id, or `count`.
template <class E>
int64_t widen(const uint8_t* from, int64_t count, int32_t* out) {
  for (int64_t k = 0; k < count; ++k) {
    const auto id = static_cast<int64_t>(at<E>(from, k));
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) return k;
    out[k] = static_cast<int32_t>(id);
  }
  return count;
}

int64_t widen(uint8_t code, const uint8_t* from, int64_t count, int32_t* out) {
  switch (code) {
    case 1:
      return widen<uint8_t>(from, count, out);
    case 2:
      return widen<int8_t>(from, count, out);
    case 3:
      return widen<int16_t>(from, count, out);
    case 4:
      return widen<int32_t>(from, count, out);
    case 5:
      return widen<int64_t>(from, count, out);
    default:
      return widen<uint16_t>(from, count, out);
  }
}

// A hash of up to 16 blocks spread evenly over a file, its first and last bytes among them: short
// files whole, long ones without reading them through.
uint64_t sampled_hash(const MappedFile& file) {
  constexpr int64_t kBlocks = 16, kBlock = 4096;
  XXH64_hash_t hash = 0;
  const int64_t last = std::max<int64_t>(0, file.size() - kBlock);
  for (int64_t b = 0; b < kBlocks && file.size() > 0; ++b) {
    const int64_t from = last / (kBlocks - 1) * b + last % (kBlocks - 1) * b / (kBlocks - 1);
    hash =
        XXH64(file.data() + from, static_cast<size_t>(std::min(kBlock, file.size() - from)), hash);
  }
  return hash;
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
                    "{}: at byte {}: document {} starts at sequence {}, after document {} at {}, "
                    "of {}; the file is "
                    "damaged, make it again",
                    idx.path(), boundaries - idx.data() + 8 * d, d, b, d - 1,
                    d == 0 ? 0 : at<int64_t>(boundaries, d - 1), sequences);
    return b;
  }
  // Tokens of a sequence that lies inside the .bin. document: for the message.
  int64_t length(int64_t s, int64_t document) const {
    const int64_t n = at<int32_t>(lengths, s), offset = at<int64_t>(offsets, s);
    FT_CHECK_CONFIG(
        n >= 0 && offset >= 0 && offset <= bin.size() && n <= (bin.size() - offset) / element,
        "{}: at byte {}: document {}, sequence {} is said to have {} tokens at byte {} of {}, "
        "which has {} "
        "bytes; one of the two files is damaged or cut short, make them again",
        idx.path(), lengths - idx.data() + 4 * s, document, s, n, offset, bin.path(), bin.size());
    return n;
  }
  void check(int64_t document) const {
    FT_CHECK(document >= 0 && document < documents, "{}: no document {}, there are {}", prefix,
             document, documents);
  }
};

TokenSet::TokenSet(const std::string& prefix) : impl_(std::make_unique<Impl>()) {
  Impl& i = *impl_;
  i.prefix = prefix;
  i.idx = MappedFile(prefix + ".idx");
  i.bin = MappedFile(prefix + ".bin");
  const uint8_t* data = i.idx.data();
  const int64_t size = i.idx.size();
  FT_CHECK_CONFIG(size >= kHeader, "{}: {} bytes are too few for an index; the file is cut short",
                  i.idx.path(), size);
  FT_CHECK_CONFIG(std::memcmp(data, kMagic, sizeof kMagic) == 0,
                  "{}: does not start with MMIDIDX: not a Megatron index", i.idx.path());
  const auto version = at<uint64_t>(data + 9, 0);
  FT_CHECK_CONFIG(version == 1, "{}: version {}, expected 1", i.idx.path(), version);
  i.code = data[17];
  i.element = token_bytes(i.code);
  FT_CHECK_CONFIG(i.element > 0, "{}: tokens of type {} (code {}); expected whole numbers",
                  i.idx.path(), token_type(i.code), i.code);
  const auto sequences = at<uint64_t>(data + 18, 0), bounds = at<uint64_t>(data + 26, 0);
  const auto limit = static_cast<uint64_t>(size);
  FT_CHECK_CONFIG(
      bounds >= 1 && sequences <= limit && bounds <= limit &&
          kHeader + 12 * sequences + 8 * bounds <= limit,
      "{}: {} sequences and {} documents do not fit {} bytes; the file is damaged or cut short",
      i.idx.path(), sequences, bounds - 1, size);
  i.sequences = static_cast<int64_t>(sequences), i.documents = static_cast<int64_t>(bounds) - 1;
  i.lengths = data + kHeader;
  i.offsets = i.lengths + 4 * i.sequences;
  i.boundaries = i.offsets + 8 * i.sequences;
  FT_CHECK_CONFIG(i.boundary(0) == 0 && i.boundary(i.documents) == i.sequences,
                  "{}: documents cover sequences {} to {} of {}; the file is damaged", i.idx.path(),
                  i.boundary(0), i.boundary(i.documents), i.sequences);
  FT_CHECK_CONFIG(i.bin.size() % i.element == 0,
                  "{}: {} bytes are no whole number of {} tokens; the file is cut short, or "
                  "another set's",
                  i.bin.path(), i.bin.size(), token_type(i.code));
  if (i.sequences > 0)
    i.length(i.sequences - 1, i.documents - 1);  // a .bin that was cut short shows here
}

TokenSet::~TokenSet() = default;
TokenSet::TokenSet(TokenSet&&) noexcept = default;
const std::string& TokenSet::prefix() const { return impl_->prefix; }
int64_t TokenSet::documents() const { return impl_->documents; }
int64_t TokenSet::sequences() const { return impl_->sequences; }
int64_t TokenSet::tokens() const { return impl_->bin.size() / impl_->element; }
std::string TokenSet::dtype_name() const { return token_type(impl_->code); }

int64_t TokenSet::document_length(int64_t document) const {
  impl_->check(document);
  int64_t n = 0;
  const int64_t end = impl_->boundary(document + 1);
  for (int64_t s = impl_->boundary(document); s < end; ++s) n += impl_->length(s, document);
  return n;
}

void TokenSet::read(int64_t document, int64_t begin, int64_t count, int32_t* out) const {
  const Impl& i = *impl_;
  i.check(document);
  const int64_t end = i.boundary(document + 1);
  for (int64_t s = i.boundary(document); s < end && count > 0; ++s) {
    const int64_t length = i.length(s, document);
    if (begin >= length) {
      begin -= length;
      continue;
    }
    const int64_t n = std::min(count, length - begin),
                  first = at<int64_t>(i.offsets, s) + begin * i.element;
    const int64_t good = widen(i.code, i.bin.data() + first, n, out);
    FT_CHECK(good == n, "{}: document {}: the {} at byte {} is no token id", i.bin.path(), document,
             token_type(i.code), first + good * i.element);
    out += n;
    count -= n;
    begin = 0;
  }
  FT_CHECK(count == 0, "{}: document {} ends {} tokens too early", i.prefix, document, count);
}

std::string TokenSet::identity() const {
  const Impl& i = *impl_;
  return fmt::format("{}-{}-{:016x}-{:016x}", i.idx.size(), i.bin.size(), sampled_hash(i.idx),
                     sampled_hash(i.bin));
}

struct TokenWriter::Impl {
  std::string prefix;
  int64_t vocab;
  bool narrow_tokens;
  AtomicFile bin, idx;
  std::vector<int32_t> lengths;
  std::vector<int64_t> offsets, boundaries{0};
  std::vector<uint16_t> row;
  Impl(const std::string& name, int64_t vocab_size)
      : prefix(name),
        vocab(vocab_size),
        narrow_tokens(vocab_size < kUint16Vocab),
        bin(name + ".bin"),
        idx(name + ".idx") {}
};

TokenWriter::TokenWriter(const std::string& prefix, int64_t vocab_size)
    : impl_(std::make_unique<Impl>(prefix, vocab_size)) {}
TokenWriter::~TokenWriter() = default;

void TokenWriter::add_sequence(const int32_t* tokens, int64_t count) {
  Impl& i = *impl_;
  FT_CHECK(count >= 0 && count <= std::numeric_limits<int32_t>::max(),
           "{}: a sequence of {} tokens is too long for the format; split it", i.prefix, count);
  for (int64_t k = 0; k < count; ++k)
    FT_CHECK(tokens[k] >= 0 && tokens[k] < i.vocab,
             "{}: sequence {}: token {} is outside the vocabulary of {}", i.prefix,
             i.lengths.size(), tokens[k], i.vocab);
  i.offsets.push_back(i.bin.position());
  i.lengths.push_back(static_cast<int32_t>(count));
  if (i.narrow_tokens) {
    i.row.resize(static_cast<size_t>(count));
    for (int64_t k = 0; k < count; ++k)
      i.row[static_cast<size_t>(k)] = static_cast<uint16_t>(tokens[k]);
    i.bin.write(i.row.data(), i.row.size() * 2);
  } else {
    i.bin.write(tokens, static_cast<size_t>(count) * 4);
  }
}

void TokenWriter::end_document() {
  impl_->boundaries.push_back(static_cast<int64_t>(impl_->lengths.size()));
}

void TokenWriter::finish() {
  Impl& i = *impl_;
  FT_CHECK(i.boundaries.back() == static_cast<int64_t>(i.lengths.size()),
           "{}: the last document was not ended", i.prefix);
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
  // An index is only ever beside its own tokens: the old one goes first, the new one comes last.
  std::error_code none_there;
  std::filesystem::remove(i.prefix + ".idx", none_there);
  i.bin.commit();
  i.idx.commit();
}

}  // namespace ft

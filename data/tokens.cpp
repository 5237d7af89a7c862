#include "data/tokens.h"

#include "core/check.h"
#include "data/identity.h"
#include "data/token_format.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>

namespace ft {

using namespace token_format;

namespace {

constexpr const char* kIdentityVersion = "2:";

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
  bool good = true;  // one pass without branches, which the compiler makes vectors of
  for (int64_t k = 0; k < count; ++k) {
    const E id = at<E>(from, k);
    out[k] = static_cast<int32_t>(id);
    good &= static_cast<uint64_t>(id) <= 0x7fffffffu;
  }
  if (good) return count;
  for (int64_t k = 0;; ++k)
    if (static_cast<uint64_t>(at<E>(from, k)) > 0x7fffffffu) return k;
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

// Room for what a thread reads, kept between calls.
std::vector<uint8_t>& room() {
  thread_local std::vector<uint8_t> bytes;
  return bytes;
}

}  // namespace

struct TokenSet::Impl {
  std::string prefix;
  Access access = Access::Map;
  DataFile idx, bin;
  std::optional<DataFile> mask;
  const uint8_t* head = nullptr;  // of the mapped index
  uint8_t code = 0;
  int64_t element = 0, sequences = 0, documents = 0;
  const uint8_t *lengths = nullptr, *offsets = nullptr, *boundaries = nullptr;

  int64_t boundary(int64_t d) const {
    const int64_t b = at<int64_t>(boundaries, d);
    FT_CHECK_CONFIG(b >= 0 && b <= sequences && (d == 0 || b >= at<int64_t>(boundaries, d - 1)),
                    "{}: at byte {}: document {} starts at sequence {}, after document {} at {}, "
                    "of {}; the file is "
                    "damaged, make it again",
                    idx.path(), boundaries - head + 8 * d, d, b, d - 1,
                    d == 0 ? 0 : at<int64_t>(boundaries, d - 1), sequences);
    return b;
  }
  // Tokens of a sequence that lies inside the .bin. document: for the message.
  int64_t length(int64_t s, int64_t document) const {
    const int64_t n = at<int32_t>(lengths, s), offset = at<int64_t>(offsets, s);
    FT_CHECK_CONFIG(
        n >= 0 && offset >= 0 && offset <= bin.size() && (offset & (element - 1)) == 0 &&
            n <= (bin.size() - offset) / element,
        "{}: at byte {}: document {}, sequence {} is said to have {} tokens at byte {} of {}, "
        "which has {} "
        "bytes; one of the two files is damaged or cut short, make them again",
        idx.path(), lengths - head + 4 * s, document, s, n, offset, bin.path(), bin.size());
    return n;
  }
  void check(int64_t document) const {
    FT_CHECK(document >= 0 && document < documents, "{}: no document {}, there are {}", prefix,
             document, documents);
  }
  // Calls f(token of the .bin, count) for the parts of the .bin that hold tokens [begin, begin +
  // count) of a document, in order.
  template <class F>
  void parts(int64_t document, int64_t begin, int64_t count, F&& f) const {
    check(document);
    const int64_t end = boundary(document + 1);
    for (int64_t s = boundary(document); s < end && count > 0; ++s) {
      const int64_t size = length(s, document);
      if (begin >= size) {
        begin -= size;
        continue;
      }
      const int64_t n = std::min(count, size - begin);
      f(at<int64_t>(offsets, s) / element + begin, n);
      count -= n;
      begin = 0;
    }
    FT_CHECK(count == 0, "{}: document {} ends {} tokens too early", prefix, document, count);
  }
  void open_index(const std::string& path);
  void open_mask(const std::string& path);
};

TokenSet::TokenSet(const std::string& prefix, Access access) : impl_(std::make_unique<Impl>()) {
  Impl& i = *impl_;
  for (const char* suffix : {".idx", ".bin"}) {
    std::error_code unknown;
    FT_CHECK_CONFIG(std::filesystem::status(prefix + suffix, unknown).type() !=
                        std::filesystem::file_type::not_found,
                    "{}{}: is missing; a token set is PREFIX.bin and PREFIX.idx together, and its "
                    "path is the PREFIX. falcon-train tokenize makes one",
                    prefix, suffix);
  }
  i.prefix = prefix;
  i.access = access;
  i.open_index(prefix + ".idx");
  i.bin = DataFile(prefix + ".bin", access);
  FT_CHECK_CONFIG(i.bin.size() % i.element == 0,
                  "{}: {} bytes are no whole number of {} tokens; the file is cut short, or "
                  "another set's",
                  i.bin.path(), i.bin.size(), token_type(i.code));
  if (i.sequences > 0)
    i.length(i.sequences - 1, i.documents - 1);  // a .bin that was cut short shows here
  i.open_mask(prefix + ".mask.bin");
}

void TokenSet::Impl::open_mask(const std::string& path) {
  // A link that leads nowhere, or a folder that may not be read, is no absent mask.
  std::error_code unknown;
  if (std::filesystem::symlink_status(path, unknown).type() ==
      std::filesystem::file_type::not_found)
    return;
  mask.emplace(path, access);
  FT_CHECK_CONFIG(mask->size() == bin.size() / element,
                  "{}: {} bytes for the {} tokens of {}; a mask has one byte a token. Make the two "
                  "together, or remove the mask to let every token count",
                  path, mask->size(), bin.size() / element, bin.path());
}

void TokenSet::Impl::open_index(const std::string& path) {
  Impl& i = *this;
  i.idx = DataFile(path);
  const uint8_t* data = i.head = i.idx.mapping();
  const int64_t size = i.idx.size();
  FT_CHECK_CONFIG(size >= kHeader,
                  "{}: {} bytes are too few for an index; the file is cut short, make it again",
                  i.idx.path(), size);
  FT_CHECK_CONFIG(
      std::memcmp(data, kMagic, sizeof kMagic) == 0,
      "{}: at byte 0: does not start with MMIDIDX, so it is no Megatron index; make the set with "
      "falcon-train tokenize or scripts/prepare_data.py",
      i.idx.path());
  const auto version = at<uint64_t>(data + 9, 0);
  FT_CHECK_CONFIG(version == 1,
                  "{}: at byte 9: version {}, expected 1; the file is damaged or of another format",
                  i.idx.path(), version);
  i.code = data[17];
  i.element = token_bytes(i.code);
  FT_CHECK_CONFIG(i.element > 0,
                  "{}: at byte 17: tokens of type {} (code {}); expected whole numbers",
                  i.idx.path(), token_type(i.code), i.code);
  const auto sequences = at<uint64_t>(data + 18, 0), bounds = at<uint64_t>(data + 26, 0);
  const auto limit = static_cast<uint64_t>(size);
  FT_CHECK_CONFIG(
      bounds >= 1 && sequences <= limit && bounds <= limit &&
          kHeader + 12 * sequences + 8 * bounds <= limit,
      "{}: {} sequences and {} documents do not fit {} bytes; the file is damaged or cut short, "
      "make it again",
      i.idx.path(), sequences, bounds - 1, size);
  i.sequences = static_cast<int64_t>(sequences), i.documents = static_cast<int64_t>(bounds) - 1;
  i.lengths = data + kHeader;
  i.offsets = i.lengths + 4 * i.sequences;
  i.boundaries = i.offsets + 8 * i.sequences;
  FT_CHECK_CONFIG(
      i.boundary(0) == 0 && i.boundary(i.documents) == i.sequences,
      "{}: documents cover sequences {} to {} of {}; the file is damaged, make it again",
      i.idx.path(), i.boundary(0), i.boundary(i.documents), i.sequences);
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
  i.parts(document, begin, count, [&](int64_t first, int64_t n) {
    const uint8_t* from = i.bin.bytes(first * i.element, n * i.element, room());
    const int64_t good = widen(i.code, from, n, out);
    FT_CHECK(good == n, "{}: document {}: the {} at byte {} is no token id; the file is damaged",
             i.bin.path(), document, token_type(i.code), (first + good) * i.element);
    out += n;
  });
}

bool TokenSet::has_mask() const { return impl_->mask.has_value(); }

void TokenSet::read_mask(int64_t document, int64_t begin, int64_t count, uint8_t* out) const {
  const Impl& i = *impl_;
  i.parts(document, begin, count, [&](int64_t first, int64_t n) {
    out = std::copy_n(i.mask->bytes(first, n, room()), n, out);
  });
}

void TokenSet::expect(int64_t document, int64_t begin, int64_t count) const {
  const Impl& i = *impl_;
  if (i.access == Access::Map) return;
  i.parts(document, begin, count, [&](int64_t first, int64_t n) {
    i.bin.expect(first * i.element, n * i.element);
    if (i.mask) i.mask->expect(first, n);
  });
}

std::string TokenSet::identity() const {
  constexpr int64_t kWhole = int64_t{16} << 20;
  const Impl& i = *impl_;
  std::string text =
      fmt::format("{}{}-{}-{:016x}-{:016x}", kIdentityVersion, i.idx.size(), i.bin.size(),
                  content_hash(i.idx, 4 * kWhole), content_hash(i.bin, kWhole));
  if (i.mask) text += fmt::format("-mask-{:016x}", content_hash(*i.mask, kWhole));
  return text;
}

std::string TokenSet::sparse_identity() const {
  const Impl& i = *impl_;
  std::string text = fmt::format("{}-{}-{:016x}-{:016x}", i.idx.size(), i.bin.size(),
                                 sparse_hash(i.idx), sparse_hash(i.bin));
  if (i.mask) text += fmt::format("-mask-{:016x}", sparse_hash(*i.mask));
  return text;
}

bool is_sparse_identity(const std::string& identity) {
  return !identity.starts_with(kIdentityVersion);
}

}  // namespace ft

#include "data/text_file.h"

#include "core/check.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace ft {

namespace {

constexpr size_t kPiece = size_t{1} << 20;

bool ends_with(const std::string& path, std::string_view suffix) {
  return path.size() > suffix.size() &&
         std::equal(suffix.rbegin(), suffix.rend(), path.rbegin(),
                    [](char a, char b) { return a == std::tolower(static_cast<uint8_t>(b)); });
}

}  // namespace

struct TextFile::Reader {
  std::string path;
  std::vector<char> piece = std::vector<char>(kPiece);
  explicit Reader(const std::string& p) : path(p) {}
  virtual ~Reader() = default;
  virtual size_t read() = 0;  // bytes now in `piece`; 0 at the end
  virtual int64_t consumed() const = 0;
};

namespace {

struct PlainReader : TextFile::Reader {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file;
  int64_t begin, position;
  explicit PlainReader(const std::string& p, int64_t from = 0)
      : Reader(p), file(std::fopen(p.c_str(), "rb"), std::fclose), begin(from), position(from) {
    FT_CHECK_CONFIG(file, "{}: cannot be opened: {}", path, std::strerror(errno));
    FT_CHECK_CONFIG(from == 0 || ::fseeko(file.get(), from, SEEK_SET) == 0,
                    "{}: cannot be read from byte {}: {}", path, from, std::strerror(errno));
  }
  int64_t consumed() const override { return position - begin; }
  size_t read_into(std::vector<char>& buffer) {
    const size_t n = std::fread(buffer.data(), 1, buffer.size(), file.get());
    FT_CHECK(n > 0 || !std::ferror(file.get()), "{}: reading failed at byte {}: {}", path, position,
             std::strerror(errno));
    position += static_cast<int64_t>(n);
    return n;
  }
  size_t read() override { return read_into(piece); }
};

// A file whose bytes come packed.
struct PackedReader : PlainReader {
  std::vector<char> packed = std::vector<char>(kPiece);
  size_t begin = 0, size = 0;  // what is not yet unpacked
  explicit PackedReader(const std::string& p) : PlainReader(p) {}
  // Whether there is more to unpack.
  bool more() {
    if (begin == size) begin = 0, size = read_into(packed);
    return size > 0;
  }
};

// All members of a file, as gzip itself reads them; zeros behind a member are padding (tapes).
struct GzReader : PackedReader {
  z_stream stream{};
  bool open = false;  // inside a member
  bool any = false;   // members so far
  explicit GzReader(const std::string& p) : PackedReader(p) {
    constexpr int kOnlyGzip = 16;
    FT_CHECK(inflateInit2(&stream, MAX_WBITS + kOnlyGzip) == Z_OK, "{}: zlib does not start", path);
  }
  ~GzReader() override { inflateEnd(&stream); }

  bool padding() {
    while (any && !open && more() && packed[begin] == 0) ++begin;
    return !more();
  }
  size_t read() override {
    for (;;) {
      if (padding()) {
        FT_CHECK(!open, "{}: is cut short", path);
        return 0;
      }
      if (!open && any) inflateReset(&stream);
      open = true;
      stream.next_in = reinterpret_cast<Bytef*>(packed.data() + begin);
      stream.avail_in = static_cast<uInt>(size - begin);
      stream.next_out = reinterpret_cast<Bytef*>(piece.data());
      stream.avail_out = static_cast<uInt>(piece.size());
      const int code = inflate(&stream, Z_NO_FLUSH);
      begin = size - stream.avail_in;
      const char* why = stream.msg ? stream.msg : "zlib does not know this";
      if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
        FT_CHECK(any || stream.total_out > 0 || stream.total_in > 64,
                 "{}: is not in gzip format; rename it if it is plain text", path);
        throw Error(fmt::format("{}: is damaged before byte {}: {}", path,
                                position - static_cast<int64_t>(size - begin), why));
      }
      if (code == Z_STREAM_END) open = false, any = true;
      if (const size_t n = piece.size() - stream.avail_out; n > 0) return n;
    }
  }
};

// All frames of a file, as zstd itself reads them with any --long.
struct ZstReader : PackedReader {
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream{ZSTD_createDStream(),
                                                                  ZSTD_freeDStream};
  size_t left = 0;  // not 0: inside a frame
  explicit ZstReader(const std::string& p) : PackedReader(p) {
    const auto largest = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound;
    ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, largest);
  }
  size_t read() override {
    for (;;) {
      const bool at_end = !more();
      if (at_end && left == 0) return 0;
      ZSTD_inBuffer in{packed.data(), size, begin};
      ZSTD_outBuffer out{piece.data(), piece.size(), 0};
      left = ZSTD_decompressStream(stream.get(), &out, &in);
      begin = in.pos;
      FT_CHECK(!ZSTD_isError(left), "{}: is damaged before byte {}: {}", path,
               position - static_cast<int64_t>(size - begin), ZSTD_getErrorName(left));
      if (out.pos > 0) return out.pos;
      FT_CHECK(!at_end || left == 0, "{}: is cut short", path);
    }
  }
};

}  // namespace

TextFile::TextFile(const std::string& path, int64_t begin) {
  if (ends_with(path, ".gz")) reader_ = std::make_unique<GzReader>(path);
  else if (ends_with(path, ".zst")) reader_ = std::make_unique<ZstReader>(path);
  else reader_ = std::make_unique<PlainReader>(path, begin);
}

TextFile::~TextFile() = default;
std::string_view TextFile::read() { return {reader_->piece.data(), reader_->read()}; }

int64_t TextFile::consumed() const { return reader_->consumed(); }

std::string unpacked_name(const std::string& path) {
  for (const char* suffix : {".gz", ".zst"})
    if (ends_with(path, suffix))
      return path.substr(0, path.size() - std::string_view(suffix).size());
  return path;
}

}  // namespace ft

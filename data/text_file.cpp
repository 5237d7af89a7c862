#include "data/text_file.h"

#include "core/check.h"

#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace ft {

namespace {

constexpr size_t kPiece = size_t{1} << 20;

bool ends_with(const std::string& path, const char* suffix) {
  const size_t n = std::strlen(suffix);
  return path.size() > n && path.compare(path.size() - n, n, suffix) == 0;
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

struct GzReader : TextFile::Reader {
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file;
  explicit GzReader(const std::string& p) : Reader(p), file(gzopen(p.c_str(), "rb"), gzclose) {
    FT_CHECK_CONFIG(file, "{}: cannot be opened: {}", path, std::strerror(errno));
    gzbuffer(file.get(), 1 << 18);
  }
  int64_t consumed() const override { return gzoffset(file.get()); }
  size_t read() override {
    const int n = gzread(file.get(), piece.data(), static_cast<unsigned>(piece.size()));
    // zlib would pass on as they are the bytes of a file that is not gzip.
    FT_CHECK(n <= 0 || !gzdirect(file.get()),
             "{}: is not in gzip format; rename it if it is plain text", path);
    int code = Z_OK;
    const char* why = gzerror(file.get(), &code);
    FT_CHECK(n >= 0 && (code == Z_OK || code == Z_STREAM_END), "{}: is damaged: {}", path, why);
    return static_cast<size_t>(n);
  }
};

struct ZstReader : PlainReader {
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream{ZSTD_createDStream(),
                                                                  ZSTD_freeDStream};
  std::vector<char> packed = std::vector<char>(kPiece);
  ZSTD_inBuffer in{packed.data(), 0, 0};
  bool at_end = false;
  size_t left = 0;  // not 0: inside a frame
  explicit ZstReader(const std::string& p) : PlainReader(p) {}
  size_t read() override {
    for (;;) {
      if (in.pos == in.size && !at_end) {
        in = {packed.data(), read_into(packed), 0};
        at_end = in.size == 0;
      }
      if (at_end && left == 0) return 0;
      ZSTD_outBuffer out{piece.data(), piece.size(), 0};
      left = ZSTD_decompressStream(stream.get(), &out, &in);
      FT_CHECK(!ZSTD_isError(left), "{}: is damaged: {}", path, ZSTD_getErrorName(left));
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
    if (ends_with(path, suffix)) return path.substr(0, path.size() - std::strlen(suffix));
  return path;
}

}  // namespace ft

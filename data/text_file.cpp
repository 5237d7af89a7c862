#include "data/text_file.h"

#include "core/check.h"
#include "core/file.h"

#include <zlib.h>
#include <zstd.h>

#include <array>
#include <memory>

namespace ft {

namespace {

std::string read_gz(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  FT_CHECK(file, "{}: cannot be opened", path);
  std::string text;
  std::array<char, 1 << 16> part{};
  int n = 0;
  while ((n = gzread(file.get(), part.data(), part.size())) > 0) text.append(part.data(), static_cast<size_t>(n));
  int code = Z_OK;
  const char* why = gzerror(file.get(), &code);
  FT_CHECK(n == 0 && (code == Z_OK || code == Z_STREAM_END), "{}: is damaged: {}", path, why);
  return text;
}

std::string read_zst(const std::string& path) {
  const MappedFile file(path);
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(), ZSTD_freeDStream);
  ZSTD_inBuffer in{file.data(), static_cast<size_t>(file.size()), 0};
  std::string text;
  std::array<char, 1 << 16> part{};
  size_t left = 0;
  while (in.pos < in.size) {
    ZSTD_outBuffer out{part.data(), part.size(), 0};
    left = ZSTD_decompressStream(stream.get(), &out, &in);
    FT_CHECK(!ZSTD_isError(left), "{}: is damaged: {}", path, ZSTD_getErrorName(left));
    text.append(part.data(), out.pos);
  }
  while (left != 0) {   // what the decoder still holds
    ZSTD_outBuffer out{part.data(), part.size(), 0};
    left = ZSTD_decompressStream(stream.get(), &out, &in);
    FT_CHECK(!ZSTD_isError(left) && (left == 0 || out.pos > 0), "{}: is cut short", path);
    text.append(part.data(), out.pos);
  }
  return text;
}

}  // namespace

TextFile read_text_file(const std::string& path) {
  const auto ends = [&](const std::string& suffix) {
    return path.size() > suffix.size() && path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0;
  };
  if (ends(".gz")) return {path.substr(0, path.size() - 3), read_gz(path)};
  if (ends(".zst")) return {path.substr(0, path.size() - 4), read_zst(path)};
  return {path, read_text(path)};
}

}  // namespace ft

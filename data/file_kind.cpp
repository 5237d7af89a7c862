#include "data/file_kind.h"

#include "core/check.h"
#include "data/set_info.h"
#include "data/text/tokenizer.h"
#include "data/text_file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace ft {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

namespace {

constexpr size_t kLooked = size_t{64} << 10;

struct Magic {
  size_t at;
  std::string_view bytes;
  const char* kind;
};
constexpr std::array kMagics{
    Magic{4, "\x31\x41\x59\x26\x53\x59"sv, "packed with bzip2"},
    Magic{4, "\x17\x72\x45\x38\x50\x90"sv, "packed with bzip2"},
    Magic{0, "\xfd\x37zXZ\0"sv, "packed with xz"},
    Magic{0, "\x5d\0\0"sv, "packed with lzma"},
    Magic{0, "\x04\x22\x4d\x18"sv, "packed with lz4"},
    Magic{0, "\x02\x21\x4c\x18"sv, "packed with lz4"},
    Magic{0, "\x89LZO\0"sv, "packed with lzop"},
    Magic{0, "\xff\x06\0\0sNaPpY"sv, "packed with snappy"},
    Magic{0, "\x28\xb5\x2f\xfd"sv, "packed with zstd"},
    Magic{0, "\x1f\x8b"sv, "packed with gzip"},
    Magic{0, "\x1f\x9d"sv, "packed with compress"},
    Magic{0, "PK\x03\x04"sv, "a zip archive"},
    Magic{0, "PK\x05\x06"sv, "a zip archive"},
    Magic{0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive"},
    Magic{0, "Rar!\x1a\x07"sv, "a rar archive"},
    Magic{257, "ustar"sv, "a tar archive"},
    Magic{0, "PAR1"sv, "a parquet file"},
    Magic{0, "ARROW1"sv, "an arrow file"},
    Magic{0, "FEA1"sv, "an arrow file"},
    Magic{0, "Obj\x01"sv, "an avro file"},
    Magic{0, "ORC\x0a"sv, "an orc file"},
    Magic{0, "ORC\x08"sv, "an orc file"},
    Magic{0, "MMIDIDX\0\0"sv, "a part of a token set"},
    Magic{0, "\x93NUMPY"sv, "a numpy array"},
    Magic{0, "\x89HDF\r\n"sv, "an HDF5 file"},
    Magic{0, "GGUF"sv, "a gguf model"},
    Magic{0, "SQLite format 3\0"sv, "a database"},
    Magic{0, "%PDF-"sv, "a PDF"},
    Magic{0, "{\\rtf1"sv, "an RTF document"},
    Magic{0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv, "an Office document"},
    Magic{0, "\x89PNG\r\n"sv, "an image"},
    Magic{0, "\xff\xd8\xff"sv, "an image"},
    Magic{0, "GIF87a"sv, "an image"},
    Magic{0, "GIF89a"sv, "an image"},
    Magic{0, "II*\0"sv, "an image"},
    Magic{0, "MM\0*"sv, "an image"},
    Magic{8, "WEBP"sv, "an image"},
    Magic{8, "WAVE"sv, "sound"},
    Magic{8, "AVI "sv, "a film"},
    Magic{4, "ftyp"sv, "a film"},
    Magic{0, "\x1a\x45\xdf\xa3"sv, "a film"},
    Magic{0, "OggS"sv, "sound"},
    Magic{0, "fLaC"sv, "sound"},
    Magic{0, "ID3"sv, "sound"},
    Magic{0,
          "\x7f"
          "ELF"sv,
          "a program"},
    Magic{0, "\xff\xfe\0\0"sv, "UTF-32 text (convert it: iconv -f UTF-32 -t UTF-8)"},
    Magic{0, "\xff\xfe"sv, "UTF-16 text (convert it: iconv -f UTF-16 -t UTF-8)"},
    Magic{0, "\xfe\xff"sv, "UTF-16 text (convert it: iconv -f UTF-16 -t UTF-8)"},
};

struct Extension {
  std::string_view names;  // each between spaces
  const char* kind;
};
constexpr std::array kExtensions{
    Extension{" bz2 tbz tbz2 "sv, "packed with bzip2"},
    Extension{" xz txz lzma "sv, "packed with xz"},
    Extension{" lz4 "sv, "packed with lz4"},
    Extension{" lzo sz snappy br lz z "sv, "packed in a way that is not known here"},
    Extension{" gz zst tgz tzst zstd "sv, "packed twice, or an archive"},
    Extension{" zip jar whl epub docx xlsx pptx odt npz "sv, "a zip archive"},
    Extension{" 7z rar "sv, "an archive"},
    Extension{" tar "sv, "a tar archive"},
    Extension{" parquet "sv, "a parquet file"},
    Extension{" arrow feather "sv, "an arrow file"},
    Extension{" avro orc tfrecord tfrecords msgpack "sv, "a container of records"},
    Extension{" npy "sv, "a numpy array"},
    Extension{" h5 hdf5 "sv, "an HDF5 file"},
    Extension{" safetensors gguf pt pth ckpt onnx pkl pickle "sv, "a model's weights"},
    Extension{" pdf doc xls ppt "sv, "an office document"},
    Extension{" png jpg jpeg gif webp bmp tif tiff ico heic "sv, "an image"},
    Extension{" mp3 wav flac ogg m4a "sv, "sound"},
    Extension{" mp4 avi mov mkv webm "sv, "a film"},
    Extension{" so a o dll exe class pyc "sv, "a program"},
    Extension{" db sqlite sqlite3 "sv, "a database"},
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<uint8_t>(c))); });
  return text;
}

const char* kind_of_name(const std::string& path) {
  const std::string extension = " " + text_extension(path) + " ";
  for (const Extension& one : kExtensions)
    if (extension.size() > 2 && one.names.find(extension) != one.names.npos) return one.kind;
  return "";
}

// Control characters that text does not have.
bool is_control(char c) {
  const auto byte = static_cast<uint8_t>(c);
  return byte < 32 && (byte < 7 || byte > 13) && byte != 27;
}

// A text may begin with the word PAR1; a file of that format goes on with other bytes. Zstandard's
// frames that hold no text, and safetensors, have magic numbers of which a part may vary.
const char* kind_of_bytes(std::string_view head) {
  const bool controls = std::any_of(head.begin(), head.end(), is_control);
  for (const Magic& magic : kMagics) {
    if (head.size() < magic.at + magic.bytes.size() ||
        head.substr(magic.at, magic.bytes.size()) != magic.bytes)
      continue;
    const bool is_word = std::all_of(magic.bytes.begin(), magic.bytes.end(),
                                     [](char c) { return c >= ' ' && c < 127; });
    if (!is_word || controls || magic.bytes == "%PDF-" || magic.bytes == "{\\rtf1")
      return magic.kind;
  }
  if (head.size() >= 4 && (static_cast<uint8_t>(head[0]) & 0xf0) == 0x50 &&
      head.substr(1, 3) == "\x2a\x4d\x18")
    return "packed with zstd";
  if (head.size() > 9 && head[8] == '{' && head.substr(5, 3) == "\0\0\0"sv)
    return "a model's weights";
  return "";
}

// Bytes that are part of no character, the last few aside: a character may be cut there.
size_t odd_bytes(std::string_view text) {
  Utf8Stream stream;
  size_t odd = 0;
  for (const char c : text)
    if (const std::string shown = stream.add(static_cast<uint8_t>(c)); !shown.empty())
      for (size_t at = 0; (at = shown.find("\xEF\xBF\xBD", at)) != std::string::npos; at += 3)
        ++odd;
  return odd;
}

std::string head_of(const std::string& path) {
  std::string head(kLooked, 0);
  std::ifstream file(path, std::ios::binary);
  FT_CHECK_CONFIG(file, "{}: cannot be opened: {}", path, std::strerror(errno));
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(file.gcount()));
  return head;
}

// The first of what is packed in a file; nothing where it is damaged, which reading will tell.
std::string unpacked_head(const std::string& path) {
  std::string head;
  try {
    TextFile file(path);
    for (auto piece = file.read(); !piece.empty() && head.size() < kLooked; piece = file.read())
      head += piece;
  } catch (const Error&) {
    return {};
  }
  return head.substr(0, kLooked);
}

// Whether a token set stands beside the file, which is its tokens, mask or note.
bool is_of_set(const std::string& path) {
  for (const std::string_view end : {".mask.bin"sv, ".bin"sv, ".json"sv}) {
    if (!path.ends_with(end)) continue;
    const std::string prefix = path.substr(0, path.size() - end.size());
    if (fs::is_regular_file(prefix + ".idx") && head_of(prefix + ".idx").starts_with("MMIDIDX"))
      return end != ".json" || read_set_info(prefix).has_value();
  }
  return false;
}

}  // namespace

std::string text_extension(const std::string& path) {
  const std::string dotted = fs::path(unpacked_name(path)).extension().string();
  return dotted.empty() ? "" : lower(dotted.substr(1));
}

bool is_json_lines(const std::string& path) {
  constexpr std::string_view kNames = " jsonl ndjson jsonlines ldjson ";
  const std::string extension = text_extension(path);
  return !extension.empty() && kNames.find(" " + extension + " ") != kNames.npos;
}

std::string not_text(const std::string& path) {
  if (!fs::is_regular_file(path)) return "";
  if (is_of_set(path)) return "a part of a token set";
  const bool packed = unpacked_name(path) != path;
  const std::string head = packed ? unpacked_head(path) : head_of(path);
  if (const char* kind = kind_of_bytes(head); *kind) return kind;
  if (const char* kind = kind_of_name(path); *kind) return kind;
  if (is_json_lines(path)) return "";
  if (head.find('\0') != std::string::npos) return "binary data (it holds NUL bytes)";
  // Text of an older encoding has a few odd bytes, among them none that is ASCII.
  return odd_bytes(head) > head.size() * 3 / 10 ? "binary data (it is not UTF-8)" : "";
}

}  // namespace ft

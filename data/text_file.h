// The bytes of a file as a stream, unpacked by the file's suffix in any case: .gz (all members; zlib)
// or .zst (all frames, windows of any size; Zstandard).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace ft {

class TextFile {
 public:
  // From byte `begin` on, which is 0 where the file is packed. Throws ConfigError where it cannot
  // be opened.
  explicit TextFile(const std::string& path, int64_t begin = 0);
  ~TextFile();
  // The next piece, valid until the next call; empty at the end. Throws ft::Error: what is damaged.
  std::string_view read();
  int64_t consumed() const;  // bytes of the file itself that were read so far

  struct Reader;

 private:
  std::unique_ptr<Reader> reader_;
};

std::string unpacked_name(const std::string& path);  // without .gz or .zst

}  // namespace ft

// The bytes of a file as a stream, unpacked by the file's suffix: .gz (zlib) or .zst (Zstandard).
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace ft {

class TextFile {
 public:
  explicit TextFile(const std::string& path);  // throws ConfigError where it cannot be opened
  ~TextFile();
  // The next piece, valid until the next call; empty at the end. Throws ft::Error: what is damaged.
  std::string_view read();

  struct Reader;

 private:
  std::unique_ptr<Reader> reader_;
};

std::string unpacked_name(const std::string& path);  // without .gz or .zst

}  // namespace ft

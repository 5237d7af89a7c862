// A text file as a whole, unpacked by its suffix: .gz (zlib) or .zst (Zstandard).
#pragma once

#include <string>

namespace ft {

struct TextFile {
  std::string inner_name;   // the name without .gz or .zst
  std::string text;
};

TextFile read_text_file(const std::string& path);   // throws ft::Error: the path and what is damaged

}  // namespace ft

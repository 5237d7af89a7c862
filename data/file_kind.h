// Whether a file is text, by its name and first bytes.
#pragma once

#include <string>

namespace ft {

// Empty for text, plain or packed as data/text_file.h reads it, and for what is no regular file
// (pipes). Else what the file is: "a zip archive", "binary data", ... Text holds no NUL byte and is
// mostly UTF-8, as far as its first 64 KiB tell; lines of JSON may hold anything that names no
// other format.
std::string not_text(const std::string& path);

// The extension below .gz or .zst, in small letters, without its dot.
std::string text_extension(const std::string& path);

// Whether it is one of JSON Lines: jsonl, ndjson, jsonlines, ldjson.
bool is_json_lines(const std::string& path);

}  // namespace ft

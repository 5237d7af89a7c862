#include "app/commands/tokenize_inputs.h"

#include "core/check.h"
#include "core/log.h"
#include "data/file_id.h"
#include "data/file_kind.h"
#include "data/folder.h"
#include "data/names.h"
#include "data/set_info.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr const char* kWritten[] = {".bin", ".idx", ".json", ".mask.bin"};

// Whether all that stands where the set is to go is an older set's.
void check_outputs(const std::string& out) {
  check_name("--out", out);
  char magic[7] = "";
  std::ifstream(out + ".idx", std::ios::binary).read(magic, sizeof magic);
  const bool older = std::string_view(magic, sizeof magic) == "MMIDIDX";
  for (const char* end : kWritten) {
    const std::string path = out + end;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) continue;
    FT_CHECK_CONFIG(status.type() != fs::file_type::none, "{}: cannot be looked at: {}", path,
                    error.message());
    const bool ours = std::string_view(end) == ".json" ? read_set_info(out).has_value() : older;
    FT_CHECK_CONFIG(fs::is_regular_file(status) && ours,
                    "{}: is there already and belongs to no token set, so it is not replaced; "
                    "choose another --out, or move it away",
                    path);
  }
}

void check_not_replaced(const std::string& file, const std::string& out, const char* what) {
  for (const char* end : kWritten) {
    const auto written = file_id(out + end);
    FT_CHECK_CONFIG(!written || written != file_id(file),
                    "--out {}: {}{} is the {} {}, which it would replace; choose another --out",
                    out, out, end, what, file);
  }
}

// Files of a folder that hold text.
std::vector<std::string> texts_below(const std::string& folder, const TokenizeOptions& o) {
  const auto wanted = [&](const std::string& path) {
    return o.extensions.empty() ||
           std::any_of(o.extensions.begin(), o.extensions.end(), [&](const std::string& e) {
             return text_extension(path) == (e.starts_with('.') ? e.substr(1) : e);
           });
  };
  const auto files = files_below(folder, wanted);
  std::vector<std::string> texts;
  std::map<std::string, std::vector<std::string>> others;  // by kind
  for (const std::string& file : files) {
    const std::string kind = not_text(file);
    if (kind.empty()) texts.push_back(file);
    else others[kind].push_back(file);
  }
  for (const auto& [kind, of_kind] : others)
    log_warn("{}: {} left out, {}: {}{}", escaped(folder),
             of_kind.size() == 1 ? "a file was" : fmt::format("{} files were", of_kind.size()),
             kind, escaped(of_kind[0]), of_kind.size() == 1 ? "" : ", ...");
  FT_CHECK_CONFIG(!files.empty(), "{}: the folder holds no files{}", folder,
                  o.extensions.empty() ? "" : " with the wanted extensions");
  FT_CHECK_CONFIG(!texts.empty(), "{}: the folder holds no text: its first file, {}, is {}", folder,
                  escaped(files[0]), not_text(files[0]));
  return texts;
}

std::string text_file(const std::string& file) {
  const std::string kind = not_text(file);
  FT_CHECK_CONFIG(kind.empty(),
                  "{}: is {}, not text; inputs are text and JSON Lines, as they are or packed and "
                  "named so (.gz, .zst): rename, unpack or convert it first",
                  escaped(file), kind);
  return file;
}

}  // namespace

std::vector<std::string> tokenize_inputs(const TokenizeOptions& o) {
  std::vector<std::string> files;
  // What an output would replace is no matter of what it holds.
  for (const std::string& input : o.inputs) {
    FT_CHECK_CONFIG(fs::exists(input), "{}: no such file or folder", escaped(input));
    if (!fs::is_directory(input)) check_not_replaced(input, o.out, "input");
  }
  if (!o.tokenizer.empty()) check_not_replaced(o.tokenizer, o.out, "tokenizer");
  for (const std::string& input : o.inputs) {
    try {
      const auto found = fs::is_directory(input) ? texts_below(input, o)
                                                 : std::vector<std::string>{text_file(input)};
      files.insert(files.end(), found.begin(), found.end());
    } catch (const fs::filesystem_error& e) {
      throw ConfigError(fmt::format("{}: cannot be read: {}", escaped(input), e.what()));
    }
  }
  FT_CHECK_CONFIG(!files.empty(), "tokenize needs inputs: text files, .jsonl files or folders");
  for (const std::string& file : files) check_not_replaced(file, o.out, "input");
  check_outputs(o.out);
  return files;
}

}  // namespace ft

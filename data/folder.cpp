#include "data/folder.h"

#include "core/check.h"
#include "data/file_id.h"
#include "data/names.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {

// Walks over what is no link first; links wait until all of that was seen.
class Walk {
 public:
  explicit Walk(const std::function<bool(const std::string&)>& wanted) : wanted_(wanted) {}

  std::vector<std::string> below(const std::string& folder) {
    enter(folder);
    while (!links_.empty()) {
      const fs::path link = links_.front();
      links_.pop_front();
      std::error_code error;
      const fs::file_status status = fs::status(link, error);
      if (status.type() == fs::file_type::not_found) continue;  // leads nowhere
      if (error && error != std::errc::too_many_symbolic_link_levels)
        throw fs::filesystem_error("link", link, error);
      if (fs::is_directory(status)) enter(link);
      else if (fs::is_regular_file(status)) take(link);
    }
    std::sort(files_.begin(), files_.end());
    return std::move(files_);
  }

 private:
  void enter(const fs::path& folder) {
    if (const auto id = file_id(folder); !id || !seen_.insert(*id).second) return;
    std::vector<fs::directory_entry> entries;
    for (const auto& entry : fs::directory_iterator(folder))
      if (!entry.path().filename().string().starts_with('.')) entries.push_back(entry);
    std::sort(entries.begin(), entries.end());
    for (const auto& entry : entries) {
      if (entry.is_symlink()) links_.push_back(entry.path());
      else if (entry.is_directory()) enter(entry.path());
      else if (entry.is_regular_file()) take(entry.path());
    }
  }
  void take(const fs::path& file) {
    if (!wanted_(file.string())) return;
    const auto id = file_id(file);
    if (id && seen_.insert(*id).second) files_.push_back(file.string());
  }

  const std::function<bool(const std::string&)>& wanted_;
  std::set<FileId> seen_;
  std::deque<fs::path> links_;
  std::vector<std::string> files_;
};

}  // namespace

std::vector<std::string> files_below(const std::string& folder,
                                     const std::function<bool(const std::string&)>& wanted) {
  try {
    return Walk(wanted).below(folder);
  } catch (const fs::filesystem_error& e) {
    throw ConfigError(
        fmt::format("{}: cannot be searched: {}", escaped(folder), escaped(e.what())));
  }
}

}  // namespace ft

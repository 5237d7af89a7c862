#include "data/sources.h"

#include "core/check.h"
#include "data/tokens.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {

bool is_set(const std::string& prefix) { return fs::exists(prefix + ".idx"); }

// Sets that match a pattern with ".idx" behind it.
std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob((pattern + ".idx").c_str(), 0, nullptr, &found);
  std::vector<std::string> sets;
  for (size_t i = 0; result == 0 && i < found.gl_pathc; ++i) {
    const std::string path = found.gl_pathv[i];
    sets.push_back(path.substr(0, path.size() - 4));
  }
  ::globfree(&found);
  FT_CHECK_CONFIG(result == 0 || result == GLOB_NOMATCH, "{}: cannot be searched", pattern);
  std::sort(sets.begin(), sets.end());  // not by the machine's language
  return sets;
}

}  // namespace

std::vector<std::string> token_sets_below(const std::string& folder) {
  std::vector<std::string> sets;
  try {
    for (const auto& entry :
         fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink))
      if (entry.path().extension() == ".idx" && entry.is_regular_file())
        sets.push_back(fs::path(entry.path()).replace_extension("").string());
  } catch (const fs::filesystem_error& e) {
    throw ConfigError(fmt::format("{}: cannot be searched: {}", folder, e.what()));
  }
  std::sort(sets.begin(), sets.end());
  return sets;
}

std::vector<DataSource> expand_sources(const std::vector<DataSource>& sources) {
  std::vector<DataSource> all;
  for (const DataSource& source : sources) {
    const bool pattern = source.path.find_first_of("*?[") != std::string::npos;
    if (is_set(source.path) || (!pattern && !fs::is_directory(source.path))) {
      all.push_back(source);
      continue;
    }
    const auto sets = pattern ? matches(source.path) : token_sets_below(source.path);
    FT_CHECK_CONFIG(!sets.empty(),
                    "{}: no token set (.idx) is there; make one with falcon-train "
                    "tokenize, or correct the path",
                    source.path);
    std::vector<double> tokens;
    double total = 0;
    for (const std::string& set : sets) {
      tokens.push_back(static_cast<double>(TokenSet(set).tokens()));
      total += tokens.back();
    }
    FT_CHECK_CONFIG(total > 0, "{}: the token sets there are all empty", source.path);
    const std::string before =
        source.name.empty() || source.name == source.path ? "" : source.name + "/";
    for (size_t s = 0; s < sets.size(); ++s)
      if (tokens[s] > 0)
        all.push_back({before + sets[s], sets[s], source.weight * tokens[s] / total});
  }
  return all;
}

}  // namespace ft

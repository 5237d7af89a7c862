#include "data/sources.h"

#include "core/check.h"
#include "data/file_id.h"
#include "data/folder.h"
#include "data/names.h"
#include "data/tokens.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr const char* kSigns = "*?[";

// A set by its files; nothing where one of them is not there.
using SetId = std::pair<FileId, FileId>;
std::optional<SetId> set_id(const std::string& prefix) {
  const auto idx = file_id(prefix + ".idx"), bin = file_id(prefix + ".bin");
  if (!idx || !bin) return std::nullopt;
  return SetId{*idx, *bin};
}

bool is_set(const std::string& prefix) { return fs::exists(prefix + ".idx"); }

// The pattern with the signs of folders that are there by these very names taken for what they are.
std::string literal_folders(const std::string& pattern) {
  size_t there = 0;
  for (size_t end = pattern.find('/', 1); end != std::string::npos;
       end = pattern.find('/', end + 1))
    if (fs::is_directory(pattern.substr(0, end))) there = end;
    else break;
  std::string escaped;
  for (const char c : pattern.substr(0, there)) {
    if (std::string_view("*?[\\").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped + pattern.substr(there);
}

// Sets that match a pattern with ".idx" behind it.
std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob((literal_folders(pattern) + ".idx").c_str(), 0, nullptr, &found);
  std::vector<std::string> sets;
  for (size_t i = 0; result == 0 && i < found.gl_pathc; ++i) {
    const std::string path = found.gl_pathv[i];
    if (fs::is_regular_file(path)) sets.push_back(path.substr(0, path.size() - 4));
  }
  ::globfree(&found);
  FT_CHECK_CONFIG(result == 0 || result == GLOB_NOMATCH, "{}: cannot be searched", pattern);
  std::sort(sets.begin(), sets.end());  // not by the machine's language
  return sets;
}

// What all sources of a configuration have taken so far.
class Taken {
 public:
  Taken(const std::vector<DataSource>& validation, std::vector<std::string>* notes)
      : notes_(notes) {
    for (const DataSource& source : validation) {
      check_name("data.validation", source.path);
      check_name("data.validation", source.name);
      if (const auto id = set_id(source.path)) validation_.insert(*id);
    }
  }

  void one(const DataSource& source) {
    take(source, source.path);
    if (const auto id = set_id(source.path); notes_ && id && validation_.contains(*id))
      notes_->push_back(fmt::format(
          "data.train and data.validation both name {}: its validation loss says nothing of text "
          "that the model has not seen",
          source.path));
  }

  void all_of(const DataSource& source, std::vector<std::string> sets) {
    FT_CHECK_CONFIG(!sets.empty(),
                    "{}: no token set (.idx) is there; make one with falcon-train "
                    "tokenize, or correct the path",
                    source.path);
    leave_out(source, sets);
    std::vector<double> tokens;
    double total = 0;
    for (const std::string& set : sets) {
      check_name("data.train", set);
      tokens.push_back(static_cast<double>(TokenSet(set).tokens()));
      total += tokens.back();
    }
    FT_CHECK_CONFIG(total > 0, "{}: the token sets there are all empty", source.path);
    const std::string before =
        source.name.empty() || source.name == source.path ? "" : source.name + "/";
    for (size_t s = 0; s < sets.size(); ++s)
      if (tokens[s] > 0)
        take({before + sets[s], sets[s], source.weight * tokens[s] / total}, source.path);
  }

  std::vector<DataSource> sources;

 private:
  // Validation sets, and sets that a link names once more.
  void leave_out(const DataSource& source, std::vector<std::string>& sets) {
    std::set<SetId> seen;
    std::vector<std::string> kept, held_out;
    for (const std::string& set : sets) {
      const auto id = set_id(set);
      if (id && validation_.contains(*id)) held_out.push_back(set);
      else if (!id || seen.insert(*id).second) kept.push_back(set);
    }
    FT_CHECK_CONFIG(!kept.empty(),
                    "{}: all token sets there are validation sets; name something to train on",
                    source.path);
    if (notes_ && !held_out.empty())
      notes_->push_back(fmt::format("data.train: {} is taken without {}: data.validation names it",
                                    source.path, fmt::join(held_out, ", ")));
    sets = std::move(kept);
  }

  void take(const DataSource& source, const std::string& entry) {
    if (const auto id = set_id(source.path)) {
      const auto [before, fresh] = entries_.try_emplace(*id, entry);
      if (!fresh && notes_)
        notes_->push_back(fmt::format(
            "data.train: the set {} is there twice, by {} and by {}: both weights count",
            source.path, before->second, entry));
    }
    sources.push_back(source);
  }

  std::set<SetId> validation_;
  std::map<SetId, std::string> entries_;
  std::vector<std::string>* notes_;
};

}  // namespace

std::vector<std::string> token_sets_below(const std::string& folder) {
  std::vector<std::string> sets = files_below(
      folder, [](const std::string& path) { return fs::path(path).extension() == ".idx"; });
  for (std::string& set : sets) set.resize(set.size() - 4);
  std::sort(sets.begin(), sets.end());
  return sets;
}

std::vector<DataSource> expand_sources(const std::vector<DataSource>& sources,
                                       const std::vector<DataSource>& validation,
                                       std::vector<std::string>* notes) {
  Taken taken(validation, notes);
  for (const DataSource& source : sources) {
    check_name("data.train", source.path);
    check_name("data.train", source.name);
    if (is_set(source.path)) taken.one(source);
    else if (fs::is_directory(source.path)) taken.all_of(source, token_sets_below(source.path));
    else if (source.path.find_first_of(kSigns) != std::string::npos)
      taken.all_of(source, matches(source.path));
    else taken.one(source);
  }
  return std::move(taken.sources);
}

}  // namespace ft

// Sources that name many token sets at once.
#pragma once

#include "data/config.h"

#include <string>
#include <vector>

namespace ft {

// Prefixes of the token sets in a folder and those below it, sorted; see data/folder.h for links
// and hidden ones.
std::vector<std::string> token_sets_below(const std::string& folder);

// A source whose path is a folder, or has one of the signs *?[ that a shell matches files with
// ("data/web/*", also over folders: "data/*/part-*"), becomes a source for each set found there, in
// sorted order. A set's name is its path, behind "NAME/" where the source has a name of its own;
// the source's weight is shared out by tokens. Other sources stay as they are: what exists is taken
// as it is before it is a pattern. Sets that `validation` names are left out of folders and
// patterns, under whatever path. notes: gets a line for what was left out. Throws ConfigError where
// nothing is found, where two sources are the same set, and for names that are not UTF-8.
std::vector<DataSource> expand_sources(const std::vector<DataSource>& sources,
                                       const std::vector<DataSource>& validation = {},
                                       std::vector<std::string>* notes = nullptr);

}  // namespace ft

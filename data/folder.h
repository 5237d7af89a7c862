// The files of a folder and of those below it.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace ft {

// Regular files, sorted by name. Links are followed, and each file and folder is taken once,
// under the name that leads over no link where there is one; hidden ones (.name) are left out.
// wanted: by path. Throws ConfigError where something cannot be read.
std::vector<std::string> files_below(const std::string& folder,
                                     const std::function<bool(const std::string&)>& wanted);

}  // namespace ft

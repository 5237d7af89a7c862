// Whether a command may write where it was told to: asked before the work.
#pragma once

#include <string>
#include <vector>

namespace ft {

// Throws ConfigError where `out` is a folder, or a file that the command reads: it would be
// replaced. `inputs` are files, prefixes of token sets, and folders of models and runs, of which
// the weights, settings and records are meant. Files are compared by what they are, not by name;
// devices, pipes and "-" may be both.
void check_output(const std::string& option, const std::string& out,
                  const std::vector<std::string>& inputs);

}  // namespace ft

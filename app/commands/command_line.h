// The words of the command line: checks of values for CLI11's options, and one voice for what is
// wrong with a word: the command, the word, what was expected, and where to read on.
#pragma once

#include "core/options.h"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// Values of options, for transform(). Numbers are written as in configurations: 200, 1e-3, 64k.
CLI::Validator whole(int64_t low, int64_t high = 1'000'000'000);
CLI::Validator real(const Range& range);
CLI::Validator one_of(const std::vector<std::string>& names);
CLI::Validator file_name();  // of an output that cannot go to standard output: "-" is refused
// "1,2,3"; throws CLI::ValidationError that begins with `option`.
std::vector<int64_t> whole_list(const std::string& option, const std::string& text);

// --set of a command.
void add_sets(CLI::App* command, std::vector<std::string>& sets, const std::string& example);

// Parses. A value where there is nothing left to do: the exit code, after help or one message, both
// by the rank that `speaks` alone.
std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv, bool speaks);

}  // namespace ft

#include "app/commands/command_line.h"

#include "app/commands/command.h"

#include "data/text/tokenizer.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace ft {

namespace {

constexpr int kUsage = 2;

// A word that cannot be understood. CLI11 finds some of these, too, but says too little about them,
// and only after it has missed what comes later.
struct WordFault {
  std::string text;
};
[[noreturn]] void refuse(std::string text) { throw WordFault{std::move(text)}; }

std::string bound_text(double low, bool above) {
  if (low == 0) return above ? "above 0" : "0 or above";
  if (low == 1 && !above) return "above 0";
  return fmt::format("{} {}", above ? "above" : "at least", number_text(low));
}

// "generate" -> "falcon-train generate"
std::string called(const CLI::App& app, const CLI::App* command) {
  return command == &app ? "falcon-train" : "falcon-train " + command->get_name();
}

std::string quoted_if_empty(const std::string& word) { return word.empty() ? "\"\"" : word; }

// Bytes that are no text as \xNN, so that the message is text.
std::string printable(const std::string& word) {
  std::string out;
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) out += fmt::format("\\x{:02x}", byte);
    else out += c;
  }
  return out;
}

std::vector<std::string> names_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* one : app.get_subcommands({})) names.push_back(one->get_name());
  return names;
}

std::vector<std::string> options_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* one : command.get_options())
    for (const std::string& name : one->get_lnames()) names.push_back("--" + name);
  return names;
}

// Walks over the words as CLI11 will, and refuses the first that it cannot place.
class Words {
 public:
  Words(const CLI::App& app, int argc, char** argv)
      : app_(app), command_(&app), words_(argv + 1, argv + argc) {}

  const CLI::App* command() const { return command_; }

  void check() {
    while (at_ < words_.size()) {
      const std::string word = words_[at_++];
      if (valid_utf8(word) != word)
        refuse(printable(word) +
               ": is not UTF-8, and names and settings are written into files that are; rename it");
      if (asks_for_help(word)) return;  // whatever else is there
      if (word == "--" && !only_positionals_) only_positionals_ = true;
      else if (word.size() > 1 && word[0] == '-' && !only_positionals_) option(word);
      else if (command_ == &app_) command(word);
      else positional(word);
    }
    check_missing();
  }

 private:
  bool asks_for_help(const std::string& word) const {
    return !only_positionals_ &&
           (word == "--help" || word == "-h" || (command_ == &app_ && word == "--version"));
  }

  void command(const std::string& word) {
    const auto known = names_of(app_);
    if (std::find(known.begin(), known.end(), word) != known.end()) {
      command_ = app_.get_subcommand(word);
      return;
    }
    const std::string near = nearest(word, known);
    refuse(fmt::format("{} is not a command; {}commands are {}", quoted_if_empty(word),
                       near.empty() ? "" : "did you mean " + near + "? The ",
                       fmt::join(known, ", ")));
  }

  void option(const std::string& word) {
    const std::string name = word.substr(0, word.find('='));
    const CLI::Option* found = command_->get_option_no_throw(name);
    if (!found || found->get_positional()) unknown_option(word, name);
    const bool inline_value = name.size() < word.size();
    const bool flag = found->get_items_expected_max() == 0;
    if (flag && inline_value) refuse(fmt::format("{}: {} takes no value", word, name));
    if (!flag && inline_value && name.size() + 1 == word.size())
      refuse(fmt::format("{}: the value is missing; an empty text is written {} \"\"", word, name));
    if (!flag && !inline_value) value_of(name, *found);
    if (++given_[found] > std::max(1, found->get_items_expected_max()))
      refuse(fmt::format("{} is given more than once", name));
  }

  void value_of(const std::string& name, const CLI::Option& found) {
    if (at_ == words_.size())
      refuse(fmt::format("{}: the value is missing ({})", name, found.get_description()));
    const std::string& value = words_[at_++];
    if (name != "--prompt" && valid_utf8(value) != value)
      refuse(fmt::format("{} {}: is not UTF-8", name, printable(value)));
    if (value.empty() && name != "--prompt") refuse_empty(name, found);
  }

  // As a shell gives it for a variable that is not set. Numbers have words of their own.
  static void refuse_empty(const std::string& name, const CLI::Option& found) {
    const std::string type = found.get_type_name();
    if (type == "TEXT" || type.find("FILE") != std::string::npos)
      refuse(fmt::format("{} \"\": the value is empty ({})", name, found.get_description()));
  }

  void unknown_option(const std::string& word, const std::string& name) const {
    if (command_ == &app_) {
      for (const CLI::App* one : app_.get_subcommands({}))
        if (one->get_option_no_throw(name))
          refuse(fmt::format("{} comes after the command: falcon-train {} ... {}", name,
                             one->get_name(), name));
    } else if (command_->get_option_no_throw("--set") && name.find('.') != std::string::npos) {
      refuse(fmt::format("{} is not an option; a setting is overridden by --set {}", name,
                         name.size() < word.size() ? word.substr(2) : name.substr(2) + "=VALUE"));
    }
    const auto known = options_of(*command_);
    const std::string near = nearest(name, known);
    refuse(fmt::format("{} is not an option; {}", name,
                       near.empty() ? fmt::format("options are {}", fmt::join(known, ", "))
                                    : "did you mean " + near + "?"));
  }

  void positional(const std::string& word) {
    for (const CLI::Option* one : command_->get_options()) {
      if (!one->get_positional() || given_[one] >= one->get_items_expected_max()) continue;
      ++given_[one];
      if (word.empty()) refuse_empty(one->get_name(true), *one);
      return;
    }
    const bool setting =
        word.find('=') != std::string::npos && command_->get_option_no_throw("--set") != nullptr;
    refuse(fmt::format("{} is one argument too many{}", quoted_if_empty(word),
                       setting ? "; a setting is overridden by --set " + word : ""));
  }

  void check_missing() {
    if (command_ == &app_)
      refuse(
          fmt::format("the command is missing; commands are {}", fmt::join(names_of(app_), ", ")));
    for (const CLI::Option* one : command_->get_options()) {
      const std::string name = one->get_name(one->get_positional());
      if (given_[one] == 0) {
        if (one->get_required())
          refuse(fmt::format("{} is missing ({})", name, one->get_description()));
        continue;
      }
      for (const CLI::Option* other : one->get_needs())
        if (given_[other] == 0)
          refuse(fmt::format("{} means something only with {}", name, other->get_name()));
      for (const CLI::Option* other : one->get_excludes())
        if (given_[other] > 0)
          refuse(fmt::format("{} and {} do not go together", name, other->get_name()));
    }
  }

  const CLI::App& app_;
  const CLI::App* command_;
  std::vector<std::string> words_;
  size_t at_ = 0;
  bool only_positionals_ = false;
  std::map<const CLI::Option*, int> given_;
};

int complain(const CLI::App& app, const CLI::App* command, const std::string& text, bool speaks) {
  const std::string name = called(app, command);
  const char* join = text.ends_with('?') ? " See" : "; see";
  if (speaks)
    std::fprintf(stderr, "%s: %s%s %s --help\n", name.c_str(), text.c_str(), join, name.c_str());
  return kUsage;
}

}  // namespace

CLI::Validator whole(int64_t low, int64_t high) {
  const auto check = [low, high](std::string& text) -> std::string {
    const auto value = whole_number(text);
    const auto size = plain_number(text);  // also of what does not fit 63 bits
    const bool above = size && *size > static_cast<double>(high);
    if (value && *value >= low && *value <= high) {
      text = std::to_string(*value);
      return "";
    }
    return fmt::format(
        "{}: expected a whole number {}", quoted_if_empty(text),
        above ? fmt::format("of at most {}", high) : bound_text(static_cast<double>(low), false));
  };
  return CLI::Validator(check, "");
}

CLI::Validator real(const Range& range) {
  const auto check = [range](std::string& text) -> std::string {
    const auto value = plain_number(text);
    const bool above = value && (*value > range.high || (range.below && *value == range.high));
    const bool below = value && (*value < range.low || (range.above && *value == range.low));
    if (value && !above && !below) {
      text = number_text(*value);
      return "";
    }
    const bool bounded = range.high < std::numeric_limits<double>::max();
    return fmt::format(
        "{}: expected a number {}{}", quoted_if_empty(text),
        bounded ? fmt::format("from {} to {}", number_text(range.low), number_text(range.high))
                : bound_text(range.low, range.above),
        above && !bounded ? ", and finite" : "");
  };
  return CLI::Validator(check, "");
}

CLI::Validator one_of(const std::vector<std::string>& names) {
  const auto check = [names](std::string& text) -> std::string {
    if (std::find(names.begin(), names.end(), text) != names.end()) return "";
    return fmt::format("{}: expected one of {}", quoted_if_empty(text), fmt::join(names, ", "));
  };
  return CLI::Validator(check, "");
}

CLI::Validator file_name() {
  const auto check = [](std::string& text) -> std::string {
    return text != "-" ? "" : text + ": expected the name of a file to write";
  };
  return CLI::Validator(check, "");
}

std::vector<int64_t> whole_list(const std::string& option, const std::string& text) {
  std::vector<int64_t> numbers;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string one = text.substr(begin, end - begin);
    one.erase(0, one.find_first_not_of(' ')).erase(one.find_last_not_of(' ') + 1);
    const auto value = whole_number(one);
    if (!value || *value < 0)
      throw CLI::ValidationError(
          option,
          fmt::format("{}: expected whole numbers with commas between them, such as 1,2,3; "
                      "{}",
                      quoted_if_empty(text), one.empty() ? "one is empty" : one + " is none"));
    numbers.push_back(*value);
    begin = end + 1;
  }
  return numbers;
}

void add_sets(CLI::App* command, std::vector<std::string>& sets, const std::string& example) {
  command
      ->add_option("--set", sets, "Override one setting, e.g. --set " + example + " (repeatable)")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false)
      ->take_all();
}

std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv, bool speaks) {
  if (argc == 1) {
    if (speaks) std::fputs(app.help().c_str(), stderr);
    return kUsage;
  }
  Words words(app, argc, argv);
  try {
    words.check();
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const WordFault& fault) {
    return complain(app, words.command(), fault.text, speaks);
  } catch (const CLI::Success& asked) {  // --help, --version
    return speaks ? app.exit(asked) : 0;
  } catch (const CLI::ParseError& error) {
    std::string text = error.what();  // "--tokens: -3: expected ..."
    if (const size_t colon = text.find(": "); text.starts_with("--") && colon != std::string::npos)
      text.erase(colon, 1);
    return complain(app, words.command(), text, speaks);
  }
}

Run alone(std::function<int()> work) {
  return [work = std::move(work)](World& world) { return world.all().rank() == 0 ? work() : 0; };
}

}  // namespace ft

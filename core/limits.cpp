#include "core/limits.h"

#include <fmt/format.h>

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

namespace ft {

namespace fs = std::filesystem;

namespace {

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// Digits alone; "max", "unlimited" and "-1" are no number.
std::optional<int64_t> number(const std::string& text) {
  int64_t value = 0;
  const char* stop = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), stop, value);
  if (text.empty() || text[0] == '-' || error != std::errc() || end != stop) return std::nullopt;
  return value;
}

// The numbers of a file's first line.
std::vector<std::optional<int64_t>> numbers(const std::string& path) {
  std::vector<std::optional<int64_t>> found;
  const auto lines = lines_of(path);
  if (!lines.empty())
    for (const std::string& word : words_of(lines[0])) found.push_back(number(word));
  return found;
}

std::optional<int64_t> first_number(const std::string& path) {
  const auto found = numbers(path);
  return found.empty() ? std::nullopt : found[0];
}

int64_t meminfo(const std::string& root, const std::string& key) {
  for (const std::string& line : lines_of(root + "/proc/meminfo"))
    if (const auto words = words_of(line); words.size() > 1 && words[0] == key + ":")
      return number(words[1]).value_or(0) * 1024;
  return 0;
}

bool lists(const std::string& text, const std::string& word) {
  return ("," + text + ",").find("," + word + ",") != std::string::npos;
}

// Spaces in the paths of /proc/self/mountinfo are written \040.
std::string unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Mount {
  std::string inside, point;  // which folder of the hierarchy is seen, and where
};

// Where a hierarchy is mounted: `controller` of version 1, empty for version 2.
std::vector<Mount> mounts_of(const std::string& root, const std::string& controller) {
  std::vector<Mount> mounts;
  for (const std::string& line : lines_of(root + "/proc/self/mountinfo")) {
    // id parent device INSIDE POINT options [tags] - KIND source OPTIONS
    const auto words = words_of(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 6 || words.end() - dash < 4) continue;
    const bool found = controller.empty() ? dash[1] == "cgroup2"
                                          : dash[1] == "cgroup" && lists(dash[3], controller);
    if (found) mounts.push_back({unescaped(words[3]), unescaped(words[4])});
  }
  // Where mounts cannot be read, at the place that everybody uses.
  if (mounts.empty())
    mounts.push_back({"/", controller.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller});
  return mounts;
}

// The path of this process in a hierarchy, as /proc says it.
std::string group_of(const std::string& root, const std::string& controller) {
  for (const std::string& line : lines_of(root + "/proc/self/cgroup")) {  // id:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? names.empty() : lists(names, controller))
      return line.substr(second + 1);
  }
  return "/";
}

// Folders of the groups that hold this process, its own first, up to the one that is mounted.
std::vector<std::string> groups_of(const std::string& root, const std::string& controller) {
  std::vector<std::string> folders;
  const std::string group = group_of(root, controller);
  for (const auto& [inside, point] : mounts_of(root, controller)) {
    // A container may see its own group as the top, while /proc names it from the machine's.
    std::string below = group;
    if (inside != "/")
      below = group == inside || group.starts_with(inside + "/") ? group.substr(inside.size()) : "";
    if (below.starts_with("/..")) below.clear();  // outside of what this namespace shows
    for (fs::path at = below;; at = at.parent_path()) {
      folders.push_back(root + point + (at == "/" ? "" : at.string()));
      if (!at.has_relative_path()) break;
    }
  }
  return folders;
}

int64_t memory_limit(const std::string& root) {
  int64_t least = 0;
  const auto take = [&](const std::optional<int64_t>& limit) {
    if (limit && *limit > 0 && (least == 0 || *limit < least)) least = *limit;
  };
  for (const std::string& folder : groups_of(root, "")) take(first_number(folder + "/memory.max"));
  for (const std::string& folder : groups_of(root, "memory"))
    take(first_number(folder + "/memory.limit_in_bytes"));
  return least;
}

double cpu_quota(const std::string& root) {
  double least = 0;
  const auto take = [&](std::optional<int64_t> quota, std::optional<int64_t> period) {
    if (!quota || !period || *quota <= 0 || *period <= 0) return;
    const double cores = static_cast<double>(*quota) / static_cast<double>(*period);
    if (least == 0 || cores < least) least = cores;
  };
  for (const std::string& folder : groups_of(root, ""))
    if (const auto both = numbers(folder + "/cpu.max"); both.size() == 2) take(both[0], both[1]);
  for (const std::string& folder : groups_of(root, "cpu"))
    take(first_number(folder + "/cpu.cfs_quota_us"), first_number(folder + "/cpu.cfs_period_us"));
  return least;
}

// The soft limits of "Max address space" and "Max data size".
int64_t address_space(const std::string& root) {
  int64_t least = 0;
  for (const std::string& line : lines_of(root + "/proc/self/limits"))
    for (const std::string name : {"Max address space", "Max data size"})
      if (line.starts_with(name))
        if (const auto words = words_of(line.substr(name.size())); !words.empty())
          if (const auto limit = number(words[0]); limit && (least == 0 || *limit < least))
            least = *limit;
  return least;
}

std::vector<int> cores_of(const std::string& root) {
  for (const std::string& line : lines_of(root + "/proc/self/status"))
    if (line.starts_with("Cpus_allowed_list:"))
      if (const auto cores = parse_core_ranges(line.substr(line.find(':') + 1)); !cores.empty())
        return cores;
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int c = 0; c < CPU_SETSIZE; ++c)
      if (CPU_ISSET(c, &set)) cores.push_back(c);
  return cores;
}

// Ranks that a launcher started on this machine.
int launched_here() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"})
    if (const char* ranks = std::getenv(name)) return std::max(1, std::atoi(ranks));
  return 1;
}

}  // namespace

Limits read_limits(const std::string& root) {
  Limits l;
  l.memory = meminfo(root, "MemTotal");
  l.memory_available = meminfo(root, "MemAvailable");
  if (l.memory == 0)
    l.memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  l.memory_limit = memory_limit(root);
  if (l.memory_limit >= l.memory) l.memory_limit = 0;  // version 1 writes "none" as nearly 2^63
  l.address_space = address_space(root);
  l.cores = cores_of(root);
  const auto online = lines_of(root + "/sys/devices/system/cpu/online");
  l.cores_online = online.empty() ? 0 : static_cast<int>(parse_core_ranges(online[0]).size());
  if (l.cores_online == 0) l.cores_online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  l.cpu_quota = cpu_quota(root);
  return l;
}

int64_t memory_of_each(const Limits& l, int processes) {
  const int64_t all = l.memory_limit > 0 ? l.memory_limit : l.memory;
  const int64_t share = all / std::max(1, processes);
  return l.address_space > 0 ? std::min(share, l.address_space) : share;
}

Threads choose_threads(int asked, const char* omp, const Limits& mine,
                       const std::vector<RankCores>& ranks) {
  if (asked > 0) return {asked, "run.threads"};
  std::string unread;
  if (omp && *omp) {
    const std::string text(omp);  // "4,2": of nested teams, the outermost
    const auto wanted = number(text.substr(0, text.find(',')));
    if (wanted && *wanted >= 1 && *wanted <= 4096)
      return {static_cast<int>(*wanted), "OMP_NUM_THREADS"};
    unread = fmt::format("; OMP_NUM_THREADS=\"{}\" is no number of threads", text);
  }
  double share = 0;
  int64_t most = 1, all = 0;  // ranks on one core, of the machine
  for (const RankCores& some : ranks) all += some.ranks;
  for (const int core : mine.cores) {
    int64_t on = 0;
    for (const auto& [cores, count] : ranks)
      if (std::binary_search(cores.begin(), cores.end(), core)) on += count;
    share += 1.0 / static_cast<double>(std::max<int64_t>(on, 1));
    most = std::max(most, on);
  }
  constexpr double kRounding = 1e-6;
  Threads t;
  t.count = std::max(1, static_cast<int>(share + kRounding));
  t.from = fmt::format("{} core{}", mine.cores.size(), mine.cores.size() == 1 ? "" : "s");
  if (most > 1) t.from += fmt::format(" shared by {} ranks", most);
  const double granted = mine.cpu_quota / static_cast<double>(std::max<int64_t>(all, 1));
  if (mine.cpu_quota > 0 && granted < t.count) {
    t.count = std::max(1, static_cast<int>(granted + kRounding));
    t.from = fmt::format("the control group's quota of {:.4g} cores", mine.cpu_quota);
    if (all > 1) t.from += fmt::format(" for {} ranks", all);
  }
  t.from += unread;
  return t;
}

Threads choose_threads(int asked, int ranks) {
  const Limits here = read_limits();
  return choose_threads(asked, std::getenv("OMP_NUM_THREADS"), here,
                        {{here.cores, ranks > 0 ? ranks : launched_here()}});
}

std::string core_ranges(const std::vector<int>& cores) {
  std::string text;
  for (size_t i = 0; i < cores.size();) {
    size_t j = i;
    while (j + 1 < cores.size() && cores[j + 1] == cores[j] + 1) ++j;
    text += i ? "," : "";
    text += i == j ? fmt::format("{}", cores[i]) : fmt::format("{}-{}", cores[i], cores[j]);
    i = j + 1;
  }
  return text;
}

std::vector<int> parse_core_ranges(const std::string& text) {
  constexpr int64_t kMostCores = 1 << 16;
  std::vector<int> cores;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const auto words = words_of(part);
    if (words.empty()) continue;
    const size_t dash = words[0].find('-');
    const auto first = number(words[0].substr(0, dash));
    const auto last = dash == std::string::npos ? first : number(words[0].substr(dash + 1));
    if (!first || !last || *last >= kMostCores) continue;
    for (int64_t core = *first; core <= *last; ++core) cores.push_back(static_cast<int>(core));
  }
  std::sort(cores.begin(), cores.end());
  return cores;
}

}  // namespace ft

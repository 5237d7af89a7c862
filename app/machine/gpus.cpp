#include "app/machine/gpus.h"

#include "core/check.h"

#include <fmt/ranges.h>

#include <vector>

namespace ft {

namespace {

struct Gpu {
  const char* name;
  int64_t mib;  // as nvidia-smi shows it
};
constexpr Gpu kGpus[] = {{"a100", 81920},  {"a100-40gb", 40960}, {"h100", 81559},
                         {"h200", 143771}, {"l40s", 46068},      {"rtx4090", 24564}};

}  // namespace

std::string gpu_names() {
  std::vector<std::string> names;
  for (const Gpu& gpu : kGpus) names.emplace_back(gpu.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

int64_t memory_of_gpu(const std::string& name) {
  for (const Gpu& gpu : kGpus)
    if (name == gpu.name) return gpu.mib << 20;
  throw ConfigError(
      fmt::format("--gpu {}: it is not known here; known are {}. --memory GIB plans for any other, "
                  "with the name of one like it",
                  name, gpu_names()));
}

}  // namespace ft

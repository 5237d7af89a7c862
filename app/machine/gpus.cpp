#include "app/machine/gpus.h"

#include "core/check.h"

#include <fmt/ranges.h>

#include <vector>

namespace ft {

namespace {

constexpr int64_t mib(int64_t n) { return n << 20; }

// Memory as nvidia-smi shows it.
constexpr GpuType kTypes[] = {
    {"a100", mib(81920), 312e12, 2.04e12}, {"a100-40gb", mib(40960), 312e12, 1.56e12},
    {"h100", mib(81559), 989e12, 3.35e12}, {"h200", mib(143771), 989e12, 4.8e12},
    {"l40s", mib(46068), 362e12, 0.86e12}, {"rtx4090", mib(24564), 165e12, 1.01e12},
};

}  // namespace

std::string gpu_names() {
  std::vector<std::string> names;
  for (const GpuType& type : kTypes) names.emplace_back(type.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

const GpuType& gpu_type(const std::string& name) {
  for (const GpuType& type : kTypes)
    if (name == type.name) return type;
  throw ConfigError(
      fmt::format("--gpu {}: it is not known here; known are {}. --memory GIB plans for any other, "
                  "with the name of one like it",
                  name, gpu_names()));
}

}  // namespace ft

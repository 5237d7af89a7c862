#include "app/machine/build_info.h"

#include "core/platform.h"
#include "cpu/device.h"
#include "parallel/comm/comm.h"

#include <zlib.h>
#include <zstd.h>

namespace ft {

// Versions without a macro of their own are those that CMake found (CMakeLists.txt).
std::map<std::string, std::string> build_libraries() {
  return {{"falcon-train", FT_VERSION},
          {"build", FT_BUILD_TYPE},
          {"compiler", FT_COMPILER},
          {"cuda", kBuiltWithCuda ? "yes" : "no"},
          {"matrix products", cpu::matrix_library()},
          {"MPI", mpi_library()},
          {"yaml-cpp", FT_YAML_CPP_VERSION},
          {"spdlog", FT_SPDLOG_VERSION},
          {"fmt", FT_FMT_VERSION},
          {"CLI11", FT_CLI11_VERSION},
          {"nlohmann-json", FT_JSON_VERSION},
          {"zlib", zlibVersion()},
          {"zstd", ZSTD_versionString()}};
}

std::string build_text() {
  const auto all = build_libraries();
  std::string libraries;
  for (const char* name : {"yaml-cpp", "spdlog", "fmt", "CLI11", "nlohmann-json", "zlib", "zstd"})
    libraries += (libraries.empty() ? "" : ", ") + std::string(name) + " " + all.at(name);
  return "falcon-train  " + all.at("falcon-train") + ", " + all.at("build") + " build, " +
         all.at("compiler") + ", CUDA: " + all.at("cuda") + "\nlibraries     " +
         all.at("matrix products") + ", " + all.at("MPI") + ",\n              " + libraries + "\n";
}

}  // namespace ft

#include "app/train/yardstick.h"

#include "app/machine/ceilings.h"
#include "app/train/engine.h"
#include "core/file.h"
#include "core/log.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <optional>

namespace ft {

namespace {

constexpr const char* kFile = "/yardstick.json";

// What an earlier start of the run measured; rank 0 reads, all ranks learn it. A file that cannot be
// read costs a measurement, no more.
std::optional<Yardstick> kept(Group& all, const std::string& folder) {
  std::string text;
  if (all.rank() == 0 && std::filesystem::exists(folder + kFile)) try {
      text = read_text(folder + kFile);
    } catch (const Error& error) {
      log_warn("{}; the matrix speed is measured anew", error.what());
    }
  text = broadcast_text(all, text, 0);
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("flops") || !json["flops"].is_number() ||
      !json.contains("machine") || !json["machine"].is_string())
    return std::nullopt;
  return Yardstick{.flops = json["flops"].get<double>(),
                   .machine = json["machine"].get<std::string>()};
}

}  // namespace

std::string Yardstick::words() const {
  if (std::isnan(flops)) return "";
  return fmt::format(
      "MFU = model FLOPs / measured {} matrix product of this run ({:.1f} GFLOP/s, all ranks at "
      "once{}); causal attention counted once, padding and recomputation not counted",
      precision, flops * 1e-9, history.empty() ? "" : "; " + history);
}

Yardstick yardstick_of(World& world, Device& device, const Config& config, const Ranks& ranks,
                       const std::string& folder, bool resumed) {
  Yardstick y{.precision = config.train.precision};
  if (!config.log.mfu) return y;
  y.machine = broadcast_text(
      world.all(),
      fmt::format("{}, {}, {} rank{}, threads {}", device.description(), y.precision, ranks.count,
                  ranks.count == 1 ? "" : "s", ranks.words.substr(0, ranks.words.find(" a rank"))),
      0);
  const auto earlier = resumed ? kept(world.all(), folder) : std::nullopt;
  if (earlier && earlier->machine == y.machine && earlier->flops > 0) {
    y.flops = earlier->flops;
    y.history = "measured when the run began";
    return y;
  }
  y.flops = matrix_speed(device, world.all(), precision_of(config.train).compute);
  if (earlier)
    y.history = fmt::format("measured anew: before it was {:.1f} on {}, now on {}",
                            earlier->flops * 1e-9, earlier->machine, y.machine);
  return y;
}

void keep(const Yardstick& y, const std::string& folder) {
  if (std::isnan(y.flops)) return;
  const nlohmann::ordered_json json = {{"flops", y.flops}, {"machine", y.machine}};
  write_text(folder + kFile, json.dump(2) + "\n");
}

}  // namespace ft

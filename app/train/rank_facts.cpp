#include "app/train/rank_facts.h"

#include "app/machine/build_info.h"
#include "core/file.h"
#include "core/heartbeat.h"

namespace ft {

namespace {

constexpr const char* kSameFiles =
    "all ranks must see the same files: use a file system that all nodes share, or equal copies";

std::string executable_digest() {
  const MappedFile file("/proc/self/exe");
  Digest digest;
  digest.add(file.data(), static_cast<size_t>(file.size()));
  return digest.text();
}

}  // namespace

std::vector<Fact> process_facts(const std::string& command, const std::string& usage) {
  return {{"build", fmt::format("{}executable {}\n", build_text(), executable_digest()),
           "start the same executable with the same libraries on every rank"},
          {"command", command + "\n" + (usage.empty() ? "command line understood" : usage) + "\n",
           "start all ranks with the same command line"}};
}

Fact config_fact(const Config& config) {
  return {"configuration", config_text(config), "give all ranks the same file and the same --set"};
}

Fact weights_fact(Engine& engine) {
  std::string text;
  for (const CheckpointPiece& p : engine.store().checkpoint_pieces(false)) {
    Digest digest;
    each_part(p, [&](const float* values, size_t n) { digest.add(values, n * sizeof(float)); });
    beat();
    text += fmt::format("{} at {},{}: {} x {}, digest {}\n", p.name, p.row, p.col, p.rows, p.cols,
                        digest.text());
  }
  return {"weights", text,
          fmt::format("{}; start values also want like processors and libraries", kSameFiles)};
}

Fact text_fact(const std::string& name, const std::string& text) {
  return {name, text, kSameFiles};
}

std::vector<Fact> start_facts(const Config& config, Engine& engine, const std::string& data,
                              const std::optional<std::string>& checkpoint) {
  return {config_fact(config),
          text_fact("checkpoint", checkpoint ? read_text(*checkpoint + "/COMPLETE") : ""),
          text_fact("data", data), weights_fact(engine)};
}

}  // namespace ft

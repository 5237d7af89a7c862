#include "core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <vector>

namespace ft {

void log_open(const std::string& file, bool rank0) {
  std::vector<spdlog::sink_ptr> sinks{std::make_shared<spdlog::sinks::stdout_sink_mt>()};
  sinks[0]->set_pattern("%v");
  if (!file.empty()) {
    sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file));
    sinks[1]->set_pattern("%Y-%m-%d %H:%M:%S %L %v");
  }
  auto logger = std::make_shared<spdlog::logger>("falcon-train", sinks.begin(), sinks.end());
  logger->set_level(rank0 ? spdlog::level::info : spdlog::level::err);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void log_line(LogLevel level, const std::string& text) {
  switch (level) {
    case LogLevel::Info:
      spdlog::info("{}", text);
      break;
    case LogLevel::Warn:
      spdlog::warn("warning: {}", text);
      break;
    case LogLevel::Error:
      spdlog::error("error: {}", text);
      break;
  }
}

}  // namespace ft

#include "app/run/tensorboard.h"

#include "core/check.h"
#include "core/log.h"
#include "core/path.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0x82f63b78u ^ (value >> 1) : value >> 1;
    table[i] = value;
  }
  return table;
}
constexpr auto kCrcTable = crc_table();

// TFRecord's checksums are masked, so that a checksum of data that holds checksums stays sound.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

// Little-endian, as the format wants it.
template <class T>
std::string bytes_of(T value) {
  static_assert(std::endian::native == std::endian::little);
  std::string text(sizeof value, '\0');
  std::memcpy(text.data(), &value, sizeof value);
  return text;
}

// Protocol buffer fields: key = number << 3 | wire type.
std::string varint(uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7) text += static_cast<char>(value | 0x80);
  return text + static_cast<char>(value);
}
std::string field(int number, double value) { return varint(number << 3 | 1) + bytes_of(value); }
std::string field(int number, float value) { return varint(number << 3 | 5) + bytes_of(value); }
std::string field(int number, int64_t value) {
  return varint(number << 3 | 0) + varint(static_cast<uint64_t>(value));
}
std::string field(int number, const std::string& value) {
  return varint(number << 3 | 2) + varint(value.size()) + value;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Event: wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7.
std::string event(int64_t step, const std::string& what) {
  return field(1, now()) + field(2, step) + what;
}

// Sorts after the files that are there: TensorBoard reads a folder in the order of names.
std::string file_name(const fs::path& folder) {
  const std::string prefix = "events.out.tfevents.";
  auto second = static_cast<int64_t>(now());
  for (const std::string& name : names_in(folder.string()))
    if (name.starts_with(prefix))
      second = std::max<int64_t>(second, std::atoll(name.c_str() + prefix.size()) + 1);
  char host[256] = "host";
  ::gethostname(host, sizeof host - 1);
  return fmt::format("{}{:010}.{}.{}.0", prefix, second, host, ::getpid());
}

// The path of a file that is not there yet, in a folder that is.
std::string new_file(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  FT_CHECK(!error, "{}: cannot be made: {}; or set log.tensorboard: false", folder,
           error.message());
  return (fs::path(folder) / file_name(folder)).string();
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (char c : bytes) crc = kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ (crc >> 8);
  return crc ^ 0xffffffffu;
}

EventFile::EventFile(const std::string& folder, int64_t first_step)
    : file_(new_file(folder), [](const std::string& text) { log_warn("{}", text); }) {
  record(event(0, field(3, std::string("brain.Event:2"))));
  constexpr int64_t kStart = 1;  // SessionLog: status = 1
  record(event(first_step, field(7, field(1, kStart))));
}

void EventFile::record(const std::string& event) {
  const std::string length = bytes_of(static_cast<uint64_t>(event.size()));
  file_.add(length + bytes_of(masked_crc(length)) + event + bytes_of(masked_crc(event)));
}

void EventFile::add(int64_t step, const Scalars& scalars) {
  // Summary: value = 1; Value: tag = 1, simple_value = 2.
  std::string summary;
  for (const auto& [tag, value] : scalars)
    summary += field(1, field(1, tag) + field(2, static_cast<float>(value)));
  record(event(step, field(5, summary)));
}

}  // namespace ft

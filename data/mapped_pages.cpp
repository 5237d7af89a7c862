#include "data/mapped_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <unordered_map>

namespace ft {

namespace {

// Linux maps the pages around one that is missing, where it has them: this much, aligned.
constexpr uintptr_t kWindow = uintptr_t{64} << 10;

using Clock = std::chrono::steady_clock;
constexpr auto kPause = std::chrono::seconds(5);

std::mutex g_mutex;
std::unordered_map<uintptr_t, uintptr_t> g_windows;  // begin -> end, of what was read
std::unordered_map<uintptr_t, uintptr_t> g_wholes;   // of mappings that are read anywhere
Clock::time_point g_given_back;

// Another thread that reads there merely faults the page in again.
void give_back(const std::unordered_map<uintptr_t, uintptr_t>& ranges) {
  for (const auto& [begin, end] : ranges)
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace

MappedPages::~MappedPages() {
  if (!data_) return;
  // These addresses may soon be another's memory.
  const auto begin = reinterpret_cast<uintptr_t>(data_);
  const std::lock_guard lock(g_mutex);
  g_wholes.erase(begin);
  std::erase_if(g_windows, [&](const auto& window) {
    return window.first >= begin && window.first - begin < static_cast<uintptr_t>(size_);
  });
}

void MappedPages::touched(const void* from, int64_t bytes) const {
  if (!data_ || bytes <= 0) return;
  const auto first = reinterpret_cast<uintptr_t>(data_),
             last = first + static_cast<uintptr_t>(size_);
  const auto begin = reinterpret_cast<uintptr_t>(from), end = begin + static_cast<uintptr_t>(bytes);
  const std::lock_guard lock(g_mutex);
  for (uintptr_t at = begin / kWindow * kWindow; at < end; at += kWindow)
    g_windows.try_emplace(std::max(at, first), std::min(at + kWindow, last));
  if (g_windows.size() * kWindow <= static_cast<size_t>(kMost)) return;
  const auto now = Clock::now();
  if (now - g_given_back < kPause) return;
  give_back(g_windows), give_back(g_wholes);
  g_windows.clear();
  g_given_back = now;
}

void MappedPages::anywhere() const {
  if (!data_ || size_ <= 0) return;
  const auto begin = reinterpret_cast<uintptr_t>(data_);
  const std::lock_guard lock(g_mutex);
  g_wholes[begin] = begin + static_cast<uintptr_t>(size_);
}

}  // namespace ft

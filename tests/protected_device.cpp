#include "tests/protected_device.h"

#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace ft::test {

namespace {

constexpr size_t kPage = 4096, kHuge = size_t{2} << 20;
constexpr size_t kArena = size_t{1} << 38;  // addresses; memory is taken for blocks alone
size_t up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }
size_t pages(size_t bytes) { return std::max(up(bytes, kPage), kPage); }
char* up(char* at, size_t unit) {
  return at + (up(reinterpret_cast<size_t>(at), unit) - reinterpret_cast<size_t>(at));
}

ProtectedDevice* g_device = nullptr;  // whose memory a fault is looked for in
struct sigaction g_other_bus_faults;  // what looked at them before

void show_stack() {
  void* frames[64];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
}

[[noreturn]] void end(const char* why) {
  std::fprintf(stderr, "protected device: %s\n", why);
  show_stack();
  std::abort();
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const bool ours = g_device && g_device->owns(info->si_addr);
  if (ours) {
    std::fprintf(
        stderr, "protected device: %s at %p\n",
        signal == SIGBUS ? "memory beside all blocks is touched" : "the host touches device memory",
        info->si_addr);
    show_stack();
  } else if (signal == SIGBUS && (g_other_bus_faults.sa_flags & SA_SIGINFO)) {
    return g_other_bus_faults.sa_sigaction(signal, info, context);
  }
  ::signal(signal, SIG_DFL);  // on return the access is tried again
  if (ours && signal == SIGBUS) ::signal(SIGSEGV, SIG_DFL), ::raise(SIGSEGV);
}

}  // namespace

struct ProtectedDevice::Item {
  // A wait for the first `before` items of another stream.
  Queue* other = nullptr;
  size_t before = 0;
  // Or a copy.
  char* to = nullptr;
  const char* from = nullptr;
  size_t to_pitch = 0, from_pitch = 0, row_bytes = 0, rows = 0;
  bool from_host = false, to_host = false;
  std::vector<char> values;  // what the host's memory held when it was handed over, or will hold

  template <class F>
  void each_row(F&& f) {
    for (size_t r = 0; r < rows; ++r) f(values.data() + r * row_bytes, r);
  }
  void take_values() {
    values.resize(rows * row_bytes);
    each_row([&](char* row, size_t r) { std::memcpy(row, from + r * from_pitch, row_bytes); });
  }
  void check_source() {
    each_row([&](char* row, size_t r) {
      if (std::memcmp(row, from + r * from_pitch, row_bytes) != 0)
        end("host memory was changed before the copy that reads it was done");
    });
  }
  void give_values() {
    each_row([&](char* row, size_t r) { std::memcpy(to + r * to_pitch, row, row_bytes); });
  }
  void drop_values() { std::vector<char>().swap(values); }  // `= {}` would keep the memory
};

class LateEvent : public Event {
 public:
  explicit LateEvent(ProtectedDevice& device) : device_(device) {}
  void record(Stream stream) override { queue_ = &device_.queue(stream), end_ = queue_->given(); }
  void hold(Stream stream) override {
    if (!queue_) return;
    auto item = std::make_unique<ProtectedDevice::Item>();
    item->other = queue_, item->before = end_;
    device_.queue(stream).items.push_back(std::move(item));
  }
  void wait() override {
    if (queue_) device_.finish(*queue_, end_);
  }

 private:
  ProtectedDevice& device_;
  ProtectedDevice::Queue* queue_ = nullptr;
  size_t end_ = 0;
};

ProtectedDevice::ProtectedDevice()
    : empty_file_(::memfd_create("protected device", MFD_CLOEXEC)),
      arena_(static_cast<char*>(
          ::mmap(nullptr, kArena, PROT_NONE, MAP_SHARED | MAP_NORESERVE, empty_file_, 0))) {
  FT_CHECK(arena_ != MAP_FAILED, "the protected device finds no room for {} bytes of addresses",
           kArena);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, nullptr);
  struct sigaction before {};
  ::sigaction(SIGBUS, &action, &before);
  if (before.sa_sigaction != on_fault) g_other_bus_faults = before;
  g_device = this;
}

ProtectedDevice::~ProtectedDevice() {
  if (g_device == this) g_device = nullptr;
  while (!host_blocks_.empty()) release_host(host_blocks_.begin()->first);
  ::munmap(arena_, kArena);
  ::close(empty_file_);
}

bool ProtectedDevice::owns(const void* memory) const {
  const auto* at = static_cast<const char*>(memory);
  return at >= arena_ && at < arena_ + kArena;
}

void ProtectedDevice::map_nothing(char* begin, size_t bytes) {
  if (::mmap(begin, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, empty_file_,
             begin - arena_) == MAP_FAILED)
    end("mmap failed");
}

void* ProtectedDevice::allocate(size_t bytes) {
  const size_t size = pages(bytes);
  // Large blocks have huge pages, as on the CPU: to open and close costs by the page.
  const size_t align = size >= 2 * kHuge ? kHuge : kPage;
  char* memory = up(arena_, align);  // the first gap that is large enough
  for (const auto& [begin, taken] : blocks_) {
    if (memory + size + kPage <= begin) break;
    memory = up(begin + taken + kPage, align);
  }
  FT_CHECK(size < kArena && memory + size + kPage <= arena_ + kArena &&
               ::mmap(memory, size, accesses_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED,
           "out of memory: {} bytes asked for on the protected device", bytes);
  if (align == kHuge) ::madvise(memory, size, MADV_HUGEPAGE);  // a wish: may be refused
  blocks_[memory] = size;
  ++allocations_;
  return memory;
}

void ProtectedDevice::release(void* memory) {
  const auto block = blocks_.find(static_cast<char*>(memory));
  if (block == blocks_.end()) end("memory is given back that is not the device's");
  map_nothing(block->first, block->second);
  blocks_.erase(block);
}

void* ProtectedDevice::allocate_host(size_t bytes) {
  const size_t size = pages(bytes);
  void* memory = ::mmap(nullptr, size + kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  FT_CHECK(memory != MAP_FAILED, "out of memory: {} bytes asked for beside the protected device",
           bytes);
  ::mprotect(static_cast<char*>(memory) + size, kPage, PROT_NONE);
  host_blocks_[static_cast<char*>(memory)] = size;
  return memory;
}

void ProtectedDevice::release_host(void* memory) {
  const auto block = host_blocks_.find(static_cast<char*>(memory));
  if (block == host_blocks_.end()) end("host memory is given back that is not the device's");
  ::munmap(memory, block->second + kPage);
  host_blocks_.erase(block);
}

Streams ProtectedDevice::streams() const {
  auto* self = const_cast<ProtectedDevice*>(this);
  return {.main = {}, .side = {&self->queues_[1]}, .comm = {&self->queues_[2]}};
}

std::unique_ptr<Event> ProtectedDevice::event() { return std::make_unique<LateEvent>(*this); }

ProtectedDevice::Queue& ProtectedDevice::queue(Stream stream) {
  return stream.handle ? *static_cast<Queue*>(stream.handle) : queues_[0];
}

void ProtectedDevice::synchronize(Stream stream) {
  Queue& q = queue(stream);
  finish(q, q.given());
}

void ProtectedDevice::copy(void* to, const void* from, size_t bytes, Stream stream) {
  copy_rows(to, bytes, from, bytes, bytes, 1, stream);
}

void ProtectedDevice::copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                                size_t row_bytes, size_t rows, Stream stream) {
  auto item = std::make_unique<Item>();
  item->to = static_cast<char*>(to), item->to_pitch = to_pitch;
  item->from = static_cast<const char*>(from), item->from_pitch = from_pitch;
  item->row_bytes = row_bytes, item->rows = rows;
  item->from_host = !owns(from), item->to_host = !owns(to);
  if (item->from_host) item->take_values();
  if (item->to_host)
    for (size_t r = 0; r < rows; ++r) std::memset(item->to + r * to_pitch, 0xff, row_bytes);
  Queue& q = queue(stream);
  const bool late = item->from_host;
  q.items.push_back(std::move(item));
  // Ops run when they are handed over, so what reads device memory cannot wait either.
  if (!late) run(q, q.given());
}

void ProtectedDevice::run(Queue& q, size_t end) {
  if (q.run >= end) return;
  if (accesses_++ == 0) protect(PROT_READ | PROT_WRITE);
  for (; q.run < end; ++q.run) {
    Item& item = q.item(q.run);
    if (item.other) {
      run(*item.other, item.before);
      continue;
    }
    if (item.from_host) item.check_source();
    else item.take_values();
    if (!item.to_host) item.give_values();
    if (!item.from_host && !item.to_host) item.drop_values();
  }
  end_access();
}

void ProtectedDevice::finish(Queue& q, size_t end) {
  run(q, end);
  for (; q.finished < end; ++q.finished, q.items.pop_front()) {
    Item& item = q.item(q.finished);
    if (item.other) finish(*item.other, item.before);
    else if (item.from_host) item.check_source();
    if (item.to_host) item.give_values();
  }
}

void ProtectedDevice::begin_access(Stream stream) {
  if (accesses_++ == 0) protect(PROT_READ | PROT_WRITE);
  Queue& q = queue(stream);
  run(q, q.given());
}

void ProtectedDevice::end_access() {
  if (--accesses_ == 0) protect(PROT_NONE);
}

void ProtectedDevice::protect(int protection) {
  if (blocks_.empty()) return;
  const auto& [begin, bytes] = *blocks_.rbegin();
  if (::mprotect(arena_, static_cast<size_t>(begin + bytes + kPage - arena_), protection) != 0)
    end("mprotect failed");
}

}  // namespace ft::test

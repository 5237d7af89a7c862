#include "cuda/device.h"

#include "cuda/common/gpu.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <utility>

namespace ft::cuda {

namespace {

struct Workspace {
  void* memory = nullptr;
  int64_t bytes = 0;
};

std::unique_ptr<Gpu> g_gpu;
std::map<cudaStream_t, std::array<Workspace, kWorkspaceSlots>> g_workspaces;

std::string meaning_of(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "; the GPU has no memory left: use a smaller train.micro_batch, train.recompute: full "
             "or a smaller model, and see who else uses it (nvidia-smi)";
    case cudaErrorNoDevice:
      return "; no GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES";
    case cudaErrorInsufficientDriver:
      return "; the NVIDIA driver is older than this build's CUDA, or is missing: update it, or set "
             "run.device to cpu";
    case cudaErrorNoKernelImageForDevice:
      return "; this build has no code for this GPU: build again with "
             "-DCMAKE_CUDA_ARCHITECTURES=native on this machine";
    case cudaErrorDevicesUnavailable:
      return "; the GPU is busy or in another mode: see nvidia-smi";
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorContained:
      return "; the GPU itself failed: take it out of use (nvidia-smi -q says more), then start "
             "again: the run goes on from its last checkpoint";
    default:
      return "";
  }
}

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string description_of(const cudaDeviceProp& properties) {
  int driver = 0, runtime = 0;
  FT_CUDA(cudaDriverGetVersion(&driver));
  FT_CUDA(cudaRuntimeGetVersion(&runtime));
  return fmt::format("{}, compute capability {}.{}, CUDA {} (driver's {})", properties.name,
                     properties.major, properties.minor, version_text(runtime),
                     version_text(driver));
}

class CudaEvent : public Event {
 public:
  CudaEvent() { FT_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  void record(Stream stream) override { FT_CUDA(cudaEventRecord(event_, stream_of(stream))); }
  void hold(Stream stream) override { FT_CUDA(cudaStreamWaitEvent(stream_of(stream), event_, 0)); }
  void wait() override { FT_CUDA(cudaEventSynchronize(event_)); }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaDevice : public Device {
 public:
  CudaDevice() {
    cudaDeviceProp properties{};
    FT_CUDA(cudaGetDeviceProperties(&properties, gpu().index));
    description_ = description_of(properties);
    memory_ = static_cast<int64_t>(properties.totalGlobalMem);
  }
  DeviceKind kind() const override { return DeviceKind::Cuda; }
  std::string description() const override { return description_; }
  int64_t memory_total() const override { return memory_; }
  int64_t memory_taken() const override {
    size_t free = 0, total = 0;
    FT_CUDA(cudaMemGetInfo(&free, &total));
    return static_cast<int64_t>(total - free);
  }

  void* allocate(size_t bytes) override {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, std::max<size_t>(bytes, 1));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // it is told here, and is not the next call's
      size_t free = 0, total = 0;
      cudaMemGetInfo(&free, &total);
      throw Error(fmt::format("out of memory: {} bytes asked for on the GPU, {} of {} are free{}",
                              bytes, free, total, meaning_of(error)));
    }
    check(error, "cudaMalloc");
    FT_CUDA(cudaMemsetAsync(memory, 0, bytes, gpu().main));
    FT_CUDA(cudaStreamSynchronize(gpu().main));
    ++allocations_;
    return memory;
  }
  void release(void* memory) override { cudaFree(memory); }
  void* allocate_host(size_t bytes) override {
    void* memory = nullptr;
    FT_CUDA(cudaMallocHost(&memory, std::max<size_t>(bytes, 1)));
    return memory;
  }
  void release_host(void* memory) override { cudaFreeHost(memory); }

  Streams streams() const override { return {{}, {gpu().side}, {gpu().comm}}; }
  std::unique_ptr<Event> event() override { return std::make_unique<CudaEvent>(); }
  void synchronize(Stream stream) override { FT_CUDA(cudaStreamSynchronize(stream_of(stream))); }
  void copy(void* to, const void* from, size_t bytes, Stream stream) override {
    FT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(stream)));
  }
  void copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t row_bytes,
                 size_t rows, Stream stream) override {
    if (rows == 0 || row_bytes == 0) return;
    FT_CUDA(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, row_bytes, rows, cudaMemcpyDefault,
                              stream_of(stream)));
  }

 private:
  std::string description_;
  int64_t memory_ = 0;
};

}  // namespace

void fail(cudaError_t error, const char* call) {
  throw Error(fmt::format("{}: {} ({}){}", call, cudaGetErrorString(error), cudaGetErrorName(error),
                          meaning_of(error)));
}

Gpu& gpu() {
  FT_CHECK(g_gpu, "a GPU is used before it was opened");
  return *g_gpu;
}

void* workspace(Stream stream, int slot, int64_t bytes) {
  Workspace& w = g_workspaces[stream_of(stream)][static_cast<size_t>(slot)];
  if (w.bytes < bytes) {
    cudaFree(w.memory);  // waits for what uses it
    w = {};
    FT_CUDA(cudaMalloc(&w.memory, static_cast<size_t>(bytes)));
    w.bytes = bytes;
  }
  return w.memory;
}

namespace {

struct Visible {
  int count = 0;
  cudaError_t error = cudaSuccess;  // why there is none
};
Visible visible() {
  Visible v;
  v.error = cudaGetDeviceCount(&v.count);
  cudaGetLastError();  // it is told here, and is not the next call's
  if (v.error != cudaSuccess) v.count = 0;
  else if (v.count == 0) v.error = cudaErrorNoDevice;
  return v;
}

cudaDeviceProp properties_of(int local_rank) {
  const auto [count, error] = visible();
  FT_CHECK_CONFIG(error == cudaSuccess, "run.device: cuda, but no GPU answers: {}{}",
                  cudaGetErrorString(error), meaning_of(error));
  FT_CHECK_CONFIG(local_rank < count,
                  "rank {} of this machine has no GPU: {} can be seen; start one rank a GPU "
                  "(CUDA_VISIBLE_DEVICES says which are seen)",
                  local_rank, count);
  cudaDeviceProp properties{};
  FT_CUDA(cudaGetDeviceProperties(&properties, local_rank));
  FT_CHECK_CONFIG(properties.major >= 8,
                  "{} has compute capability {}.{}; falcon-train needs 8.0 (A100) or newer. Set "
                  "run.device to cpu",
                  properties.name, properties.major, properties.minor);
  return properties;
}

}  // namespace

bool available() { return visible().count > 0; }

int64_t memory(int local_rank) {
  return static_cast<int64_t>(properties_of(local_rank).totalGlobalMem);
}

std::vector<std::string> descriptions() {
  std::vector<std::string> all;
  for (int i = 0, count = visible().count; i < count; ++i) {
    cudaDeviceProp properties{};
    FT_CUDA(cudaGetDeviceProperties(&properties, i));
    all.push_back(fmt::format("{}, {:.1f} GiB", description_of(properties),
                              static_cast<double>(properties.totalGlobalMem) / 1073741824));
  }
  return all;
}

std::unique_ptr<Device> open_device(int local_rank) {
  if (!g_gpu) {
    const cudaDeviceProp properties = properties_of(local_rank);
    FT_CUDA(cudaSetDevice(local_rank));
    auto g = std::make_unique<Gpu>();
    g->index = local_rank;
    g->multiprocessors = properties.multiProcessorCount;
    g->shared_memory = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
    for (cudaStream_t* stream : {&g->main, &g->side, &g->comm})
      FT_CUDA(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
    g_gpu = std::move(g);
  }
  return std::make_unique<CudaDevice>();
}

}  // namespace ft::cuda

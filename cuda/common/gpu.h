// The GPU of this process: its streams, its workspaces, and how its errors are told.
#pragma once

#include "core/check.h"
#include "core/device.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ft::cuda {

// Throws what CUDA says went wrong, with what it means for the user where that is known.
[[noreturn]] void fail(cudaError_t error, const char* call);
inline void check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) fail(error, call);
}
#define FT_CUDA(call) ::ft::cuda::check((call), #call)

struct Gpu {
  int index = 0;
  int multiprocessors = 0;
  int64_t shared_memory = 0;  // bytes that a block may ask for
  cudaStream_t main = nullptr, side = nullptr, comm = nullptr;
};

// Made by open_device, once a process: a rank has one GPU.
Gpu& gpu();

// Streams are those of Device::streams(); null is the main one.
inline cudaStream_t stream_of(Stream stream) {
  return stream.handle ? static_cast<cudaStream_t>(stream.handle) : gpu().main;
}

// Device memory that an op needs for itself while it runs, a stream's own: it lives on and grows to
// the largest that was asked for. Ops of one stream follow each other, so each may use all slots;
// within an op a slot is one buffer. need() of the op counts the same with need_workspace.
constexpr int kWorkspaceSlots = 4;
void* workspace(Stream stream, int slot, int64_t bytes);
template <class E>
E* workspace(Stream stream, int slot, int64_t count) {
  return static_cast<E*>(workspace(stream, slot, count * static_cast<int64_t>(sizeof(E))));
}

}  // namespace ft::cuda

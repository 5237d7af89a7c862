// Attention's tiles in order of their work, which documents make uneven: what takes longest is begun
// first. Only time depends on the order.
#include "cuda/attention_mma.h"

namespace ft::cuda {

namespace {

constexpr int kThreads = 1024, kLists = 2;

struct Lists {
  JobList list[kLists];
  int* order[kLists];
};

// ---- kernels ------------------------------------------------------------------------------------

// How many tiles of kVisit rows a job visits.
__device__ int visits(const AttentionSizes& s, const int32_t* docs, const JobList& list, int at) {
  const MmaJob job = job_of(s, list, at);
  if (list.of_queries) {
    const int end = s.offset + min(s.queries, job.first + list.rows);
    return blocks_of(end - seen(s, docs, job.b, job.first).begin, kVisit);
  }
  const int past = job.first + min(list.rows, s.keys - job.first);
  const int first = max(job.first - s.offset, 0) / kVisit;
  int low = first, high = blocks_of(s.queries, kVisit);  // the first tile that sees none
  while (low < high) {
    const int middle = (low + high) / 2;
    if (seen(s, docs, job.b, middle * kVisit).begin < past) low = middle + 1;
    else high = middle;
  }
  return low - first;
}

// Place of a number of visits, the largest first.
__device__ int place(int count) { return kThreads - 1 - min(count, kThreads - 1); }

// A block a list: sorts by counting.
__global__ void __launch_bounds__(kThreads)
    sort_jobs(AttentionSizes s, const int32_t* docs, Lists lists) {
  __shared__ int starts[kThreads];
  const JobList& list = lists.list[blockIdx.x];
  int* order = lists.order[blockIdx.x];
  const int me = static_cast<int>(threadIdx.x);
  starts[me] = 0;
  __syncthreads();
  for (int i = me; i < list.count; i += kThreads)
    atomicAdd(&starts[place(visits(s, docs, list, i))], 1);
  __syncthreads();
  const int mine = starts[me];
  for (int step = 1; step < kThreads; step *= 2) {
    const int before = me >= step ? starts[me - step] : 0;
    __syncthreads();
    starts[me] += before;
    __syncthreads();
  }
  starts[me] -= mine;
  __syncthreads();
  for (int i = me; i < list.count; i += kThreads)
    order[atomicAdd(&starts[place(visits(s, docs, list, i))], 1)] = i;
}

}  // namespace

// ---- launchers ----------------------------------------------------------------------------------

void order_jobs(const AttentionSizes& s, const int32_t* docs, JobList** lists, int count, int heads,
                Stream stream) {
  int64_t numbers = 0;
  for (int i = 0; i < count; ++i) numbers += lists[i]->count;
  if (numbers * heads <= gpu().multiprocessors * 2LL * count) return;
  int* order = workspace<int>(stream, kOrderSlot, numbers);
  Lists all{{*lists[0], *lists[count - 1]}, {}};
  for (int i = 0; i < count; ++i) {
    all.order[i] = order;
    lists[i]->order = order;
    order += lists[i]->count;
  }
  sort_jobs<<<count, kThreads, 0, stream_of(stream)>>>(s, docs, all);
  launched("attention: order of work");
}

}  // namespace ft::cuda

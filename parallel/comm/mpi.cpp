// The world over MPI, where a launcher started this process.
#include "parallel/comm/lone.h"
#include "parallel/comm/mpi_group.h"
#include "parallel/comm/mpi_request.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace ft {

namespace {

// The rank that a launcher gave this process; null: none started it.
const char* launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"})
    if (const char* rank = std::getenv(name)) return rank;
  return nullptr;
}

// The same text in all ranks of a job on a node, and in no other job's.
std::string job_name() {
  std::string name;
  for (const char* part : {"PMIX_NAMESPACE", "SLURM_JOB_ID", "SLURM_STEP_ID", "PMI_JOBID"})
    if (const char* value = std::getenv(part)) name += std::string("-") + value;
  return name.empty() ? fmt::format("below-{}", ::getppid()) : name;
}

class MpiWorld : public World {
 public:
  MpiWorld(int* argc, char*** argv) {
    heartbeat::join(job_name());
    heartbeat::set_rank(std::atoi(launched_rank()));
    const RankCall call("starting MPI (MPI_Init)", heartbeat::start_timeout());
    int provided = 0;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    group_ = mpi_group(MPI_COMM_WORLD, &broken_);
    heartbeat::set_rank(group_->rank());
    MPI_Comm comm;
    detail::check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, group_->rank(),
                                          MPI_INFO_NULL, &comm),
                      "MPI_Comm_split_type");
    const auto node = mpi_group(comm, &broken_);
    local_rank_ = node->rank(), local_size_ = node->size();
    share_stamps(*node);
  }
  ~MpiWorld() override {
    group_.reset();
    const RankCall call("ending MPI (MPI_Finalize; what the run was to write is written)", 0,
                        exit_code_ == 0 ? 1 : exit_code_);
    MPI_Finalize();
  }
  Group& all() override { return *group_; }
  std::unique_ptr<Group> split(int color, int key) override {
    const RankCall call("MPI_Comm_split");
    MPI_Comm comm;
    detail::check_mpi(MPI_Comm_split(MPI_COMM_WORLD, color, key, &comm), "MPI_Comm_split");
    return mpi_group(comm, &broken_);
  }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  void set_timeout(double seconds) override { heartbeat::set_timeout(seconds); }
  void set_exit_code(int code) override { exit_code_ = code; }
  void abort(int exit_code) override {
    std::fflush(nullptr);
    const RankCall call("MPI_Abort", 0, exit_code);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  // Memory without a name in any file system, reached over /proc and never given back: it is gone
  // with the last process. Where that does not work, deadlines go without beats and names.
  void share_stamps(Group& node) {
    const size_t bytes = static_cast<size_t>(local_size_) * sizeof(Stamp);
    int fd = local_rank_ == 0 ? ::memfd_create("heartbeat", MFD_CLOEXEC) : -1;
    if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) fd = -1;
    const std::string place =
        broadcast_text(node, fmt::format("/proc/{}/fd/{}", ::getpid(), fd), 0);
    if (local_rank_ != 0) fd = ::open(place.c_str(), O_RDWR | O_CLOEXEC);
    void* memory =
        fd < 0 ? MAP_FAILED : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const bool failed = all_max(node, int64_t{memory == MAP_FAILED}) > 0;  // all have looked
    if (fd >= 0) ::close(fd);
    if (failed) return;
    auto* stamps = static_cast<Stamp*>(memory);
    auto* mine = new (stamps + local_rank_) Stamp{};
    mine->rank.store(group_->rank());
    mine->worked.store(std::chrono::steady_clock::now().time_since_epoch().count());
    node.barrier().wait();  // all stamps are set before anybody reads one
    std::vector<Stamp*> all;
    for (int r = 0; r < local_size_; ++r) all.push_back(stamps + r);
    heartbeat::share(mine, all);
  }

  bool broken_ = false;  // outlives the groups that point at it
  std::unique_ptr<Group> group_;
  int local_rank_ = 0, local_size_ = 1, exit_code_ = 0;
};

}  // namespace

std::unique_ptr<World> World::open(int* argc, char*** argv) {
  if (launched_rank()) return std::make_unique<MpiWorld>(argc, argv);
  return open_lone_world();
}

}  // namespace ft

// Inside of the MPI backend: what it has under way, and the deadline that lives under.
#pragma once

#include "core/check.h"
#include "core/heartbeat.h"
#include "parallel/comm/comm.h"

// The C interface alone: the removed C++ bindings would need another library.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ft {

namespace detail {

// What MPI answers to a call that failed, as an error of ours.
inline void check_mpi(int code, const std::string& what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(
      fmt::format("{}: MPI has failed: {}. A rank or the network between the nodes broke "
                  "down; resume from the last checkpoint",
                  what, text));
}

}  // namespace detail

// A chain of non-blocking stages: each starts after the one before is done.
class MpiChain : public Pending {
 public:
  using Stage = std::function<std::vector<MPI_Request>()>;
  // broken: of the world; set once something has failed, and then nothing more is waited for.
  MpiChain(std::vector<Stage> stages, bool* broken, std::string what)
      : stages_(std::move(stages)), broken_(broken), what_(std::move(what)) {
    beat();
  }

  bool test() override {
    heartbeat::wait_on();
    while (true) {
      if (!pending_.empty()) {
        if (!test_pending()) return false;
        pending_.clear();
        beat();
      }
      if (next_ == stages_.size()) return true;
      pending_ = stages_[next_++]();
    }
  }

  void wait() override {
    Patience patience;
    for (int64_t polls = 0; !test(); ++polls) {
      if (polls < 2000) continue;
      ::usleep(polls < 4000 ? 1 : polls < 40000 ? 50 : 500);  // the longer, the lazier
      if (polls % 64 != 0 || patience.spent_on_others() < heartbeat::timeout()) continue;
      *broken_ = true;
      throw Error(heartbeat::no_answer(what_, heartbeat::timeout()));
    }
  }

  bool broken() const override { return *broken_; }

 private:
  bool test_pending() {
    int done = 0;
    status_.resize(pending_.size());
    int code =
        MPI_Testall(static_cast<int>(pending_.size()), pending_.data(), &done, status_.data());
    if (code == MPI_ERR_IN_STATUS)
      for (const MPI_Status& one : status_)
        if (one.MPI_ERROR != MPI_SUCCESS && one.MPI_ERROR != MPI_ERR_PENDING) code = one.MPI_ERROR;
    *broken_ = *broken_ || code != MPI_SUCCESS;
    detail::check_mpi(code, what_);
    return done != 0;
  }

  std::vector<Stage> stages_;
  size_t next_ = 0;
  std::vector<MPI_Request> pending_;
  std::vector<MPI_Status> status_;
  bool* broken_;
  std::string what_;
};

}  // namespace ft

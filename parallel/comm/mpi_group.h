// A group of ranks over an MPI communicator, which it owns unless it is MPI_COMM_WORLD.
#pragma once

#include "parallel/comm/comm.h"
#include "parallel/comm/mpi_request.h"

#include <memory>

namespace ft {

// broken: outlives the group; set once something has failed.
std::unique_ptr<Group> mpi_group(MPI_Comm comm, bool* broken);

}  // namespace ft

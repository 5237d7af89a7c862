// A process that no launcher started: a world of one, without MPI.
#pragma once

#include "parallel/comm/comm.h"

#include <memory>

namespace ft {

std::unique_ptr<World> open_lone_world();

}  // namespace ft

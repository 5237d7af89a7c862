// The MPI world of the test process; a world of one when started without mpirun.
#pragma once
#include "parallel/comm/comm.h"
namespace ft::test {
World& world();
}

// Verdicts that all ranks reach together.
#pragma once

#include "parallel/comm.h"

namespace ft {

// SIGTERM, SIGUSR1 and SIGUSR2 only raise a flag from now on.
void install_stop_signals();
// Collective: whether any rank was asked to stop.
bool stop_requested(Group& group);

}  // namespace ft

// Verdicts that all ranks reach together.
#pragma once

#include "parallel/comm/comm.h"

#include <functional>
#include <string>

namespace ft {

// SIGTERM, SIGINT, SIGHUP (unless it is ignored: nohup), SIGUSR1 and SIGUSR2 only raise a flag from
// now on; a second SIGINT ends the process.
void install_stop_signals();
// Collective: whether any rank was asked to stop.
bool stop_requested(Group& group);
// By which signal this rank was asked to stop; 0: by none.
int own_stop_signal();
// Collective: by which signal any rank was asked to stop; 0: by none.
int stop_signal(Group& group);
// What was asked so far is forgotten: the next signal asks anew.
void forget_stop_signal();
std::string signal_name(int signal);  // "SIGTERM"

// Collective: every rank does its local work, which holds no collectives. Where it failed on any
// rank, all of them throw the same SharedError: the fault of the lowest such rank, with its name
// unless all ranks found the same, and with its exit code.
void together(Group& group, const std::function<void()>& work);
// The same, and the sum of what the ranks' work gives, in one exchange.
int64_t together_sum(Group& group, const std::function<int64_t()>& work);
// The same for work that rank 0 does alone.
void on_rank_0(Group& group, const std::function<void()>& work);

}  // namespace ft

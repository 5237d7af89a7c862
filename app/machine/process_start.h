// What comes before everything else in main.
#pragma once

namespace ft {

// Standard streams that are closed lead nowhere, or the next file opened would be one of them.
// Signals: of `train` see parallel/health.h; SIGUSR1 and SIGUSR2, which launchers hand to all, are
// nothing to the other commands. A file that may not grow (SIGXFSZ), and for commands that write
// files a reader that is gone (SIGPIPE), are errors of a write, not ends.
// Threads wait as app/machine/wait_policy.h says.
void prepare_process(int argc, char** argv);

// run.timeout as far as it can be known before MPI starts: from --set, or from train's file; its
// default where either cannot be read, which is told later.
double timeout_of(int argc, char** argv);

}  // namespace ft

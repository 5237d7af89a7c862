// How threads wait for one another. OpenMP's spin for milliseconds: right on cores of one's own; where
// another program wants the core, each wait costs that program's turn, and a run takes many times as
// long.
#pragma once

namespace ft {

// Where other programs are at work on these cores, starts this program anew in its place with
// threads that spin for microseconds and then sleep: OpenMP reads that before main. Does nothing
// where OMP_WAIT_POLICY or GOMP_SPINCOUNT says what is wanted. Signals are to be blocked on the way,
// so that they stay pending.
void wait_as_cores_allow(char** argv);

}  // namespace ft

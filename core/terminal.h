// Whether a person watches: a terminal at the end of our output, its width, its colours.
#pragma once

namespace ft {

struct Terminal {
  bool present = false;  // lines may be rewritten in place
  bool colour = false;
  int columns = 80;
};

// Looks again at each call: windows change their size. Open MPI gives every rank a terminal of its
// own, wherever mpirun's output goes, so there the launcher's output decides. None under Slurm, and
// none where TERM is "dumb" or unset. NO_COLOR (https://no-color.org) turns colours off.
Terminal terminal();

}  // namespace ft

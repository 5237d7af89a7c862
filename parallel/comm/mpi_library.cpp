#include "parallel/comm/comm.h"

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

namespace ft {

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);  // may be called before MPI is started
  const std::string whole(text, static_cast<size_t>(length));
  return whole.substr(0, whole.find_first_of(",\n"));  // the rest says who packed it
}

}  // namespace ft

#include "cpu/device.h"

#ifdef FT_GEMM_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#else
#include <cblas.h>
#endif

namespace ft::cpu {

std::string matrix_library() {
#ifdef FT_GEMM_ONEDNN
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
#else
  return openblas_get_config();
#endif
}

}  // namespace ft::cpu

# pcre2::pcre2 (8-bit units) from CMAKE_PREFIX_PATH (Debian's package carries no CMake configuration).
find_path(pcre2_INCLUDE_DIR pcre2.h)
find_library(pcre2_LIBRARY pcre2-8)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(pcre2 REQUIRED_VARS pcre2_LIBRARY pcre2_INCLUDE_DIR)
if(pcre2_FOUND AND NOT TARGET pcre2::pcre2)
  add_library(pcre2::pcre2 UNKNOWN IMPORTED)
  set_target_properties(pcre2::pcre2 PROPERTIES IMPORTED_LOCATION "${pcre2_LIBRARY}"
                        INTERFACE_INCLUDE_DIRECTORIES "${pcre2_INCLUDE_DIR}"
                        INTERFACE_COMPILE_DEFINITIONS PCRE2_CODE_UNIT_WIDTH=8)
endif()

#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests that this machine can run. Exit code 0: all passed.
#
#   scripts/test.sh         sanitizers on the kernels, files and data; then every test of the CPU build
#   scripts/test.sh --full  sanitizers on every test, and the quickstart from text to sample
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

full=0
case ${1:-} in
  "") ;;
  --full) full=1 ;;
  *) echo "usage: scripts/test.sh [--full]" >&2; exit 2 ;;
esac

scripts/setup.sh
if [[ -z ${CMAKE_GENERATOR:-} ]] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
jobs=$(nproc)

# Leaks are not looked for: the MPI library leaves memory behind at its end.
export ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}

echo "== build with sanitizers"
cmake --preset asan >/dev/null
if ((full)); then
  cmake --build build/asan -j "$jobs"
  ctest --preset asan
else
  # Targets exist for folders with sources alone.
  targets=(falcon-train)  # which tests of data run, too
  for folder in core ops data; do
    if compgen -G "tests/$folder/*.cpp" >/dev/null; then targets+=("test_$folder"); fi
  done
  cmake --build build/asan -j "$jobs" --target "${targets[@]}"
  ctest --preset asan -R '^(core|ops|data)$'
fi

if ((full)); then
  echo "== quickstart"
  scripts/quickstart.sh
fi

echo "== build"
cmake --preset cpu >/dev/null
cmake --build build/cpu -j "$jobs"
ctest --preset cpu

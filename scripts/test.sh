#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests that this machine can run. Exit code 0: all passed.
#
#   scripts/test.sh         sanitizers on the kernels, layers, files and data; then every test of the CPU build
#   scripts/test.sh --full  sanitizers on every test, every command and failure on the protected device, the
#                           quickstart from text to sample, random shapes of models, kill -9 fifty times, the report
#                           in Chromium, TensorBoard's and Megatron's own readers, and the fuzzers (over an hour on 2
#                           cores; RUNS=20000 shortens the fuzzing). Python packages come from PyPI into build/python,
#                           or from FT_PYTHON, an interpreter that has them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

full=0
case ${1:-} in
  "") ;;
  --full) full=1 ;;
  *) echo "usage: scripts/test.sh [--full]" >&2; exit 2 ;;
esac

if ((full)); then scripts/setup.sh --full; else scripts/setup.sh; fi
if [[ -z ${CMAKE_GENERATOR:-} ]] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
jobs=$(nproc)

# The preset does not look for leaks: the MPI library leaves memory behind at its end. Nor does it ask to
# come first among libraries: tests of failures put one before it, which makes calls fail.
echo "== build with sanitizers"
cmake --preset asan >/dev/null
if ((full)); then
  cmake --build build/asan -j "$jobs"
  ctest --preset asan
else
  # Targets exist for folders with sources alone.
  targets=(falcon-train)  # which tests of data run, too
  for folder in core ops layers data; do
    if compgen -G "tests/$folder/*.cpp" >/dev/null; then targets+=("test_$folder"); fi
  done
  cmake --build build/asan -j "$jobs" --target "${targets[@]}"
  ctest --preset asan -R '^(core|ops|layers|data)$'
fi

# Where nvcc is, the program with the CUDA backend is built and tested, on CPU ranks where there is no GPU.
preset=cpu
if command -v nvcc >/dev/null; then preset=cuda; fi
echo "== build ($preset)"
cmake --preset "$preset" >/dev/null
cmake --build "build/$preset" -j "$jobs"
ctest --preset "$preset"
if ((!full)); then exit 0; fi

# ---- the long part ----

export FT_BINARY=$PWD/build/$preset/falcon-train OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
tests=build/$preset/tests

echo "== every case on the protected device"
ctest --preset "$preset" -C full -R '^protected-all-'

echo "== quickstart"
scripts/quickstart.sh

echo "== three hundred random shapes of models"
"$tests/test_layers" "[.random]"

echo "== kill -9 while saving, fifty times"
"$tests/test_failures" "[.kill]"

echo "== the report in Chromium"
"$tests/test_report" "[.chromium]"

echo "== what others read and write"
if [[ -z ${FT_PYTHON:-} ]]; then
  FT_PYTHON=$PWD/build/python/bin/python
  [[ -x $FT_PYTHON ]] || python3 -m venv build/python
  "$FT_PYTHON" -m pip install --quiet tensorboard numpy tokenizers zstandard torch megatron-core
fi
export FT_PYTHON
"$tests/test_report" "[.tensorboard]"
"$FT_PYTHON" scripts/check_prepare_data.py --binary "$FT_BINARY"
"$FT_PYTHON" scripts/check_megatron_reader.py --tokenize-binary "$FT_BINARY" --test-binary "$tests/test_data"

echo "== fuzz"
scripts/fuzz.sh

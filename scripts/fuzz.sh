#!/usr/bin/env bash
# Fuzzes the readers of files that others wrote (tests/fuzz/targets.h) with libFuzzer, address and
# undefined-behaviour sanitizers. Exit code 0: no crash, hang or huge allocation.
#
#   scripts/fuzz.sh                      every target, 1,000,000 inputs each (some minutes a target)
#   RUNS=20000 scripts/fuzz.sh yaml idx  these targets, so many inputs
#   scripts/fuzz.sh --keep               also replaces tests/fuzz/corpus by the smallest set of inputs
#                                        that reaches the same code; ctest replays it
# Needs clang with libFuzzer (Debian: clang libclang-rt-14-dev). What it finds lies in build/fuzz/found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

keep=0
targets=()
for argument in "$@"; do
  case $argument in
    --keep) keep=1 ;;
    idx|yaml|hf_config|safetensors|manifest) targets+=("$argument") ;;
    *) echo "usage: [RUNS=N] scripts/fuzz.sh [--keep] [idx] [yaml] [hf_config] [safetensors] [manifest]" >&2; exit 2 ;;
  esac
done
((${#targets[@]})) || targets=(idx safetensors manifest hf_config yaml)

if [[ -z ${CMAKE_GENERATOR:-} ]] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
cmake -S . -B build/fuzz -DFT_FUZZ=ON -DCMAKE_CXX_COMPILER="${CXX:-clang++}" -DCMAKE_C_COMPILER="${CC:-clang}" \
      -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1" >/dev/null
cmake --build build/fuzz -j "$(nproc)" --target "${targets[@]/#/fuzz_}"

# Throwing is the readers' way to refuse; what libraries leave for exit is no leak of ours.
export ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-}
limits=(-max_len=4096 -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1)
for target in "${targets[@]}"; do
  echo "== $target"
  grown=build/fuzz/corpus/$target found=build/fuzz/found/$target kept=tests/fuzz/corpus/$target
  mkdir -p "$grown" "$found" "$kept"
  build/fuzz/tests/fuzz/fuzz_"$target" -runs="${RUNS:-1000000}" "${limits[@]}" \
    -artifact_prefix="$found/" "$grown" "$kept" >"build/fuzz/$target.log" 2>&1 ||
    { tail -60 "build/fuzz/$target.log" >&2; echo "$target: see build/fuzz/$target.log and $found" >&2; exit 1; }
  grep -E "DONE|number_of_executed_units|peak_rss" "build/fuzz/$target.log"
  if ((keep)); then
    least=build/fuzz/least/$target
    rm -rf "$least" && mkdir -p "$least"
    build/fuzz/tests/fuzz/fuzz_"$target" -merge=1 -use_counters=0 -max_len=4096 "$least" "$kept" "$grown" \
      >>"build/fuzz/$target.log" 2>&1
    rm -rf "$kept" && cp -r "$least" "$kept"
    echo "$kept: $(find "$kept" -type f | wc -l) inputs, $(du -sb "$kept" | cut -f1) bytes"
  fi
done

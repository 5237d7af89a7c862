#!/usr/bin/env bash
# What can be said of the sources without running them: who includes whom, layout, and clang-tidy's findings.
#
#   scripts/lint.sh         the product's files, without clang-tidy's slow path analysis; some minutes on 2 cores
#   scripts/lint.sh --full  the tests as well, and with that analysis; about half an hour on 2 cores
#
# Needs build/cuda or build/cpu configured; without the former the linter leaves out cuda/. The formatter's and the
# linter's findings differ between their versions, so only version 14 is asked (Debian 12, Ubuntu 24.04: packages
# clang-format-14, clang-tidy-14); where it is absent, that is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

full=0
case ${1:-} in
  "") ;;
  --full) full=1 ;;
  *) echo "usage: scripts/lint.sh [--full]" >&2; exit 2 ;;
esac
failed=0

# The arrows of DESIGN.md: a folder and what it may include, itself aside.
arrows() {
  local folder=$1 allowed=$2 wrong
  wrong=$(git ls-files -- "$folder" | grep -E '\.(h|cpp|inc|cu|cuh)$' |
    xargs -r grep -nE '^ *# *include "(app|core|cpu|cuda|data|models|parallel|tests)/' |
    grep -vE "include \"($folder${allowed:+|$allowed})/" || true)
  if [[ -n $wrong ]]; then
    echo "lint: $folder/ may include ${allowed:-nothing} besides itself (DESIGN.md, Tree and arrows):" >&2
    echo "$wrong" >&2
    failed=1
  fi
}
arrows core ""
arrows cpu "core"
arrows cuda "core"
arrows data "core"
arrows parallel "core"
arrows models/layers "core"
arrows models/decoder "core|models/layers"
arrows models/families "core|models/decoder|models/layers"
arrows app "core|cpu|cuda|data|models|parallel"

# The rooms of app/, each of which includes those behind it alone.
rooms=(config machine run train text report commands)
for i in "${!rooms[@]}"; do
  allowed=$(IFS='|'; echo "${rooms[*]:0:i+1}")
  wrong=$(git ls-files -- "app/${rooms[i]}" |
    xargs -r grep -nE '^ *# *include "app/' | grep -vE "include \"app/($allowed)/" || true)
  if [[ -n $wrong ]]; then
    echo "lint: app/${rooms[i]}/ may include, of app/, only ${allowed//|/, } (DESIGN.md, Tree and arrows):" >&2
    echo "$wrong" >&2
    failed=1
  fi
done

# Device memory is the backends': elsewhere no tensor's memory is looked into, values go through core/transfer.h.
looked=$(git ls-files -- app core data models parallel | grep -E '\.(h|cpp)$' | grep -v '^core/tensor\.h$' |
  xargs -r grep -nE '(\.|->)(ptr<[^>]*>|f32|i32)\(\)' || true)
if [[ -n $looked ]]; then
  echo "lint: tensors' memory is touched by cpu/, cuda/ and tests/ alone (core/device.h, core/transfer.h):" >&2
  echo "$looked" >&2
  failed=1
fi

# A tool of version 14, or nothing.
version_14() {
  local tool
  for tool in "$1-14" "$1"; do
    if [[ $("$tool" --version 2>/dev/null) =~ version\ 14\. ]]; then echo "$tool"; return; fi
  done
  echo "lint: $1 14 is not here; its part is left out" >&2
}

mapfile -t sources < <(git ls-files -- '*.h' '*.cpp' '*.inc' '*.cu')
format=$(version_14 clang-format)
if [[ -n $format ]] && ! "$format" --dry-run --Werror "${sources[@]}"; then
  echo "lint: run clang-format -i on these files" >&2
  failed=1
fi

tidy=$(version_14 clang-tidy)
if [[ -n $tidy ]]; then
  folders=(app core cpu data models parallel) build=build/cpu
  if [[ -e build/cuda/compile_commands.json ]]; then folders+=(cuda) build=build/cuda; fi
  checks=(--checks=-clang-analyzer-*)
  if ((full)); then folders+=(tests) checks=(); fi
  git ls-files -- "${folders[@]/%//*.cpp}" | grep -v '^tests/fuzz/' |
    xargs -P "$(nproc)" -n 4 "$tidy" -p "$build" --quiet --warnings-as-errors='*' "${checks[@]}" 2>/dev/null || failed=1
fi
exit "$failed"

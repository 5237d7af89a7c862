#!/usr/bin/env bash
# From a clone to a sampled text: installs what is missing, builds, tokenizes real text, trains the model of
# configs/quickstart.yaml, samples from it and writes its report: on the GPU where there is one and nvcc, else on 2 MPI
# ranks of this machine's CPU. No Python.
#
#   scripts/quickstart.sh          the text is Perl's manual (Debian's perl-doc, about 9 MB)
#   scripts/quickstart.sh FOLDER   the text is every file below FOLDER that is not hidden
#
# Leaves data-quickstart/ and runs/quickstart/; an earlier run is moved aside, never overwritten.
set -euo pipefail

if (($# > 1)) || [[ ${1:-} == -* ]]; then
  echo "usage: scripts/quickstart.sh [FOLDER]" >&2
  exit 2
fi
folder=
if (($# == 1)); then
  if [[ ! -d $1 ]]; then
    echo "quickstart: $1: no such folder" >&2
    exit 2
  fi
  folder=$(cd "$1" && pwd)
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=cpu ranks=2 options=(-DFT_TESTS=OFF)
if command -v nvcc >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  preset=cuda ranks=1
  options+=(-DCMAKE_CUDA_ARCHITECTURES=native)
fi
readonly data=data-quickstart preset ranks options binary=build/$preset/falcon-train

build() {
  if [[ -n $folder ]]; then scripts/setup.sh; else scripts/setup.sh --with-text; fi
  if [[ -z ${CMAKE_GENERATOR:-} ]] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  echo "== build"
  cmake --preset "$preset" "${options[@]}" >/dev/null
  cmake --build "build/$preset" -j "$(nproc)" --target falcon-train
}

# Where dpkg was told to leave documentation out, or perl-doc is not installed, its archive still has the text.
unpack_manual() {
  local here=$data/perl-doc
  if [[ ! -d $here/usr ]]; then
    mkdir -p "$here"
    if ! (cd "$here" && apt-get -qq download perl-doc && dpkg-deb -x perl-doc_*.deb .); then
      echo "quickstart: the text of perl-doc is not here and could not be fetched;" \
           "name a folder of your own: scripts/quickstart.sh FOLDER" >&2
      exit 1
    fi
  fi
  find "$PWD/$here" -name '*.pod' -type f
}

# Absolute paths of the text files, a line each.
list_files() {
  if [[ -n $folder ]]; then
    local name
    (cd "$folder" && find -L . -type f -size +0 -not -path '*/.*') | while IFS= read -r name; do
      echo "$folder/${name#./}"
    done
    return
  fi
  local found
  found=$(dpkg -L perl-doc 2>/dev/null | grep '\.pod$' | while read -r pod; do
    if [[ -s $pod ]]; then echo "$pod"; fi
  done) || true
  if [[ -n $found ]]; then echo "$found"; else unpack_manual; fi
}

# Cuts the files into documents of about 2 kB, at empty lines where there are some: a batch takes the
# tokens of a source in the order of its shuffled documents, and whole manuals would be too long to mix.
# Every 20th file is for validation; of fewer files, every 20th document and the last. Names begin with
# the piece, so that the first validation samples come from many files.
split() {
  local files=("$@") count=$# i part documents
  rm -rf "$data/text"
  mkdir -p "$data/text/train" "$data/text/validation"
  for ((i = 0; i < count; ++i)); do
    part=train
    if ((i % 20 == 19)); then part=validation; fi
    LC_ALL=C awk -v folder="$data/text/$part" -v file="$i" '
      function name() { return sprintf("%s/%06d-%07d", folder, piece, file) }
      { print >name(); bytes += length($0) + 1 }
      (bytes > 2000 && $0 ~ /^[[:space:]]*$/) || bytes > 8000 { close(name()); ++piece; bytes = 0 }
    ' "${files[i]}"
  done
  if ((count >= 20)); then return; fi
  documents=("$data/text/train"/*)
  count=${#documents[@]}
  if ((count < 2)); then
    echo "quickstart: the text is too short to train on; name a folder with some 100 kB at least" >&2
    exit 1
  fi
  for ((i = 0; i < count; ++i)); do
    if ((i % 20 == 19 || i == count - 1)); then mv "${documents[i]}" "$data/text/validation/"; fi
  done
}

tokenize() {
  echo "== tokenize"
  local list files
  list=$(list_files | LC_ALL=C sort)   # not a process substitution: its failure must end the script
  mapfile -t files <<<"$list"
  if [[ -z $list ]]; then
    echo "quickstart: no text files found${folder:+ in $folder}" >&2
    exit 1
  fi
  split "${files[@]}"
  "$binary" tokenize "$data/text/train" --out "$data/train"
  "$binary" tokenize "$data/text/validation" --out "$data/validation"
}

train() {
  echo "== train"
  if [[ -e runs/quickstart ]]; then
    local number=1
    while [[ -e runs/quickstart.$number ]]; do ((++number)); done
    mv runs/quickstart "runs/quickstart.$number"
    echo "the run that was there is now runs/quickstart.$number"
  fi
  # Open MPI asks root, as in a container, to say it twice.
  if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
  mpirun --oversubscribe --bind-to none -n "$ranks" "$binary" train configs/quickstart.yaml --resume none
}

build
tokenize
train
echo "== sample"
prompt="The "
if [[ -z $folder ]]; then prompt="=head1 DESCRIPTION"; fi
"$binary" generate runs/quickstart --prompt "$prompt" --tokens 300 --temperature 0.8
echo "== report"
"$binary" report runs/quickstart
echo "== done in $((SECONDS / 60)) min $((SECONDS % 60)) s. The run lies in runs/quickstart."

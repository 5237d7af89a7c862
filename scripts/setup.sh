#!/usr/bin/env bash
# Installs what the build needs and this machine lacks; says nothing when all of it is there.
#
#   scripts/setup.sh              compiler, CMake, MPI and the libraries
#   scripts/setup.sh --with-text  also perl-doc, the text that scripts/quickstart.sh trains on
#   scripts/setup.sh --lint       also what scripts/lint.sh asks: clang-format and clang-tidy
#   scripts/setup.sh --full       also what scripts/test.sh --full asks for: Chromium, clang with libFuzzer, Python
#
# Needs Debian 12, Ubuntu 24.04 or newer, and root or a sudo that asks nothing. Where the tools come from
# elsewhere (conda, Spack, modules), set FT_SKIP_SETUP=1 and let CMAKE_PREFIX_PATH lead CMake to them.
set -euo pipefail

if [[ ${FT_SKIP_SETUP:-0} == 1 ]]; then exit 0; fi

wanted=(g++ cmake ninja-build ccache pkg-config libopenmpi-dev openmpi-bin libyaml-cpp-dev libspdlog-dev
        libfmt-dev libcli11-dev nlohmann-json3-dev catch2 libxxhash-dev zlib1g-dev libzstd-dev libsimdjson-dev
        libpcre2-dev libutf8proc-dev)
case ${1:-} in
  "") ;;
  --with-text) wanted+=(perl-doc) ;;
  --lint) wanted+=(clang-format-14 clang-tidy-14) ;;
  --full) wanted+=(perl-doc chromium clang python3-venv) ;;
  *) echo "usage: scripts/setup.sh [--with-text | --lint | --full]" >&2; exit 2 ;;
esac

installed() {
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Whether apt could install the package from the lists that it has.
available() {
  [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]
}

refuse() {
  {
    echo "scripts/setup.sh: $1"
    echo "  missing: ${missing[*]}"
    echo "  With root: apt-get install ${missing[*]}"
    echo "  If they are here by other means (conda, Spack, modules): set FT_SKIP_SETUP=1 and CMAKE_PREFIX_PATH"
  } >&2
  exit 1
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 "$@"
}

# libFuzzer comes with the runtime of the version that `clang` stands for.
if [[ ${1:-} == --full ]]; then
  version=$(LC_ALL=C apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9][0-9]*\)$/\1/p' | head -1)
  if [[ -n $version ]]; then wanted+=("libclang-rt-$version-dev"); fi
fi

missing=()
for package in "${wanted[@]}"; do
  installed "$package" || missing+=("$package")
done
# Matrix products come from either library; oneDNN is the faster one. Debian builds it with OpenCL, whose headers its
# CMake files ask for although its package does not bring them.
gemm=()
if installed libdnnl-dev || ! installed libopenblas-dev; then
  for package in libdnnl-dev ocl-icd-opencl-dev; do
    installed "$package" || gemm+=("$package")
  done
fi
if ((${#missing[@]} + ${#gemm[@]} == 0)); then exit 0; fi

if ! command -v apt-get >/dev/null; then
  missing+=("${gemm[@]}")
  refuse "this machine has no apt-get to install what is missing"
fi
if ((EUID != 0)) && ! sudo -n true 2>/dev/null; then
  missing+=("${gemm[@]}")
  refuse "installing needs root, and sudo is absent or asks for a password"
fi

fresh=0
update() {
  if ((fresh)); then return; fi
  echo "setup: apt-get update"
  apt update || echo "setup: apt-get update had errors; going on with the lists there are" >&2
  fresh=1
}
for package in "${missing[@]}" "${gemm[@]}"; do
  available "$package" || update
done
for package in "${gemm[@]}"; do
  available "$package" || { gemm=(libopenblas-dev); break; }
done
missing+=("${gemm[@]}")

echo "setup: installing ${missing[*]}"
install() { apt install --no-install-recommends "${missing[@]}" >/dev/null; }
# Old lists name files that the mirror no longer has: one more try with new ones.
install || { update; install; } || refuse "apt-get could not install everything"

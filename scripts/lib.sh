# Shared by the scripts in this folder: progress lines, errors, paths. Sourced, not run.
set -euo pipefail

CX_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CX_PRESET="${CX_PRESET:-release}"
CX_BUILD="$CX_ROOT/build/$CX_PRESET"
CX_MODELS="$CX_ROOT/build/models"
CX_JOBS="${CX_JOBS:-$(nproc)}"
CX_START=$SECONDS

# Clones in different folders share compiler results.
export CCACHE_BASEDIR="$CX_ROOT" CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS="${CCACHE_SLOPPINESS:-pch_defines,time_macros}"

step() { printf '\n\033[1m==> %s\033[0m  (%ds)\n' "$1" "$((SECONDS - CX_START))"; }
note() { printf '    %s\n' "$1"; }
fail() {
  printf '\nerror: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# The comment at the top of a script is its help.
case "${1:-}" in
  -h | --help)
    sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
esac

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "packages are missing and this user is neither root nor has sudo" "run as root: $*"
  fi
}

build_all() { # build_all [TARGET ...]; without: all
  cd "$CX_ROOT"
  if [ ! -f "$CX_BUILD/build.ninja" ]; then
    step "Configuring ($CX_PRESET)"
    cmake --preset "$CX_PRESET" >"$CX_ROOT/build/configure.log" 2>&1 ||
      { tail -n 40 "$CX_ROOT/build/configure.log" >&2; fail "CMake failed; whole log: build/configure.log"; }
  fi
  step "Building into build/$CX_PRESET with $CX_JOBS jobs"
  NINJA_STATUS='    [%f/%t %es] ' cmake --build "$CX_BUILD" -j "$CX_JOBS" ${1:+--target "$@"} || fail "the build failed; see the messages above"
}

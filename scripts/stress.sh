#!/usr/bin/env bash
# Random work, faults and resets on two cards with eight queues each, under address sanitizer; every outcome is checked.
# Usage: scripts/stress.sh [--seconds S] [--seed N] [--plain] [option of cx_stress]...
#   --seconds S  default 600
#   --seed N     default 1
#   --plain      release build, without sanitizer: more operations
source "$(dirname "$0")/lib.sh"
cd "$CX_ROOT"
seconds=600 plain=0 rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?}; shift 2 ;;
    --plain) plain=1; shift ;;
    *) rest+=("$1"); shift ;;
  esac
done
preset=asan
[ "$plain" = 0 ] || preset=release
build="$CX_ROOT/build/$preset"
mkdir -p build
[ -f "$build/build.ninja" ] || { step "Configuring ($preset)"; cmake --preset "$preset" >build/configure.log 2>&1 || fail "CMake failed; see build/configure.log"; }
step "Building"
cmake --build "$build" -j "$CX_JOBS" --target cx_stress
step "Stress, $seconds s"
ASAN_OPTIONS=detect_leaks=1 "$build/bin/cx_stress" --seconds "$seconds" "${rest[@]}" || fail "see above; --seed repeats the run, --log tells what happened"

#!/usr/bin/env bash
# Long random comparison of model and RTL tile on every shape that is built: bits, cycles and counters must agree.
# Usage: scripts/soak.sh [--tiles N] [--seed S] [--jobs N] [--shape SHAPE]   (default 100000 operations from seed 1)
source "$(dirname "$0")/lib.sh"
cd "$CX_ROOT"
mkdir -p build
if [ ! -f "$CX_BUILD/build.ninja" ]; then
  step "Configuring ($CX_PRESET)"
  cmake --preset "$CX_PRESET" >build/configure.log 2>&1 ||
    { tail -n 40 build/configure.log >&2; fail "CMake failed; whole log: build/configure.log"; }
fi
step "Building cx_tile_soak into build/$CX_PRESET with $CX_JOBS jobs"
NINJA_STATUS='    [%f/%t %es] ' cmake --build "$CX_BUILD" -j "$CX_JOBS" --target cx_tile_soak ||
  fail "the build failed; see the messages above"

step "Soak"
begin=$SECONDS
status=0
"$CX_BUILD/bin/cx_tile_soak" "$@" || status=$?
case "$status" in
  0) note "no difference between model and RTL ($((SECONDS - begin)) s)" ;;
  1) fail "model and RTL differ; see above (seed and shape repeat the run: --seed S --shape SHAPE)" ;;
  *) fail "cx_tile_soak ended with status $status" ;;
esac

#!/usr/bin/env bash
# Coverage. Without --rtl: builds with gcov instrumentation, runs the tests, and reports line coverage of hw/ and driver/.
# All of it takes hours; --build names what to build, for ctest arguments that need no more of it.
# With --rtl: lines and toggles of rtl, by module, over the tiles' tests and soaks of small tiles.
# Usage: scripts/coverage.sh [--build "TARGET ..."] [ctest arguments] | scripts/coverage.sh --rtl [--tiles N]
# Example: scripts/coverage.sh --build "config energy_table" -L config
if [ "${1:-}" = --rtl ]; then
  source "$(dirname "$0")/lib.sh"
  shift
  cd "$CX_ROOT"
  build=build/coverage-rtl
  tiles=6000
  [ "${1:-}" = --tiles ] && tiles=${2:?a number of operations}
  step "Building RTL that counts lines and toggles into $build"
  mkdir -p "$build"
  # Large tiles have the same lines as small ones.
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DCX_RTL_COVERAGE=ON \
    "-DCX_RTL_TILES=8x8x256;8x8x64/pack=2/stages=2;8x8x64/pack=4/stages=3" \
    "-DCX_RTL_SCA_TILES=8x8x32x256;5x11x6x40/window=8/queue=2" >build/configure.log 2>&1 ||
    { tail -n 40 build/configure.log >&2; fail "CMake failed; whole log: build/configure.log"; }
  NINJA_STATUS='    [%f/%t %es] ' cmake --build "$build" -j "$CX_JOBS" \
    --target cx_tile_soak rtl_tile_test rtl_pe_test rtl_post_test dmmu_test tile_workers_test cx_sca_soak rtl_sca_test ||
    fail "the build failed; see the messages above"

  step "Testing"
  data="$CX_ROOT/$build/data"
  rm -rf "$data"
  mkdir -p "$data"
  export CX_RTL_COVERAGE_DIR="$data"
  (cd "$build" && ctest -L tile -j "$CX_JOBS" --output-on-failure)
  "$build/bin/cx_tile_soak" --tiles "$tiles" --jobs "$CX_JOBS"
  "$build/bin/cx_sca_soak" --operations "$tiles" --jobs "$CX_JOBS"

  step "Lines and toggles"
  verilator_coverage --write "$build/merged.dat" "$data"/*.dat >/dev/null
  verilator_coverage --annotate "$build/annotated" "$build/merged.dat" >/dev/null
  /usr/bin/python3 tb/rtl/coverage.py "$build/merged.dat"
  note "sources with counts: $build/annotated"
  exit 0
fi

targets=
if [ "${1:-}" = --build ]; then
  targets=${2:?names of targets}
  shift 2
fi
CX_PRESET=coverage
source "$(dirname "$0")/lib.sh"
"$CX_ROOT/scripts/setup.sh" --models-optional
build_all $targets
step "Testing"
# Counts of earlier runs do not count.
find "$CX_BUILD" -name '*.gcda' -delete
tests=0
(cd "$CX_BUILD" && ctest -j "$CX_JOBS" --output-on-failure --no-tests=error "$@") || tests=1
step "Line coverage"
mkdir -p "$CX_BUILD/coverage"
gcovr --root "$CX_ROOT" --filter "$CX_ROOT/hw/" --filter "$CX_ROOT/driver/" --exclude '.*/gen/' -j "$CX_JOBS" \
  --print-summary --html-details "$CX_BUILD/coverage/index.html" --txt "$CX_BUILD/coverage/lines.txt" "$CX_BUILD" ||
  fail "gcovr failed; see the messages above"
cat "$CX_BUILD/coverage/lines.txt"
note "pages: build/coverage/coverage/index.html"
[ "$tests" = 0 ] || fail "tests failed; see the messages above"

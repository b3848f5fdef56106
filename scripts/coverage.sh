#!/usr/bin/env bash
# Builds with gcov instrumentation, runs the tests, and reports line coverage of hw/, driver/ and firmware's host side.
CX_PRESET=coverage
source "$(dirname "$0")/lib.sh"
"$CX_ROOT/scripts/setup.sh" --models-optional
build_all
step "Testing"
(cd "$CX_BUILD" && ctest -j "$CX_JOBS" --output-on-failure "$@")
step "Line coverage"
mkdir -p "$CX_BUILD/coverage"
gcovr --root "$CX_ROOT" --filter 'hw/' --filter 'driver/' --exclude '.*/gen/' --print-summary \
  --html-details "$CX_BUILD/coverage/index.html" "$CX_BUILD" 2>/dev/null | tail -n 60
note "pages: build/coverage/coverage/index.html"

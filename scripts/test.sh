#!/usr/bin/env bash
# Set-up, build and all tests. Arguments go to ctest, e.g. scripts/test.sh -L tile
source "$(dirname "$0")/lib.sh"
"$CX_ROOT/scripts/setup.sh" --models-optional
build_all
step "Testing"
cd "$CX_BUILD"
exec ctest --output-on-failure -j "$CX_JOBS" "$@"

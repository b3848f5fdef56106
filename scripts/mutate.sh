#!/usr/bin/env bash
# Mutation test of the MAC tile, or of the sparse tile (--sparse): one deliberate defect at a time
# (tb/rtl/mutations/defects.yaml) in a copy of rtl; the tests must find each. Ends with status 1 if one survives.
# Usage: scripts/mutate.sh [--sparse] [--list] [--only NAME]... [--jobs N]
source "$(dirname "$0")/lib.sh"
cd "$CX_ROOT"
build=build/mutation
run=(/usr/bin/python3 tb/rtl/mutations/run.py "$CX_ROOT" "$CX_ROOT/$build" --jobs "$CX_JOBS" "$@")
targets=(cx_tile_soak rtl_tile_test rtl_pe_test rtl_post_test)
for argument in "$@"; do
  case "$argument" in
    --list | --help | -h) exec "${run[@]}" ;;
    --sparse) targets=(cx_sca_soak rtl_sca_test) ;;
  esac
done

step "Building the sound RTL and its tests into $build"
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O2 \
  "-DCX_RTL_TILES=8x8x64/pack=2/stages=2;8x8x256;8x8x64/pack=4/stages=3" \
  "-DCX_RTL_SCA_TILES=8x8x32x256;5x11x6x40/window=8/queue=3" >build/configure.log 2>&1 ||
  { tail -n 40 build/configure.log >&2; fail "CMake failed; whole log: build/configure.log"; }
NINJA_STATUS='    [%f/%t %es] ' cmake --build "$build" -j "$CX_JOBS" \
  --target "${targets[@]}" || fail "the build failed; see the messages above"

step "Defects"
exec "${run[@]}"

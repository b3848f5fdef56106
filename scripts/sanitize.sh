#!/usr/bin/env bash
# Tests of some labels under address, leak and undefined-behaviour sanitizers (preset asan, folder build/asan). Only the
# programs of these tests are built; `cx` if one of them needs it, which is most of the project.
# Usage: scripts/sanitize.sh LABEL... [-- option of ctest...]
#   LABEL  as of `ctest -L`, whole; e.g. net
#   Options of ctest choose among the tests, too: scripts/sanitize.sh net -- -E 'tools_|network_tables' does without cx.
# Ends with ctest's status: 0 if all tests pass and no sanitizer reports anything.
CX_PRESET=asan
source "$(dirname "$0")/lib.sh"
labels=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  labels+=("$1")
  shift
done
[ $# -eq 0 ] || shift
[ ${#labels[@]} -gt 0 ] || fail "expected a label, e.g. scripts/sanitize.sh net"
cd "$CX_ROOT"
mkdir -p build
step "Configuring ($CX_PRESET)"
cmake --preset "$CX_PRESET" >build/configure.log 2>&1 ||
  { tail -n 40 build/configure.log >&2; fail "CMake failed; whole log: build/configure.log"; }

choice=(-L "^($(IFS='|'; echo "${labels[*]}"))\$" "$@")
mapfile -t tests < <(ctest --test-dir "$CX_BUILD" -N "${choice[@]}" 2>/dev/null | sed -n 's/^ *Test *#[0-9]*: //p')
[ ${#tests[@]} -gt 0 ] || fail "no test has label ${labels[*]}${*:+ and fits: $*}"
programs=$(ninja -C "$CX_BUILD" -t targets all | sed -n 's/: phony$//p')
targets=()
for test in "${tests[@]}"; do
  # What is no program of its own is a script that runs cx.
  grep -qx "$test" <<<"$programs" && targets+=("$test") || targets+=(cx)
done
step "Building the programs of ${#tests[@]} tests"
NINJA_STATUS='    [%f/%t %es] ' cmake --build "$CX_BUILD" -j "$CX_JOBS" --target "${targets[@]}" ||
  fail "the build failed; see the messages above"

step "Testing: ${tests[*]}"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
exec ctest --test-dir "$CX_BUILD" --output-on-failure -j "$CX_JOBS" "${choice[@]}"

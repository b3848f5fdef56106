#!/usr/bin/env bash
# Checks that need no build: formatting, fresh generated files, folder boundaries, shell syntax.
source "$(dirname "$0")/lib.sh"
cd "$CX_ROOT"
failed=0
report() { # report NAME STATUS [DETAIL]
  printf '    %-28s %s\n' "$1" "$2"
  if [ "$2" != ok ]; then
    failed=1
    [ -n "${3:-}" ] && sed 's/^/        /' <<<"$3"
  fi
}

step "Checks"
mapfile -t sources < <(git ls-files '*.cpp' '*.hpp' '*.c' '*.h' ':!hw/regs/gen' ':!hw/config/gen' ':!hw/cluster/gen' ':!tb/hw/cp/programs')  # the last: assembler
if out=$(clang-format --dry-run --Werror "${sources[@]}" 2>&1); then report "clang-format" ok; else report "clang-format" FAILED "$(grep -m 20 'error:' <<<"$out")"; fi

if out=$(/usr/bin/python3 hw/regs/generate.py --check 2>&1); then report "generated files" ok; else report "generated files" STALE "$out"; fi

if out=$(/usr/bin/python3 hw/config/generate.py --check 2>&1 && /usr/bin/python3 hw/cluster/generate.py --check 2>&1 && /usr/bin/python3 driver/tools/sweep/generate.py --check 2>&1); then report "generated keys" ok; else report "generated keys" STALE "$out"; fi

boundary() { # boundary NAME FOLDER FORBIDDEN [ALLOWED]
  local hits
  hits=$(git grep -nE "#include [\"<]($3)" -- "$2" || true)
  [ -n "${4:-}" ] && hits=$(grep -vE "#include [\"<]($4)" <<<"$hits" || true)
  if [ -z "$hits" ]; then report "$1" ok; else report "$1" VIOLATED "$hits"; fi
}
boundary "hw does not see driver" hw 'driver/|cx/'
boundary "driver sees hw/common, regs" driver 'hw/' 'hw/common/|hw/regs/'
boundary "driver does not see SystemC" driver 'systemc|tlm|sysc'
boundary "firmware sees hw/regs" firmware 'hw/|driver/' 'hw/regs/'
boundary "transport is the lowest" driver/transport 'driver/(umd|runtime|compiler|session|python|tools)/'
boundary "umd below runtime" driver/umd 'driver/(runtime|compiler|session|python|tools)/'
boundary "runtime below compiler" driver/runtime 'driver/(compiler|session|python|tools)/'
boundary "compiler below session" driver/compiler 'driver/(session|python|tools)/'
boundary "session below tools" driver/session 'driver/(python|tools)/'
boundary "collective below tools" driver/collective 'driver/(python|tools|session|compiler|runtime)/'
boundary "verbs below tools" driver/rdma 'driver/(python|tools|session|compiler|runtime)/'
boundary "tools below python" driver/tools 'driver/python/'

out=$(for f in scripts/*.sh .ci/run; do bash -n "$f" 2>&1 || true; done)
if [ -z "$out" ]; then report "shell syntax" ok; else report "shell syntax" FAILED "$out"; fi

out=$(for f in scripts/*.sh; do
  [ "$f" = scripts/lib.sh ] || { help=$("$f" --help) && [ -n "$help" ]; } || echo "$f --help says nothing"
done)
if [ -z "$out" ]; then report "script help" ok; else report "script help" FAILED "$out"; fi
exit "$failed"

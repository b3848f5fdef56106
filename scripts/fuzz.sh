#!/usr/bin/env bash
# Fuzzing of what comes from outside: packets, programs, program files, configurations, ONNX models, sparsity patterns, vfio-user messages.
#
# Usage: scripts/fuzz.sh [--target T]... [--runs N] [--seconds S] [--jobs J] [--plain]
#   --target T   packets, programs, container, config, import, smtx or vfio; all without it
#   --runs N     inputs for each target, over all jobs (default 100000)
#   --seconds S  stop a target after so long, whatever --runs says
#   --jobs J     processes for each target, each with a seed of its own (default: processors)
#   --plain      gcc's build of the release preset with its own mutator, without sanitizers; faster, needs no clang
# Without --plain the targets are libFuzzer programs with address and undefined-behaviour sanitizers (preset fuzz). Inputs that fail are
# minimised and kept in build/fuzz/crashes. Exit status 1 if there was one.
source "$(dirname "$0")/lib.sh"

targets=() runs=100000 seconds=0 jobs=$CX_JOBS plain=0
while [ $# -gt 0 ]; do
  case $1 in
    --target) targets+=("${2:?}"); shift 2 ;;
    --runs) runs=${2:?}; shift 2 ;;
    --seconds) seconds=${2:?}; shift 2 ;;
    --jobs) jobs=${2:?}; shift 2 ;;
    --plain) plain=1; shift ;;
    *) fail "unknown option $1" "scripts/fuzz.sh [--target T]... [--runs N] [--seconds S] [--jobs J] [--plain]" ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=(packets programs container config import smtx vfio)

if [ "$plain" = 1 ]; then preset=release; else
  preset=fuzz
  if ! command -v clang++ >/dev/null || ! [ -e "$(clang++ -print-file-name=libclang_rt.fuzzer-x86_64.a)" ]; then
    step "Packages"
    as_root apt-get update >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends clang libclang-rt-14-dev
  fi
fi
build="$CX_ROOT/build/$preset" out="$CX_ROOT/build/fuzz/crashes"
cd "$CX_ROOT"
mkdir -p "$out"
[ -f "$build/build.ninja" ] || { step "Configuring ($preset)"; cmake --preset "$preset" >"$CX_ROOT/build/configure.log" 2>&1 || fail "CMake failed; see build/configure.log"; }
step "Building"
cmake --build "$build" -j "$CX_JOBS" --target "${targets[@]/#/fuzz_}"

runtime=""
[ "$plain" = 1 ] || runtime=$(clang++ -print-file-name=libclang_rt.asan-x86_64.so)
table="" failed=0
for target in "${targets[@]}"; do
  step "$target"
  rm -f "$out/$target"-*.log
  program="$build/bin/fuzz/fuzz_$target" seeds="tb/fuzz/seeds/$target" each=$(((runs + jobs - 1) / jobs)) begin=$SECONDS pids=()
  for ((job = 1; job <= jobs; ++job)); do
    log="$out/$target-$job.log"
    limit=$((seconds > 0 ? seconds : 1000000000))
    if [ "$plain" = 1 ]; then
      timeout "$limit" "$program" --runs "$each" --seed "$job" --save "$out/$target-$job" "$seeds" >"$log" 2>&1 &
    else
      corpus="$CX_ROOT/build/fuzz/corpus/$target-$job"
      mkdir -p "$corpus"
      # Inputs of these take from half a millisecond to a second: quick ones are changed more often than slow ones.
      case $target in packets | programs) schedule=-entropic_scale_per_exec_time=1 ;; *) schedule=-entropic=1 ;; esac
      # The runtime is a shared library, which the linker does not put first.
      LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0 "$program" "$schedule" -runs="$each" -seed="$job" -max_total_time="$seconds" -max_len=4096 -timeout=60 -rss_limit_mb=6144 \
        -artifact_prefix="$out/$target-$job-" -print_final_stats=1 "$corpus" "$seeds" >"$log" 2>&1 &
    fi
    pids+=($!)
  done
  bad=0
  for pid in "${pids[@]}"; do
    status=0
    wait "$pid" || status=$?
    # 124: time was over.
    [ "$status" = 0 ] || [ "$status" = 124 ] || bad=$((bad + 1))
  done
  if [ "$plain" = 1 ]; then
    done_runs=$(sed -n 's/.* replayed, \([0-9]*\) mutated.*/\1/p' "$out/$target"-*.log | awk "{ sum += \$1 } END { print sum + 0 }")
  else
    done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target"-*.log | awk "{ sum += \$1 } END { print sum + 0 }")
  fi
  if [ "$bad" -gt 0 ]; then
    failed=1
    tail -n 5 "$out/$target"-*.log
    if [ "$plain" = 0 ]; then
      for crash in "$out/$target"-*-{crash,timeout,oom}-*; do
        [ -e "$crash" ] || continue
        LD_PRELOAD="$runtime" "$program" -minimize_crash=1 -max_total_time=20 -exact_artifact_path="$crash.min" "$crash" >/dev/null 2>&1 || true
      done
    fi
    note "inputs are in build/fuzz/crashes"
  fi
  row=$(printf '    %-10s %12s inputs %8s s   %s' "$target" "$done_runs" "$((SECONDS - begin))" "$([ "$bad" = 0 ] && echo ok || echo "$bad of $jobs jobs failed")")
  note "$row"
  table+="$row"$'\n'
done
step "Results ($([ "$plain" = 1 ] && echo "gcc, no sanitizers" || echo "libFuzzer, address and undefined-behaviour sanitizers"))"
printf '%s' "$table"
exit "$failed"

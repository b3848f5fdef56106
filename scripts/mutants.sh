#!/usr/bin/env bash
# Model files that are changed at random, through the compiler: none may crash, hang or end without a typed message.
# Usage: scripts/mutants.sh [COUNT [SEED]]     COUNT mutants (default 100000) from SEED on (default: random, printed)
#        scripts/mutants.sh --only INDEX SEED  one of them, whose file stays as mutant.onnx
source "$(dirname "$0")/lib.sh"
build_all
cd "$CX_ROOT"
if [ "${1:-}" = --only ]; then
  export CX_MUTANT="${2:?which mutant}" CX_MUTANT_SEED="${3:?of which seed}"
else
  export CX_MUTANTS="${1:-100000}" CX_MUTANT_SEED="${2:-$((RANDOM * 32768 + RANDOM))}"
  step "$CX_MUTANTS mutants, seed $CX_MUTANT_SEED"
fi
"$CX_BUILD/bin/tests/mutated_models"

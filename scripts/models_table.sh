#!/usr/bin/env bash
# The table of models in docs/compiler.md: cost, bound, memory, times and checks of every reference model and of the OCR
# networks, on cx3210 in FP16. ONNX Runtime's time on one core comes from the npm package onnxruntime-node, which is
# installed into build/ (test use only); without it that column stays empty.
# Usage: scripts/models_table.sh [--no-onnxruntime]
source "$(dirname "$0")/lib.sh"
cd "$CX_ROOT"
[ -x "$CX_BUILD/bin/cx" ] || build_all >&2
ORT="$CX_ROOT/build/onnxruntime"
if [ "${1:-}" = --no-onnxruntime ]; then
  ORT=
elif [ ! -d "$ORT/node_modules/onnxruntime-node" ]; then
  mkdir -p "$ORT"
  (cd "$ORT" && npm init -y && npm install --ignore-scripts onnxruntime-node@1.30.0) >"$CX_ROOT/build/onnxruntime.log" 2>&1 || ORT=
fi
exec /usr/bin/python3 scripts/models_table.py "$CX_BUILD/bin/cx" "$CX_MODELS/ocr" "${ORT:+$ORT/node_modules/onnxruntime-node}"

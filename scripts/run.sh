#!/usr/bin/env bash
# Set-up, build, then the main job: a trained network reads a line of text on the virtual chip cx3210, and another one
# runs on the chip tiny with all its MAC tiles as RTL, as models, and as models in a card of another process.
source "$(dirname "$0")/lib.sh"
"$CX_ROOT/scripts/setup.sh"
build_all
CX="$CX_BUILD/bin/cx"
REPORTS="$CX_ROOT/build/reports"
mkdir -p "$REPORTS"

step "Text recognition (PP-OCRv4) on cx3210, FP16"
"$CX" run "$CX_MODELS/ocr/ch_PP-OCRv4_rec_infer.onnx" --config "$CX_ROOT/configs/chips/cx3210.yaml" --precision fp16 \
  --task ocr-line --input "x=$CX_ROOT/examples/text_line.png" \
  --reference "$CX_ROOT/examples/text_line_reference" --atol 0.02 --report "$REPORTS/text_line.json" ||
  fail "text recognition failed or its outputs are not those of the reference; see above"

step "Direction classifier on tiny: every MAC tile as RTL, then as model"
for tiles in all none; do
  "$CX" run "$CX_MODELS/ocr/ch_ppocr_mobile_v2.0_cls_infer.onnx" --config "$CX_ROOT/configs/chips/tiny.yaml" --precision fp16 \
    --task ocr-direction --input "x=$CX_ROOT/examples/text_line.png" --set "dmmu.rtl_tiles=$tiles" \
    --output "$REPORTS/direction_$tiles" --report "$REPORTS/direction_$tiles.json" >"$REPORTS/direction_$tiles.txt" ||
    fail "the direction classifier failed with rtl_tiles=$tiles"
  note "rtl_tiles=$tiles: $(grep -m1 -E 'direction' "$REPORTS/direction_$tiles.txt")"
done

step "Direction classifier on a card in another process"
SOCKET="$REPORTS/card.sock"
"$CX" device --config "$CX_ROOT/configs/chips/tiny.yaml" --socket "$SOCKET" >"$REPORTS/card.txt" 2>&1 &
CARD=$!
trap 'kill "$CARD" 2>/dev/null || true' EXIT
for _ in $(seq 200); do [ -S "$SOCKET" ] && break; sleep 0.05; done
"$CX" run "$CX_MODELS/ocr/ch_ppocr_mobile_v2.0_cls_infer.onnx" --device "vfio-user:$SOCKET" --precision fp16 \
  --task ocr-direction --input "x=$CX_ROOT/examples/text_line.png" \
  --output "$REPORTS/direction_socket" --report "$REPORTS/direction_socket.json" >"$REPORTS/direction_socket.txt" ||
  fail "the direction classifier failed on the card behind a socket" "$(cat "$REPORTS/card.txt")"
kill "$CARD" && wait "$CARD" || true
note "$(grep -m1 -E 'direction' "$REPORTS/direction_socket.txt")"

step "Summary"
note "text read from examples/text_line.png: $(/usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["answer"]["text"])' "$REPORTS/text_line.json")"
status=0
outputs_equal=1
socket_equal=1
for file in "$REPORTS"/direction_none/*; do
  cmp -s "$file" "$REPORTS/direction_all/$(basename "$file")" || outputs_equal=0
  cmp -s "$file" "$REPORTS/direction_socket/$(basename "$file")" || socket_equal=0
done
read -r rtl_cycles model_cycles socket_cycles < <(/usr/bin/python3 - "$REPORTS" <<'PY'
import json, sys
print(*(json.load(open(f"{sys.argv[1]}/direction_{t}.json"))["cycles"] for t in ("all", "none", "socket")))
PY
)
note "reports: build/reports/*.json"
note "direction classifier: RTL $rtl_cycles cycles, model $model_cycles cycles"
if [ "$outputs_equal" = 1 ] && [ "$rtl_cycles" = "$model_cycles" ]; then
  note "RTL and model outputs and cycles: bit-exact"
else
  note "RTL and model DIFFER"
  status=1
fi
if [ "$socket_equal" = 1 ] && [ "$socket_cycles" = "$model_cycles" ]; then
  note "card in this process and card behind a socket: same bytes, same cycles"
else
  note "card in this process and card behind a socket DIFFER ($model_cycles and $socket_cycles cycles)"
  status=1
fi
exit "$status"

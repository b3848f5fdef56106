#!/usr/bin/env bash
# Prints the table of docs/measurements.md: wall time and simulated cycles of the jobs, with model tiles and RTL tiles.
# Usage: scripts/measure.sh [RUNS]   (default 3; the smallest wall time of the runs is printed)
source "$(dirname "$0")/lib.sh"
exec /usr/bin/python3 - "$CX_ROOT" "$CX_BUILD/bin/cx" "$CX_MODELS/ocr" "${1:-3}" <<'PY'
import json, os, subprocess, sys, time

root, cx, ocr, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
data = os.environ.get("CX_DATA_DIR", f"{root}/../shared/data") + "/models"
line = f"x={root}/examples/text_line.png"
suite = "/usr/share/libonnx-testdata/data"
recognise = ["run", f"{ocr}/ch_PP-OCRv4_rec_infer.onnx", "--config", "cx3210", "--precision", "fp16", "--task", "ocr-line", "--input", line]
direction = ["run", f"{ocr}/ch_ppocr_mobile_v2.0_cls_infer.onnx", "--config", "tiny", "--precision", "fp16", "--task", "ocr-direction", "--input", line]
digits = ["run", f"{data}/mnist/mnist.onnx", "--config", "tiny", "--reference", f"{data}/mnist/test_data_set_0"]
faces = ["run", f"{data}/ultraface/version-RFB-320.onnx", "--config", "cx3210", "--reference", f"{data}/ultraface/test_data_set_0"]
jobs = [
    ("text recognition, cx3210, FP16", recognise, "none"),
    ("text recognition, cx3210, FP16", recognise, "[0,1]"),
    ("direction classifier, tiny, FP16", direction, "none"),
    ("direction classifier, tiny, FP16", direction, "all"),
    ("mnist, tiny, FP32", digits, "none"),
    ("mnist, tiny, FP32", digits, "all"),
    ("ultraface, cx3210, FP32", faces, "none"),
    ("ultraface, cx3210, FP32", faces, "[0,1]"),
    ("conformance simple, tiny, FP32", ["conformance", f"{suite}/simple"], "none"),
    ("conformance node, tiny, FP32", ["conformance", f"{suite}/node"], "none"),
]
print("| job | RTL tiles | wall time | simulated cycles | cycles per wall second |\n|---|---|---:|---:|---:|")
for name, arguments, tiles in jobs:
    if not all(os.path.exists(a) for a in arguments if a.startswith("/")):
        print(f"| {name} | {tiles} | skipped: its data is absent | | |")
        continue
    best, cycles = None, None
    for _ in range(runs):
        begin = time.monotonic()
        done = subprocess.run([cx, *arguments, "--set", f"dmmu.rtl_tiles={tiles}", "--json"], capture_output=True, text=True)
        wall = time.monotonic() - begin
        if done.returncode not in (0, 1):
            sys.exit(f"{name}: exit {done.returncode}: {done.stderr}")
        cycles = json.loads(done.stdout).get("cycles")
        best = wall if best is None else min(best, wall)
    speed = f"{cycles / best:,.0f}" if cycles else ""
    print(f"| {name} | {tiles} | {best:.2f} s | {f'{cycles:,}' if cycles else ''} | {speed} |", flush=True)
PY

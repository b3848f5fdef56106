#!/usr/bin/env bash
# Prints the table of generated networks of docs/compiler.md: simulated latency on cx3210 against its lower bound, memory and
# wall time. Usage: scripts/measure_networks.sh [RUNS]   (default 3; the smallest wall time of the runs is printed)
source "$(dirname "$0")/lib.sh"
folder="$CX_ROOT/build/networks"
mkdir -p "$folder"
make() { # make FILE ARGUMENT...
  local file="$folder/$1"
  shift
  [ -s "$file" ] || /usr/bin/python3 "$CX_ROOT/examples/generators/networks.py" "$1" "$file" "${@:2}"
}
make resnet50.onnx resnet50
make encoder128.onnx encoder --tokens 128
make encoder384.onnx encoder --tokens 384
make decoder128.onnx decoder --tokens 128
exec /usr/bin/python3 - "$CX_BUILD/bin/cx" "$folder" "${1:-3}" <<'PY'
import json, subprocess, sys

cx, folder, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
jobs = [
    ("ResNet-50, 224 x 224", "resnet50", "fp16"),
    ("ResNet-50, 224 x 224", "resnet50", "int8"),
    ("encoder, 12 blocks, 128 tokens", "encoder128", "fp16"),
    ("encoder, 12 blocks, 384 tokens", "encoder384", "fp16"),
    ("decoder, 12 blocks, 128 tokens", "decoder128", "fp16"),
]
print("| network | precision | 10^9 MACs | MB that must move | MB moved | launch | bound | ratio | device memory, without reuse | compile | load and run | host memory |")
print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
for name, file, precision in jobs:
    best = None
    for _ in range(runs):
        done = subprocess.run([cx, "profile", f"{folder}/{file}.onnx", "--config", "cx3210", "--precision", precision, "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{name}: exit {done.returncode}: {done.stderr}")
        result = json.loads(done.stdout)
        best = result if best is None else {**result, **{k: min(result[k], best[k]) for k in ("compile_s", "run_s")}}
    mb = lambda key: f"{best[key] / 1e6:.1f}"
    print(f"| {name} | {precision} | {best['macs'] / 1e9:.2f} | {mb('bytes')} | {mb('memory_bytes')} | {best['launch_us']:.0f} us | {best['bound_us']:.0f} us "
          f"| {100 * best['bound_ratio']:.1f} % | {mb('peak_bytes')} MB, {mb('peak_bytes_no_reuse')} MB | {best['compile_s']:.2f} s | {best['run_s']:.2f} s | {best['host_peak_bytes'] / 1e6:.0f} MB |", flush=True)
PY

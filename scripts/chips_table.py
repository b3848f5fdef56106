#!/usr/bin/python3
"""The chips' table of README.md, from docs/chips.json.

  chips_table.py measure [CHIP...]   runs everything, or what names some chips, writes docs/chips.json and the table
  chips_table.py check                          peaks, areas and bandwidths of the cx of this build against docs/chips.json, the
                                                table in README.md against it; exit status 1 when one of them is stale

Latencies are those of cx run --timing-only, copies from and to the host included: of one picture or sequence, and of batches
of pictures one after the other, of which the table has the size with the most pictures a second; networks are made by
examples/generators/networks.py. CX is the cx to run (default build/release/bin/cx).
"""
import json
import os
import pathlib
import subprocess
import sys

import table_script

ROOT = pathlib.Path(__file__).resolve().parent.parent
CX = os.environ.get("CX", str(ROOT / "build/release/bin/cx"))
DATA = ROOT / "docs/chips.json"
NETWORKS = ROOT / "build/networks"
BEGIN, END = "<!-- chips_table.py: begin -->", "<!-- chips_table.py: end -->"

# The chips that ship, and in which precisions each runs the networks. Chips without floats run networks of integers; tiny,
# for tests, runs none.
CHIPS = {
    "cx3210": ["fp16", "int8"],
    "cx-trainer": ["bf16", "fp8_e4m3"],
    "x1": ["fp16", "fp8_e4m3"],
    "rca2": ["fp16", "int8"],
    "tiny": [],
    "tpu-v1": ["int8"],
    "gemmini": ["int8"],
}
FLOATS = {"FP32", "FP16", "BF16"}
BATCHES = [2, 4, 8, 16, 32]
NETWORK_ARGUMENTS = {
    "resnet50": ["resnet50"],
    "resnet50_int8": ["resnet50", "--int8"],
    "resnet50_batch": ["resnet50", "--batch", "N"],
    "encoder128": ["encoder", "--tokens", "128"],
}


def cx(*arguments):
    done = subprocess.run([CX, *arguments, "--json"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"cx {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def static_of(chip):
    """What needs no run: cx info and the resolved configuration."""
    info = cx("info", "--config", chip)
    config = json.loads(subprocess.run([CX, "config", "show", chip, "--json"], capture_output=True, text=True, cwd=ROOT,
                                       check=True).stdout)
    rounded = lambda estimate: {key: float(f"{value:.4g}") for key, value in estimate.items()}
    return {
        "clock_mhz": info["clock_khz"] / 1000,
        "tiles": info["tiles"],
        "tile": [info["tile_rows"], info["tile_cols"]],
        "dram_gbps": round(info["dram_mbps"] / 1000, 1),
        "node": config["energy"]["table"],
        "area_mm2": rounded(info["area_mm2"]["total"]),
        "peak": {name: {"tops": float(f"{peak['tops']:.4g}"), "tops_per_w": rounded(peak["tops_per_w"])}
                 for name, peak in info["peak"].items()},
    }


def network(name):
    path = NETWORKS / f"{name}.onnx"
    if not path.exists():
        NETWORKS.mkdir(parents=True, exist_ok=True)
        kind, *rest = NETWORK_ARGUMENTS[name]
        subprocess.run(["/usr/bin/python3", ROOT / "examples/generators/networks.py", kind, path, *rest], check=True)
    return str(path)


def ranges(name):
    """Of an 8-bit precision, measured once on cx3210."""
    path = NETWORKS / f"{name}.ranges.json"
    if not path.exists():
        cx("run", network(name), "--config", "cx3210", "--precision", "int8", "--seed", "1", "--save-ranges", str(path))
    return str(path)


def timed(chip, model, precision, *arguments):
    report = cx("run", network(model), "--config", chip, "--precision", precision, "--seed", "1", "--timing-only", *arguments)
    print(f"{chip} {model} {precision} {' '.join(arguments)}: {report['latency_us']:.1f} us, {report['wall_s']:.1f} s here",
          file=sys.stderr, flush=True)
    return {
        "latency_us": round(report["latency_us"], 2),
        "launch_us": round(report["launch_us"], 2),
        "mac_utilisation": round(report["mac_utilisation"], 4),
        "energy_uj": float(f"{report['energy_uj']['total']:.5g}"),
    }


def latencies(chip, static):
    floats = FLOATS & set(static["peak"])
    result = {"resnet50": {}, "encoder128": {}, "resnet50_batches": {}}
    for precision in CHIPS[chip]:
        quantised = floats and precision in ("int8", "fp8_e4m3")
        for kind in ("resnet50", "encoder128"):
            if not floats and kind != "resnet50":
                continue
            name = kind if floats else kind + "_int8"
            options = ["--ranges", ranges(name)] if quantised else []
            result[kind][precision] = timed(chip, name, precision, *options)
        if not floats:
            continue
        options = ["--ranges", ranges("resnet50")] if quantised else []
        result["resnet50_batches"][precision] = {
            str(batch): timed(chip, "resnet50_batch", precision, "--shape", f"image={batch},3,224,224", *options)
            for batch in BATCHES}
    return result


def table(data):
    def number(value):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    def peak(chip, *formats):
        found = [chip["peak"][name]["tops"] for name in formats if name in chip["peak"]]
        return number(max(found)) if found else "-"

    def best(chip):
        name, one = max(chip["peak"].items(), key=lambda item: item[1]["tops_per_w"]["value"])
        rate = one["tops_per_w"]
        return f"{rate['value']:.2f} ({rate['least']:.2f} to {rate['most']:.2f}), {name.replace('_', ' ')}"

    def runs(chip, kind):
        def time(us):
            return f"{us / 1000:.3g} ms" if us < 99950 else f"{us / 1000:,.0f} ms"
        return "<br>".join(f"{time(run['latency_us'])}, {name}" for name, run in chip["runs"][kind].items()) or "-"

    def batches(chip):
        def best_of(runs):
            size, run = max(runs.items(), key=lambda item: int(item[0]) / item[1]["latency_us"])
            return f"{1e6 * int(size) / run['latency_us']:,.0f} by {size}"
        found = chip["runs"]["resnet50_batches"]
        return "<br>".join(f"{best_of(runs)}, {name}" for name, runs in found.items()) or "-"

    lines = [
        "| chip | tiles, clock | FP32 | FP16, BF16 | FP8 | INT8 | TOPS/W (range) | die, mm2 (range) | DRAM, GB/s | ResNet-50 | pictures/s, batch | encoder, 128 tokens |",
        "|---|---|---:|---:|---:|---:|---|---|---:|---|---|---|",
    ]
    for name, chip in data["chips"].items():
        area = chip["area_mm2"]
        lines.append(
            f"| [{name}](configs/chips/{name}.yaml) | {chip['tiles']} of {chip['tile'][0]} x {chip['tile'][1]}, {number(chip['clock_mhz'])} MHz, {chip['node']} "
            f"| {peak(chip, 'FP32')} | {peak(chip, 'FP16', 'BF16')} | {peak(chip, 'FP8_E4M3')} | {peak(chip, 'INT8')} | {best(chip)} "
            f"| {number(area['value'])} ({number(area['least'])} to {number(area['most'])}) | {number(chip['dram_gbps'])} "
            f"| {runs(chip, 'resnet50')} | {batches(chip)} | {runs(chip, 'encoder128')} |")
    return "\n".join(lines)


def readme_with(text, data):
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:begin] + "\n" + table(data) + "\n" + text[end:]


def measure(chips):
    data = json.loads(DATA.read_text()) if DATA.exists() else {"chips": {}}
    for chip in chips or CHIPS:
        static = static_of(chip)
        data["chips"][chip] = {**static, "runs": latencies(chip, static)}
        data["chips"] = {name: data["chips"][name] for name in CHIPS if name in data["chips"]}
        DATA.write_text(json.dumps(data, indent=1) + "\n")
    readme = ROOT / "README.md"
    readme.write_text(readme_with(readme.read_text(), data))


def stale_lines():
    data = json.loads(DATA.read_text())
    stale = [f"{name}: not in docs/chips.json" for name in CHIPS if name not in data["chips"]]
    shipped = {path.stem for path in (ROOT / "configs/chips").glob("*.yaml")}
    stale += [f"{name}: not a chip of scripts/chips_table.py" for name in sorted(shipped - set(CHIPS))]
    for name, stored in data["chips"].items():
        for key, value in static_of(name).items():
            if stored[key] != value:
                stale.append(f"{name}.{key}: {value}, docs/chips.json has {stored[key]}")
    text = (ROOT / "README.md").read_text()
    if readme_with(text, data) != text:
        stale.append("README.md: its table is not that of docs/chips.json")
    return stale


if __name__ == "__main__":
    table_script.run(__doc__, "chips_table.py", CHIPS, measure, stale_lines)

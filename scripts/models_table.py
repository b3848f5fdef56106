"""Prints the Markdown table of models; scripts/models_table.sh calls it. Arguments: cx, folder of OCR models, onnxruntime-node or ''."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

cx, ocr, ort = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
data = pathlib.Path(os.environ.get("CX_DATA_DIR", pathlib.Path(__file__).resolve().parent.parent / "../shared/data"))


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True)


def ok(result):
    return "pass" if result.returncode == 0 else "FAIL"


def bytes_text(count):
    return f"{count / 2**20:.2f}"


def check(model, sets, fp32, fp16):
    verdicts = {"FP32": "pass", "FP16": "pass" if fp16 != "-" else "-"}
    for folder in sets:
        command = [cx, "run", str(model), "--reference", str(folder)]
        if run(*command, "--rtol", "1e-3", "--tol-largest", fp32).returncode != 0:
            verdicts["FP32"] = "FAIL"
        if fp16 != "-":
            how = ["--check", "top1"] if fp16 == "top1" else ["--rtol", "0", "--tol-largest", fp16]
            if run(*command, "--precision", "fp16", *how).returncode != 0:
                verdicts["FP16"] = "FAIL"
    return f"{verdicts['FP32']} / {verdicts['FP16']}"


def ort_ms(model, inputs):
    if not ort:
        return None
    result = run("node", "scripts/onnxruntime_time.js", ort, str(model), *map(str, inputs))
    return float(result.stdout) if result.returncode == 0 and result.stdout.strip() else None


def row(name, model, reference, verdict):
    result = run(cx, "profile", str(model), "--json", "--precision", "fp16", "--reference", str(reference))
    if result.returncode not in (0, 1) or not result.stdout.startswith("{"):
        reason = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "failed"
        print(f"| {name} | " + " | ".join(["-"] * 11) + f" | {reason[:120]} |", flush=True)
        return
    p = json.loads(result.stdout)
    inputs = sorted(pathlib.Path(reference).glob("input_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
    ms = ort_ms(model, inputs)
    ratio = f"{1000 * p['run_s'] / ms:.1f}" if ms else "-"
    print(
        f"| {name} | {p['macs'] / 1e6:.1f} | {bytes_text(p['bytes'])} | {p['latency_us']:.1f} | {p['launch_us']:.1f} | {p['bound_us']:.1f} "
        f"| {100 * p['bound_ratio']:.0f} % | {bytes_text(p['peak_bytes'])} / {bytes_text(p['peak_bytes_no_reuse'])} "
        f"| {p['compile_s']:.2f} | {p['wall_s']:.2f} | {f'{ms:.2f}' if ms else '-'} | {ratio} | {verdict} |",
        flush=True,
    )


print(
    "| model | MMAC | MiB to move | latency, µs | launch, µs | bound, µs | bound / launch | peak MiB, with / without reuse | compile, s | wall, s "
    "| ONNX Runtime, ms | run / ONNX Runtime | check FP32 / FP16 |"
)
print("|---|" + "---:|" * 11 + "---|")
with open("tb/driver/tools/reference_models.txt") as listing:
    for line in listing:
        if line.startswith("#") or not line.strip():
            continue
        path, count, fp32, fp16 = line.split()
        model = data / "models" / path
        if not model.exists():
            continue
        sets = [model.parent / f"test_data_set_{n}" for n in range(int(count))]
        row(path.removesuffix("/model.onnx").removesuffix(".onnx"), model, sets[0], check(model, sets, fp32, fp16))

recogniser, direction = ocr / "ch_PP-OCRv4_rec_infer.onnx", ocr / "ch_ppocr_mobile_v2.0_cls_infer.onnx"
for name, model, reference in (
    ("PP-OCRv4 recognition", recogniser, "examples/text_line_reference"),
    ("PP-OCR direction", direction, "examples/direction_reference"),
):
    if model.exists():
        row(name, model, reference, check(model, [reference], "1e-6", "top1"))
detector = ocr / "ch_PP-OCRv4_det_infer.onnx"
if detector.exists():
    with tempfile.TemporaryDirectory() as folder:
        expected = open("examples/page.txt").read().split("\n")[:-1]
        verdicts = []
        for precision in ("fp32", "fp16"):
            page = run(cx, "ocr", "examples/page.png", "--json", "--precision", precision, "--models", str(ocr), "--save-map", folder)
            same = page.returncode == 0 and [entry["text"] for entry in json.loads(page.stdout)["lines"]] == expected
            verdicts.append("page read" if same else "FAIL")
        row("PP-OCRv4 detection, 960 x 736", detector, folder, " / ".join(verdicts))

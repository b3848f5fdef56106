"""Mutation test of the tiles: puts one defect of defects.yaml at a time into a copy of rtl/ and shows that the suite
finds it. Started by scripts/mutate.sh, which builds the tests of the sound RTL first.

A mutant is Verilated and linked by the commands of that build, with other sources and without optimisation of the
host code; lint warnings do not stop it. The detectors run in order until one finds the defect."""

import argparse
import collections
import concurrent.futures
import filecmp
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time

import yaml

# What looks for defects: name, executable, arguments, and the Verilated models that it runs.
Detector = collections.namedtuple("Detector", "name executable arguments models")


def random_comparison(shape, model):
    arguments = ["--shape", shape, "--seed", "1", "--tiles", "8000", "--jobs", "1"]
    return Detector(f"random {shape}", "bin/cx_tile_soak", arguments, [model])


SPARSE = ["Vcx_sca_8x8x32x256_w32_q4", "Vcx_sca_5x11x6x40_w8_q3"]
DETECTORS = [
    random_comparison("8x8x64/pack=2/stages=2", "Vcx_tile_8x8x64_p2_s2_f63"),
    random_comparison("8x8x256", "Vcx_tile_8x8x256_p1_s1_f63"),
    random_comparison("8x8x64/pack=4/stages=3", "Vcx_tile_8x8x64_p4_s3_f63"),
    Detector("rtl_tile_test", "bin/tests/rtl_tile_test", [],
             ["Vcx_tile_8x8x64_p2_s2_f63", "Vcx_tile_8x8x256_p1_s1_f63", "Vcx_tile_8x8x64_p4_s3_f63"]),
    Detector("rtl_post_test", "bin/tests/rtl_post_test", [], ["Vpost_bench"]),
    Detector("rtl_pe_test", "bin/tests/rtl_pe_test", [], ["Vpe_bench_p1", "Vpe_bench_p2", "Vpe_bench_p4"]),
    Detector("random sparse", "bin/cx_sca_soak", ["--operations", "8000", "--seed", "1", "--jobs", "1"], SPARSE),
    Detector("rtl_sca_test", "bin/tests/rtl_sca_test", [], SPARSE),
]
TIMEOUT = 240  # seconds of one detector; a sound tile takes less than 15 on a quiet machine


class Broken(Exception):
    """The mutation test itself cannot go on."""


def load_defects(path, rtl):
    defects = yaml.safe_load(path.read_text())
    problems = []
    names = collections.Counter(d["name"] for d in defects)
    problems += [f"{name}: {count} defects of this name" for name, count in names.items() if count > 1]
    for defect in defects:
        count = (rtl / defect["file"]).read_text().count(defect["original"])
        if count != 1:
            problems.append(f"{defect['name']}: its original text occurs {count} times in rtl/{defect['file']}")
        if defect["original"] == defect["replacement"]:
            problems.append(f"{defect['name']}: changes nothing")
    if problems:
        raise Broken("stale defects:\n       " + "\n       ".join(problems))
    return defects


class Build:
    """The build of the sound RTL, and how its models and executables are made."""

    def __init__(self, root, folder, detectors):
        self.folder = folder
        self.rtl = root / "rtl"
        self.benches = root / "tb" / "rtl"
        self.detectors = detectors
        targets = sorted({d.executable for d in detectors})
        lines = subprocess.run(["ninja", "-t", "commands", *targets], cwd=folder, check=True, capture_output=True,
                               text=True).stdout.splitlines()
        self.model_commands, self.links = {}, {}
        for line in lines:
            if match := re.search(r"--prefix (\S+)", line):
                self.model_commands[match[1]] = line
            for target in targets:
                if f" -o {target} " in line:
                    self.links[target] = line
        missing = [m for d in detectors for m in d.models if m not in self.model_commands]
        missing += [t for t in targets if t not in self.links]
        if missing:
            raise Broken("no build command for " + ", ".join(missing))
        self.model_folders = {model: re.search(r"--Mdir (\S+)", line)[1] for model, line in self.model_commands.items()}

    def uses(self, model, file):
        return f" rtl/{file} " in self.model_commands[model] + " "


class Mutant:
    def __init__(self, build, work, defect):
        self.build, self.work, self.defect = build, work, defect
        self.made = set()
        shutil.rmtree(work, ignore_errors=True)
        # Every mutant has the same relative paths: ccache compiles what the defect does not touch only once.
        for folder in ("tile", "sca"):
            shutil.copytree(build.rtl / folder, work / "rtl" / folder)
        (work / "tb" / "rtl").mkdir(parents=True)
        for bench in build.benches.glob("*.sv"):
            shutil.copy(bench, work / "tb" / "rtl")
        if defect:
            source = work / "rtl" / defect["file"]
            source.write_text(source.read_text().replace(defect["original"], defect["replacement"]))

    def shell(self, command, cwd, what):
        done = subprocess.run(command, shell=True, cwd=cwd, capture_output=True, text=True)
        if done.returncode:
            name = self.defect["name"] if self.defect else "sound RTL"
            raise Broken(f"{name}: {what} failed:\n{(done.stderr + done.stdout)[-3000:]}")

    def make_model(self, model):
        if model in self.made:
            return
        folder = self.build.model_folders[model]
        verilate, make = self.build.model_commands[model].split(" && ")[1:]
        verilate = verilate.replace(f"--Mdir {folder}", f"-Wno-fatal --Mdir {model}")
        make = make.replace(folder, model).replace("OPT_FAST=-O3", "OPT_FAST=-O1").replace(" -j2 ", " -j1 ")
        self.shell(verilate, self.work, "Verilator")
        # The objects of the sound build that include this header are linked again.
        if not filecmp.cmp(self.work / model / f"{model}.h", f"{folder}/{model}.h", shallow=False):
            raise Broken(f"{self.defect['name']}: changes the interface of {model}")
        self.shell(make, self.work, "the compiler")
        self.made.add(model)

    def run(self, detector):
        """None if nothing was found, else what was found."""
        for model in detector.models:
            self.make_model(model)
        program = self.work / pathlib.Path(detector.executable).name
        link = self.build.links[detector.executable].replace(f" -o {detector.executable} ", f" -o {shlex.quote(str(program))} ")
        for model in detector.models:
            archive = f"{model}/{model}__ALL.a"
            link, count = re.subn(rf"\S*\b{re.escape(archive)}", str(self.work / archive), link)
            if count == 0:
                raise Broken(f"{detector.executable} does not link {archive}")
        self.shell(link, self.build.folder, "the linker")
        try:
            done = subprocess.run([program, *detector.arguments], cwd=self.work, capture_output=True, text=True,
                                  timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"no end after {TIMEOUT} s"
        if done.returncode == 0:
            return None
        return self.finding(done, detector)

    @staticmethod
    def finding(done, detector):
        output = done.stdout + done.stderr
        if match := re.search(r"Assertion failed in \S*?(\w+_A)\b", output):  # Verilator then stops the process or throws
            return f"assertion {match[1]}"
        if match := re.search(r"what\(\):\s*(.*)", output):
            return f"exception: {match[1][:60]}"
        if match := re.search(r"bit differences (\d+), cycle differences (\d+), counter differences (\d+)", output):
            counts = zip(match.groups(), ("bit", "cycle", "counter"))
            return ", ".join(f"{count} {kind}" for count, kind in counts if count != "0") + " differences"
        if match := re.search(r"test cases:.*?(\d+) failed", output):
            return f"{match[1]} test cases fail"
        if done.returncode < 0:
            return f"signal {-done.returncode}"
        raise Broken(f"{detector.name} ended with status {done.returncode}:\n{output[-3000:]}")


def check_sound(build, work):
    mutant = Mutant(build, work / "sound", None)
    begin = time.monotonic()
    for detector in build.detectors:
        found = mutant.run(detector)
        if found:
            raise Broken(f"the sound RTL does not pass {detector.name}: {found}")
    print(f"    sound RTL passes all {len(build.detectors)} detectors ({time.monotonic() - begin:.0f} s)", flush=True)


def try_defect(build, work, defect):
    begin = time.monotonic()
    folder = work / defect["name"]
    mutant = Mutant(build, folder, defect)
    result = None
    for detector in sorted(build.detectors, key=lambda d: d.name != defect.get("visible_in")):
        if not any(build.uses(model, defect["file"]) for model in detector.models):
            continue
        found = mutant.run(detector)
        if found:
            result = (detector.name, found)
            break
    shutil.rmtree(folder)
    return result, time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(prog="scripts/mutate.sh", description="Shows that the tiles' tests find deliberate defects of the RTL.")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this defect; may be given again")
    parser.add_argument("--sparse", action="store_true", help="defects of rtl/sca instead of rtl/tile")
    parser.add_argument("--jobs", type=int, default=2, help="defects at a time")
    parser.add_argument("--list", action="store_true", help="print the defects and end")
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    args = parser.parse_args()

    defects = load_defects(pathlib.Path(__file__).parent / "defects.yaml", args.root / "rtl")
    defects = [d for d in defects if d["file"].startswith("sca/") == args.sparse]
    detectors = [d for d in DETECTORS if (d.models == SPARSE) == args.sparse]
    if args.only:
        unknown = set(args.only) - {d["name"] for d in defects}
        if unknown:
            raise Broken("no defect of this name: " + ", ".join(sorted(unknown)))
        defects = [d for d in defects if d["name"] in args.only]
    if args.list:
        for d in defects:
            print(f"{d['name']:<34}{d['class']:<14}{d['file']}")
        return 0

    build = Build(args.root, args.build, detectors)
    work = args.build / "mutants"
    begin = time.monotonic()
    check_sound(build, work)

    results, lock = {}, threading.Lock()

    def one(defect):
        result, seconds = try_defect(build, work, defect)
        with lock:
            results[defect["name"]] = result
            text = f"{result[0]}: {result[1]}" if result else "SURVIVES"
            print(f"    [{len(results):>3}/{len(defects)}] {defect['name']:<34}{text}  ({seconds:.0f} s)", flush=True)

    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    futures = [pool.submit(one, defect) for defect in defects]
    try:
        for future in concurrent.futures.as_completed(futures):
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)

    print("\n    defects by class:")
    for kind in sorted({d["class"] for d in defects}):
        members = [d["name"] for d in defects if d["class"] == kind]
        print(f"      {kind:<14}{sum(results[n] is not None for n in members):>3} of {len(members)}")
    print("    found by:")
    for detector in detectors:
        count = sum(result is not None and result[0] == detector.name for result in results.values())
        print(f"      {detector.name:<32}{count:>3}")
    found = sum(result is not None for result in results.values())
    for name, result in results.items():
        if result is None:
            print(f"    survives: {name}")
    print(f"\n{found} of {len(defects)} defects found ({time.monotonic() - begin:.0f} s)")
    return 0 if found == len(defects) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        sys.exit(f"\nerror: {broken}")

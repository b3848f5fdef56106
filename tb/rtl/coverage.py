"""Line and toggle coverage of rtl by module, from what verilator_coverage merged. Started by
scripts/coverage.sh --rtl.

Verilator 5.006 counts nothing in the functions of packages but for the first one, so that packages are left out: their
arithmetic is checked by vectors and deliberate defects (docs/verification.md).

A point counts once however many instances, shapes and benches have it: it is covered if any of them covers it. Line
points are what Verilator counts: blocks and branches. A toggle point is a bit of a signal, covered when it rose and fell."""

import argparse
import collections
import pathlib
import sys

FIELDS = {"f": "file", "l": "line", "n": "column", "o": "comment", "page": "page"}


def points(merged):
    """Count of each (file, kind, line, column, comment) of rtl."""
    counts = collections.Counter()
    with open(merged, encoding="latin-1") as lines:
        for text in lines:
            if not text.startswith("C '"):
                continue
            key, count = text[3:].rsplit("' ", 1)
            fields = {}
            for item in key.split("\x01")[1:]:
                name, value = item.split("\x02", 1)
                fields[name] = value
            path = pathlib.PurePath(fields["f"])
            if path.parent.name not in ("tile", "sca") or path.stem.endswith("_pkg"):
                continue
            kind = fields["page"].split("/")[0]
            kind = "toggle" if kind == "v_toggle" else "line"
            # The same line seen as part of a branch and as a block is two points.
            counts[path.name, kind, int(fields["l"]), fields["n"], fields["o"]] += int(count)
    return counts


def main():
    parser = argparse.ArgumentParser(prog="scripts/coverage.sh --rtl")
    parser.add_argument("merged", type=pathlib.Path)
    parser.add_argument("--at-least", type=float, default=95.0, help="per cent of line points, else status 1")
    args = parser.parse_args()
    counts = points(args.merged)
    if not counts:
        sys.exit("error: nothing was counted")
    hit, total = collections.Counter(), collections.Counter()
    for (file, kind, *_), count in counts.items():
        for name in (file, "total"):
            total[name, kind] += 1
            hit[name, kind] += count > 0
    print(f"    {'':<24}{'lines':>18}{'':>9}{'toggles':>20}")
    for name in [*sorted({file for file, *_ in counts}), "total"]:
        row = f"    {name:<24}"
        for kind, width in (("line", 18), ("toggle", 20)):
            have, of = hit[name, kind], total[name, kind]
            share = f"{100 * have / of:.1f} %" if of else "-"
            row += f"{f'{have} of {of}' if of else '-':>{width}}{share:>9}"
        print(row)
    missed = sorted((file, line, comment) for (file, kind, line, _, comment), count in counts.items()
                    if kind == "line" and count == 0)
    if missed:
        print("\n    line points that no test reached:")
        for file, line, comment in missed:
            print(f"      {file}:{line}  {comment}")
    lines = 100 * hit["total", "line"] / total["total", "line"]
    if lines < args.at_least:
        sys.exit(f"error: {lines:.1f} % of lines is below {args.at_least} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())

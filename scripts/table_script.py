"""What scripts have in common that measure tables of documents: their command line."""
import sys


def run(document, script, names, measure, stale_lines):
    """`measure [NAME...]` calls measure(names given), `check` prints stale_lines() and exits with 1 if there are any."""
    if sys.argv[1:2] == ["measure"] and set(sys.argv[2:]) <= set(names):
        measure(sys.argv[2:])
    elif sys.argv[1:] == ["check"]:
        stale = stale_lines()
        for line in stale:
            print(f"{line}; run scripts/{script} measure")
        sys.exit(1 if stale else 0)
    else:
        print(document)
        sys.exit(2)

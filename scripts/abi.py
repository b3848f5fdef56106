#!/usr/bin/env python3
"""The interface that others hold on to: driver/include/cx/cx.h against what libcx.so exports and what was promised.

    scripts/abi.py            checks; exits with 1 and says what to do when something differs
    scripts/abi.py --update   accepts additions: rewrites driver/library/libcx.map and tb/driver/library/abi.txt
    scripts/abi.py --break    accepts also what breaks programs; only together with a new CX_ABI_VERSION

Checked: each function has a comment of its own; the header compiles as C99, C11, C++17 and C++20 without a warning; functions declared,
exported and listed are the same; sizes of structs, offsets of members and values of enumerators are those of the list."""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = ROOT / "driver/include/cx/cx.h"
MAP = ROOT / "driver/library/libcx.map"
LIST = ROOT / "tb/driver/library/abi.txt"
UPDATE = "scripts/abi.py --update"
# libsystemc.so refers to it; weak in libcx.so, so that a program may have its own.
SUPPORT = {"sc_main": "CX_SUPPORT"}
MAP_HEAD = """# What libcx.so exports. Written by scripts/abi.py --update from cx.h: a function stays in the node of the CX_API_VERSION
# that brought it.
"""
LIST_HEAD = """# What programs rely on (x86-64). Written by scripts/abi.py --update. function: name, node of libcx.map; struct: name, bytes;
# member: name, offset, bytes; value: name, value; macro: name, value.
"""


def without_comments(text):
    return re.sub(r"/\*.*?\*/", lambda found: "\n" * found.group().count("\n"), text, flags=re.S)


def declared_functions(text):
    """{name: line} of the declarations at the start of a line."""
    found = {}
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        declaration = re.match(r"(?!typedef|#|extern)[a-z].*?\b(cx_\w+)\(", line)
        if declaration:
            found[declaration.group(1)] = number
    return found


def undocumented(text, functions):
    lines = text.split("\n")
    return [name for name, number in functions.items() if not lines[number - 2].rstrip().endswith("*/")]


def member_names(body):
    names = []
    for declaration in filter(str.strip, body.split(";")):
        pointer = re.search(r"\(\s*\*\s*(\w+)\s*\)", declaration)
        if pointer:
            names.append(pointer.group(1))
            continue
        names += [re.search(r"(\w+)\s*(\[.*\])?\s*$", part).group(1) for part in declaration.split(",")]
    return names


def layout_program(text):
    """A C program that prints the lines of the list about structs, enumerators and macros."""
    plain = without_comments(text)
    body = []
    for name, members in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", plain, re.S):
        body.append(f'printf("struct %s %zu\\n", "{name}", sizeof({name}));')
        for member in member_names(members):
            body.append(f'printf("member %s.%s %zu %zu\\n", "{name}", "{member}", offsetof({name}, {member}),'
                        f' sizeof((({name} *)0)->{member}));')
    for name, values in re.findall(r"(?:typedef )?enum(?: (\w+))? \{(.*?)\}", plain, re.S):
        for value in re.findall(r"\b(CX_\w+)\b\s*(?:=[^,]*)?(?:,|\s*$)", values):
            body.append(f'printf("value %s %lld\\n", "{value}", (long long){value});')
    for macro in re.findall(r"^#define (CX_\w+) \S", plain, re.M):
        body.append(f'printf("macro %s %lld\\n", "{macro}", (long long)({macro}));')
    return '#include <stdio.h>\n#include "cx/cx.h"\nint main(void) {\n' + "\n".join(body) + "\nreturn 0;\n}\n"


def run(command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def layout(text, compiler):
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder, "layout.c"), pathlib.Path(folder, "layout")
        source.write_text(layout_program(text))
        made = run([compiler, "-std=c99", "-I", HEADER.parent.parent, source, "-o", program])
        if made.returncode:
            sys.exit(f"the layout program does not compile:\n{made.stdout}")
        return run([program]).stdout.splitlines()


def language_errors(compiler):
    errors = []
    for language, standard in (("c", "c99"), ("c", "c11"), ("c++", "c++17"), ("c++", "c++20")):
        result = run([compiler, "-x", language, f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror",
                      "-fsyntax-only", "-I", HEADER.parent.parent, "-"], input="#include <cx/cx.h>\n")
        if result.returncode:
            errors.append(f"cx.h does not compile as {standard}:\n{result.stdout}")
    return errors


def exported(library):
    """{name: node} of all that a shared library defines for others."""
    result = run(["nm", "-D", "--defined-only", "--with-symbol-versions", library])
    if result.returncode:
        sys.exit(f"{library}: {result.stdout.strip()}\nBuild it first: cmake --build build/release --target cx_shared")
    found = {}
    for line in result.stdout.splitlines():
        kind, name = line.split()[1:3]
        if kind != "A":  # the nodes themselves
            symbol, _, node = name.partition("@")
            found[symbol] = node.lstrip("@")
    return found


def read_map():
    """{function: node}"""
    nodes = {}
    for node, body in re.findall(r"^(CX_\w+) \{(.*?)\}", MAP.read_text(), re.M | re.S):
        for name in re.findall(r"^\s*(\w+);", body, re.M):
            nodes[name] = node
    return nodes


def map_text(nodes):
    text, parent = MAP_HEAD, ""
    order = sorted({node for node in nodes.values()}, key=lambda node: int(node.split("_")[1]))
    for node in order:
        names = "".join(f"    {name};\n" for name in sorted(nodes) if nodes[name] == node)
        text += f"{node} {{\n  global:\n{names}}}{parent};\n"
        parent = " " + node
    support = "".join(f"    {name};\n" for name in SUPPORT)
    return text + f"# libsystemc.so needs it and finds it here.\nCX_SUPPORT {{\n  global:\n{support}  local:\n    *;\n}};\n"


def key_of(line):
    return " ".join(line.split()[:2])


def breaks(old, new):
    """What programs built against the old list would notice: lines gone or changed, but for structs that grew."""
    now = {key_of(line): line for line in new}
    found = []
    for line in old:
        other = now.get(key_of(line))
        if line == other or line.startswith("macro "):
            continue
        grew = line.startswith("struct ") and other and int(other.split()[2]) > int(line.split()[2])
        if not grew:
            found.append(f"{line}  ->  {other or 'gone'}")
    return found


def struct_rules(text):
    """Structs that may grow must begin with struct_size; the others never change."""
    plain = without_comments(text)
    return {name for name, members in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", plain, re.S)
            if member_names(members)[0] != "struct_size"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="accept additions")
    parser.add_argument("--break", dest="broken", action="store_true", help="accept everything")
    parser.add_argument("--library", default=ROOT / "build/release/lib/libcx.so", type=pathlib.Path)
    parser.add_argument("--cc", default="gcc")
    arguments = parser.parse_args()

    text = HEADER.read_text()
    functions = declared_functions(text)
    api = re.search(r"^#define CX_API_VERSION (\d+)u", text, re.M).group(1)
    old_nodes = read_map()
    nodes = {name: old_nodes.get(name, f"CX_{api}") for name in functions}
    new = [f"function {name} {nodes[name]}" for name in sorted(nodes)] + layout(text, arguments.cc)
    old = [line for line in LIST.read_text().splitlines() if not line.startswith("#")] if LIST.exists() else []

    errors = [f"{name}: no comment before the declaration in cx.h" for name in undocumented(text, functions)]
    errors += language_errors(arguments.cc)
    grown = {key_of(line) for line in new} & {f"struct {name}" for name in struct_rules(text)}
    broken = breaks(old, new) + [f"{line}: has no struct_size and may not grow" for line in old
                                 if key_of(line) in grown and line not in new]
    if broken and not arguments.broken:
        errors.append("programs that were built before would break:\n  " + "\n  ".join(broken) +
                      "\n  Keep what is there, or raise CX_ABI_VERSION and run scripts/abi.py --break.")
    elif arguments.update or arguments.broken:
        MAP.write_text(map_text(nodes))
        LIST.write_text(LIST_HEAD + "\n".join(new) + "\n")
        print(f"{MAP.relative_to(ROOT)}, {LIST.relative_to(ROOT)}: {len(functions)} functions; build cx_shared again")
    else:
        added = [line for line in new if line not in old and not line.startswith("macro ")]
        if added:
            errors.append("not in the list yet:\n  " + "\n  ".join(added) + f"\n  If that is meant: {UPDATE}")
        wanted = {**nodes, **SUPPORT}
        have = exported(arguments.library)
        lost = [name for name in wanted if name not in have and name in {**old_nodes, **SUPPORT}]
        extra = [name for name in have if name not in wanted]
        moved = [name for name in wanted if name in have and have[name] != wanted[name]]
        if lost:
            errors.append(f"declared in cx.h but not exported: {', '.join(lost)}\n  Implement them in cx_runtime or cx_session"
                          f" and run {UPDATE}, or take them out of cx.h.")
        if extra:
            errors.append(f"exported but not declared in cx.h: {', '.join(extra)}\n  libcx.map must not name them: {UPDATE}")
        if moved:
            errors.append(f"exported in another node than listed: {', '.join(moved)}\n  {UPDATE}, then build cx_shared again")
    for error in errors:
        print(f"abi: {error}", file=sys.stderr)
    if not errors and not (arguments.update or arguments.broken):
        print(f"{len(functions)} functions, {sum(line.startswith('struct') for line in new)} structs as promised")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

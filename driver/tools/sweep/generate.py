#!/usr/bin/python3
"""Generates the table of a sweep's keys and their documentation from driver/tools/sweep/schema.yaml.

usage: generate.py [--check]

With --check nothing is written and the exit status is 1 when a committed file is stale.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../hw/regs"))
from description import (KEY_TABLE_HEAD, allowed_arrays, banner, bounds_text, cell, check_key, check_keys, cstring, fail,
                         key_row, read, run, text, value_text)

SCRIPT = "driver/tools/sweep/generate.py"
SOURCE = "driver/tools/sweep/schema.yaml"
TYPES = ("string", "int", "float", "bool", "enum", "settings", "choices", "rows", "texts")
DOC_TYPES = {"settings": "mapping", "choices": "mapping", "rows": "list of mappings", "texts": "list"}
OPTIONAL = ("unit", "min", "max", "allowed", "default", "required", "expected")


def load(description):
    check_keys(SOURCE, description, ("keys", "metrics"))
    keys = []
    for key, entry in description["keys"].items():
        at = f"{SOURCE}: {key}"
        check_keys(at, entry, ("type", "doc"), OPTIONAL)
        check_key(at, key, depth=2)
        if entry["type"] not in TYPES:
            fail(at, f"type '{entry['type']}' is not one of {', '.join(TYPES)}")
        if entry["type"] in ("int", "float") and not ("min" in entry and "max" in entry):
            fail(at, "numbers need min and max")
        if entry["type"] == "enum" and "allowed" not in entry:
            fail(at, "an enum needs allowed")
        if entry["type"] not in ("int", "float", "enum", "bool") and "expected" not in entry:
            fail(at, "needs expected")
        keys.append(dict(entry, key=key, doc=text(entry["doc"]), expected=entry.get("expected") or bounds_text(entry)))
    metrics = [(name, text(doc)) for name, doc in description["metrics"].items()]
    return keys, metrics


def schema_hpp(keys, metrics):
    out = [banner(SCRIPT, SOURCE) + "// clang-format off", "// Description of every key of a sweep, and of the metrics of its points.",
           "#pragma once", "", "#include <array>", "#include <cstdint>", "#include <span>", "",
           "namespace cx::tools {", "",
           "enum class SweepType : uint8_t { " + ", ".join(f"{t}_" for t in TYPES) + " };", "",
           "struct SweepKey {", "  const char *key;", "  SweepType type;", "  double min, max;  // numbers only",
           "  std::span<const char *const> allowed;  // enumerations only", "  bool required;",
           "  const char *default_text;  // empty: none", "  const char *expected;  // for messages", "  const char *doc;",
           "};", "", "struct SweepMetric {", "  const char *name;", "  const char *doc;", "};", "",
           "namespace sweep_detail {"]
    out += allowed_arrays(keys)
    out += ["}  // namespace sweep_detail", "", f"inline constexpr std::array<SweepKey, {len(keys)}> kSweepKeys{{{{"]
    for index, entry in enumerate(keys):
        allowed = f"sweep_detail::allowed_{index}" if "allowed" in entry else "{}"
        out.append(f"    {{\"{entry['key']}\", SweepType::{entry['type']}_, {entry.get('min', 0)}, {entry.get('max', 0)}, "
                   f"{allowed}, {str(entry.get('required', False)).lower()}, {cstring(value_text(entry.get('default', '')))}, "
                   f"{cstring(entry['expected'])}, {cstring(entry['doc'])}}},")
    out += ["}};", "", f"inline constexpr std::array<SweepMetric, {len(metrics)}> kSweepMetrics{{{{"]
    out += [f"    {{\"{name}\", {cstring(doc)}}}," for name, doc in metrics]
    out += ["}};", "", "}  // namespace cx::tools"]
    return "\n".join(out) + "\n"


def sweep_md(keys, metrics):
    out = ["# Sweep files", "",
           "What `cx sweep` reads; how it is used: [driver/tools/sweep/README.md](../../driver/tools/sweep/README.md). Keys "
           "with a dot are mappings inside mappings.", "",
           *KEY_TABLE_HEAD]
    for entry in keys:
        default = "required" if entry.get("required") else value_text(entry.get("default", ""))
        out.append(key_row(entry, DOC_TYPES.get(entry["type"], entry["type"]), cell(entry["expected"]), default, entry["doc"]))
    out += ["", "## Metrics of a point", "", "| metric | meaning |", "|---|---|"]
    out += [f"| {name} | {cell(doc)} |" for name, doc in metrics]
    return "\n".join(out) + "\n"


def generate():
    keys, metrics = load(read(SOURCE))
    return {"driver/tools/sweep/gen/schema.hpp": schema_hpp(keys, metrics),
            "docs/reference/sweep.md": sweep_md(keys, metrics)}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, generate))

#!/usr/bin/python3
"""Generates the resolved struct, the key table and the documentation of clusters from hw/cluster/schema.yaml.

usage: generate.py [--check]

With --check nothing is written and the exit status is 1 when a committed file is stale.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../regs"))
from description import (KEY_TABLE_HEAD, allowed_arrays, banner, bounds_text, camel, cell, check_key, check_keys, cstring, fail,
                         key_row, read, run, text, value_text)

SCRIPT = "hw/cluster/generate.py"
SOURCE = "hw/cluster/schema.yaml"
KINDS = {"int": "uint32_t", "float": "double", "bool": "bool", "string": "std::string", "enum": "std::string",
         "ints": "std::vector<uint32_t>"}
DOC_TYPES = {"ints": "list of int"}
OPTIONAL = ("unit", "min", "max", "allowed", "default")


def load(description):
    check_keys(SOURCE, description, ("keys",))
    keys = []
    for key, entry in description["keys"].items():
        at = f"{SOURCE}: {key}"
        check_keys(at, entry, ("type", "doc"), OPTIONAL)
        check_key(at, key, depth=2)
        if entry["type"] not in KINDS:
            fail(at, f"type '{entry['type']}' is not one of {', '.join(KINDS)}")
        if entry["type"] in ("int", "float", "ints"):
            if "min" not in entry or "max" not in entry:
                fail(at, "numbers need min and max")
            if entry["type"] != "ints" and not entry["min"] <= entry.get("default", entry["min"]) <= entry["max"]:
                fail(at, "the default is out of range")
        if entry["type"] == "enum" and entry.get("default", entry["allowed"][0]) not in entry["allowed"]:
            fail(at, "the default is not allowed")
        keys.append(dict(entry, key=key, doc=text(entry["doc"])))
    return keys


def expected(entry):
    if entry["type"] == "string":
        return "a text that is not empty"
    if entry["type"] == "ints":
        return f"a list of whole numbers from {entry['min']} to {entry['max']}"
    return bounds_text(entry)


def initial(entry):
    if "default" not in entry:
        return "{}"
    value = entry["default"]
    if isinstance(value, list):
        return "{" + ", ".join(str(v) for v in value) + "}"
    return f' = "{value}"' if isinstance(value, str) else f" = {value_text(value)}"


def cluster_hpp(keys):
    out = [banner(SCRIPT, SOURCE) + "// clang-format off", "// The resolved configuration of a cluster.",
           "#ifndef CX_GEN_CLUSTER_HPP", "#define CX_GEN_CLUSTER_HPP", "", "#include <cstdint>", "#include <string>",
           "#include <vector>", "", "namespace cx::hw::net {", "", "struct ClusterConfig {"]
    section = None
    for entry in keys:
        *of, leaf = entry["key"].split(".")
        of = of[0] if of else None
        if section is not None and of != section:
            out.append(f"  }} {identifier(section)};")
        if of is not None and of != section:
            out.append(f"  struct {camel(of)} {{")
        section = of
        unit = f" [{entry['unit']}]" if "unit" in entry else ""
        pad = "    " if of else "  "
        out.append(f"{pad}{KINDS[entry['type']]} {leaf}{initial(entry)};  // {entry['doc']}{unit}")
    if section is not None:
        out.append(f"  }} {identifier(section)};")
    out += ["};", "", "// Calls f(index of the key in the schema, member) for every key in the order of the schema.",
            "template <class Config, class F>", "void visit(Config &config, F &&f) {"]
    for index, entry in enumerate(keys):
        *of, leaf = entry["key"].split(".")
        path = (identifier(of[0]) + "." if of else "") + leaf
        out.append(f"  f({index}u, config.{path});")
    out += ["}", "", "}  // namespace cx::hw::net", "", "#endif"]
    return "\n".join(out) + "\n"


def identifier(name):
    return name + "_" if name == "switch" else name


def schema_hpp(keys):
    out = [banner(SCRIPT, SOURCE) + "// clang-format off", "// Description of every key of a cluster, in the order of the schema.",
           "#ifndef CX_GEN_CLUSTER_SCHEMA_HPP", "#define CX_GEN_CLUSTER_SCHEMA_HPP", "", "#include <array>",
           "#include <cstdint>", "#include <span>", "", "namespace cx::hw::net {", "",
           "enum class ClusterKeyType : uint8_t { " + ", ".join(f"{k}_" for k in KINDS) + " };", "",
           "struct ClusterKey {", "  const char *key;", "  ClusterKeyType type;", "  double min, max;  // numbers only",
           "  std::span<const char *const> allowed;  // enumerations only", "  bool required;",
           "  const char *default_text;", "  const char *unit;  // may be empty", "  const char *expected;  // for messages",
           "  const char *doc;", "};", "", "namespace cluster_detail {"]
    out += allowed_arrays(keys)
    out += ["}  // namespace cluster_detail", "", f"inline constexpr std::array<ClusterKey, {len(keys)}> kClusterKeys{{{{"]
    for index, entry in enumerate(keys):
        allowed = f"cluster_detail::allowed_{index}" if "allowed" in entry else "{}"
        out.append(f"    {{\"{entry['key']}\", ClusterKeyType::{entry['type']}_, {entry.get('min', 0)}, {entry.get('max', 0)}, "
                   f"{allowed}, {str('default' not in entry).lower()}, {cstring(value_text(entry.get('default', '')))}, "
                   f"{cstring(entry.get('unit', ''))}, {cstring(expected(entry))}, {cstring(entry['doc'])}}},")
    out += ["}};", "", "}  // namespace cx::hw::net", "", "#endif"]
    return "\n".join(out) + "\n"


def cluster_md(keys):
    out = ["# Cluster configuration", "",
           "What `cx collective --cluster` reads. `include: other.yaml` (a path relative to the file, or a list of them) "
           "takes the keys of other files first; keys of the file itself override them, and `--set key=value` overrides both. "
           "How it is modelled: [docs/network.md](../network.md).", "",
           *KEY_TABLE_HEAD]
    for entry in keys:
        default = value_text(entry.get("default", "")) if "default" in entry else "required"
        out.append(key_row(entry, DOC_TYPES.get(entry["type"], entry["type"]), cell(expected(entry)), default, entry["doc"]))
    return "\n".join(out) + "\n"


def generate():
    keys = load(read(SOURCE))
    return {"hw/cluster/gen/cluster.hpp": cluster_hpp(keys), "hw/cluster/gen/schema.hpp": schema_hpp(keys),
            "docs/reference/cluster.md": cluster_md(keys)}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, generate))

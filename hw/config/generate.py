#!/usr/bin/python3
"""Generates the resolved struct, the key table and the documentation from hw/config/schema.yaml, and the quantities of
energy tables, the tables that ship and their documentation from hw/config/energy.yaml and configs/energy/.

usage: generate.py [--check]

With --check nothing is written and the exit status is 1 when a committed file is stale.
"""

import os
import re
import sys

import yaml

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../regs"))
from description import (KEY_TABLE_HEAD, ROOT, allowed_arrays, banner, camel, cell, check_key, check_keys, cstring, fail,
                         key_row, read, run, text, value_text)

SCRIPT = "hw/config/generate.py"
SOURCE = "hw/config/schema.yaml"
ENERGY = "hw/config/energy.yaml"
TABLES = "configs/energy"
KINDS = {"int": "uint32_t", "float": "double", "bool": "bool", "string": "std::string", "enum": "std::string",
         "enum_list": "std::vector<std::string>", "tile_set": "TileSet",
         "fault_plan": "FaultPlan", "placement": "Placement", "points": "OperatingPoints"}
DOC_TYPES = {"enum_list": "list", "tile_set": "tile set", "fault_plan": "list of faults", "placement": "list of places",
             "points": "list of points"}
# Kinds of quantities, and the key of a derived table that multiplies them.
FACTORS = {"none": "", "energy": "factor", "logic": "logic_area", "sram": "sram_area"}
OPTIONAL = ("unit", "min", "max", "power_of_two", "multiple_of", "allowed", "known", "default", "program")


def load(description):
    check_keys(SOURCE, description, ("keys",))
    keys = []
    for key, entry in description["keys"].items():
        at = f"{SOURCE}: {key}"
        check_keys(at, entry, ("type", "doc"), OPTIONAL)
        check_key(at, key)
        if entry["type"] not in KINDS:
            fail(at, f"type '{entry['type']}' is not one of {', '.join(KINDS)}")
        if entry["type"] in ("int", "float"):
            for bound in ("min", "max"):
                if bound not in entry:
                    fail(at, f"numbers need {bound}")
            if entry["min"] > entry["max"]:
                fail(at, "min is above max")
            if not entry["min"] <= entry.get("default", entry["min"]) <= entry["max"]:
                fail(at, "the default is out of range")
        if entry["type"] in ("enum", "enum_list"):
            chosen = entry.get("default", [])
            for value in chosen if isinstance(chosen, list) else [chosen]:
                if value not in entry["allowed"]:
                    fail(at, f"the default {value} is not allowed")
        keys.append(dict(entry, key=key, doc=text(entry["doc"])))
    names = [k["key"] for k in keys]
    for name in names:
        for other in names:
            if other.startswith(name + "."):
                fail(f"{SOURCE}: {name}", f"is a key and a section ({other})")
    closed = []
    for name, following in zip(names, names[1:]):
        left = name.split(".")[:-1]
        for depth in range(len(left), 0, -1):
            section = left[:depth]
            if following.split(".")[:depth] != section:
                closed.append(section)
        for section in closed:
            if following.split(".")[:len(section)] == section:
                fail(f"{SOURCE}: {following}", f"section {'.'.join(section)} was left before")
    return keys


def default_text(entry):
    if "default" not in entry:
        return ""
    return hex(entry["default"]) if entry["key"].endswith("_id") else value_text(entry["default"])


def constraint_text(entry):
    parts = []
    if "min" in entry:
        parts.append(f"{entry['min']} to {entry['max']}")
    if entry.get("power_of_two"):
        parts.append("power of two")
    if "multiple_of" in entry:
        parts.append(f"multiple of {entry['multiple_of']}")
    if "allowed" in entry:
        parts.append(", ".join(entry["allowed"]))
    if entry["type"] == "tile_set":
        parts.append("none, all, or a list of tile numbers")
    if entry["type"] == "fault_plan":
        parts.append("none, or a list of faults")
    if entry["type"] == "placement":
        parts.append("none, or a list of BLOCK@COLUMN:ROW")
    if entry["type"] == "points":
        parts.append("none, or a list of operating points")
    if entry["type"] == "bool":
        parts.append("true or false")
    return ", ".join(parts)


def initial(entry):
    kind = entry["type"]
    if "default" not in entry:
        return "{}"
    value = entry["default"]
    if kind in ("int", "float", "bool"):
        return f" = {default_text(entry)}"
    if kind == "enum_list":
        return "{" + ", ".join(f'"{v}"' for v in value) + "}"
    if kind in ("tile_set", "fault_plan", "placement", "points"):
        return "{}"
    return f' = "{value}"'


def tree(keys):
    root = {}
    for entry in keys:
        node = root
        *sections, leaf = entry["key"].split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = entry
    return root


def members(node, indent):
    out = []
    pad = "  " * indent
    for name, child in node.items():
        if "type" in child and isinstance(child["type"], str):
            unit = f" [{child['unit']}]" if "unit" in child else ""
            out.append(f"{pad}{KINDS[child['type']]} {name}{initial(child)};  // {child['doc']}{unit}")
        else:
            out.append(f"{pad}struct {camel(name)}Section {{")
            out += members(child, indent + 1)
            out.append(f"{pad}  bool operator==(const {camel(name)}Section &) const = default;")
            out.append(f"{pad}}} {name};")
    return out


def chip_hpp(keys):
    out = [banner(SCRIPT, SOURCE) + "// clang-format off", "// The resolved configuration of a chip.",
           "#ifndef CX_GEN_CHIP_HPP", "#define CX_GEN_CHIP_HPP", "", "#include <algorithm>", "#include <cstdint>",
           "#include <string>", "#include <vector>", "", "namespace cx::config {", "",
           "// A choice among the tiles of the DMMU.", "struct TileSet {", "  bool all = false;",
           "  std::vector<uint32_t> tiles;  // ascending; empty with all == false: none", "",
           "  bool contains(uint32_t tile) const { return all || std::binary_search(tiles.begin(), tiles.end(), tile); }",
           "  bool none() const { return !all && tiles.empty(); }",
           "  bool operator==(const TileSet &) const = default;", "};", "",
           "// Faults to provoke, each as KIND[@key=value,...].", "struct FaultPlan {", "  std::vector<std::string> items;", "",
           "  bool operator==(const FaultPlan &) const = default;", "};", "",
           "// Routers of blocks, each as BLOCK@COLUMN:ROW.", "struct Placement {", "  std::vector<std::string> items;", "",
           "  bool operator==(const Placement &) const = default;", "};", "",
           "// A core clock and the voltage that it is run at.", "struct OperatingPoint {", "  double mhz, volts;", "",
           "  bool operator==(const OperatingPoint &) const = default;", "};", "struct OperatingPoints {",
           "  std::vector<OperatingPoint> items;  // clocks ascend", "",
           "  bool operator==(const OperatingPoints &) const = default;", "};", "",
           "// Plain values; the loader hands it out const after every check has passed.", "struct Chip {"]
    out += members(tree(keys), 1)
    out += ["", "  bool operator==(const Chip &) const = default;", "};", "",
            "// Calls f(index of the key in the schema, member) for every key in the order of the schema.",
            "template <class ChipType, class F>", "void visit(ChipType &chip, F &&f) {"]
    for index, entry in enumerate(keys):
        out.append(f"  f({index}u, chip.{entry['key']});")
    out += ["}", "", "}  // namespace cx::config", "", "#endif"]
    return "\n".join(out) + "\n"


def schema_hpp(keys):
    out = [banner(SCRIPT, SOURCE) + "// clang-format off", "// Description of every key, in the order of the schema.",
           "#ifndef CX_GEN_SCHEMA_HPP", "#define CX_GEN_SCHEMA_HPP", "", "#include <array>", "#include <cstdint>",
           "#include <span>", "", "namespace cx::config {", "",
           "enum class KeyType : uint8_t { " + ", ".join(f"{k}_" for k in KINDS) + " };", "",
           "struct KnownValue {", "  const char *value;", "  const char *meaning;", "};", "",
           "struct KeyInfo {", "  const char *key;", "  KeyType type;", "  const char *unit;           // may be empty",
           "  double min, max;            // numbers only", "  bool power_of_two;", "  uint32_t multiple_of;       // 1: any",
           "  std::span<const char *const> allowed;   // enumerations only",
           "  std::span<const KnownValue> known;      // values that exist but that this chip does not model",
           "  bool required;", "  const char *default_text;   // empty when required",
           "  const char *constraint;     // for people", "  bool program;               // part of the architecture hash",
           "  const char *doc;", "};", "", "namespace schema_detail {"]
    out += allowed_arrays(keys)
    for index, entry in enumerate(keys):
        if "known" in entry:
            values = ", ".join(f'{{"{k}", "{v}"}}' for k, v in entry["known"].items())
            out.append(f"inline constexpr std::array<KnownValue, {len(entry['known'])}> known_{index}{{{{{values}}}}};")
    out += ["}  // namespace schema_detail", "", f"inline constexpr std::array<KeyInfo, {len(keys)}> kSchema{{{{"]
    for index, entry in enumerate(keys):
        allowed = f"schema_detail::allowed_{index}" if "allowed" in entry else "{}"
        known = f"schema_detail::known_{index}" if "known" in entry else "{}"
        out.append(f"    {{\"{entry['key']}\", KeyType::{entry['type']}_, {cstring(entry.get('unit', ''))}, "
                   f"{entry.get('min', 0)}, {entry.get('max', 0)}, {str(entry.get('power_of_two', False)).lower()}, "
                   f"{entry.get('multiple_of', 1)}, {allowed}, {known}, {str('default' not in entry).lower()}, "
                   f"{cstring(default_text(entry))}, {cstring(constraint_text(entry))}, "
                   f"{str(entry.get('program', False)).lower()}, {cstring(entry['doc'])}}},")
    out += ["}};", "", "}  // namespace cx::config", "", "#endif"]
    return "\n".join(out) + "\n"


def config_md(keys):
    out = ["# Chip configuration", "",
           "A chip is a YAML file. `include: other.yaml` (a path relative to the file, or a list of them) takes the keys of "
           "other files first; keys of the file itself override them, and `--set key=value` overrides both. "
           "`cx config show FILE` prints the resolved whole, `cx config --help KEY` a key. Keys marked *program* enter the "
           "architecture hash: a program compiled for one value does not load on another.", "",
           *KEY_TABLE_HEAD]
    for entry in keys:
        doc = entry["doc"] + (" *program*" if entry.get("program") else "")
        for value, meaning in entry.get("known", {}).items():
            doc += f" {value} ({meaning}) is refused: not modelled."
        default = default_text(entry) if "default" in entry else "required"
        out.append(key_row(entry, DOC_TYPES.get(entry["type"], entry["type"]), constraint_text(entry), default, doc))
    return "\n".join(out) + "\n"


def load_quantities(description):
    check_keys(ENERGY, description, ("quantities",))
    quantities = []
    for name, entry in description["quantities"].items():
        at = f"{ENERGY}: {name}"
        check_keys(at, entry, ("unit", "max", "scales", "doc"))
        if entry["scales"] not in FACTORS:
            fail(at, f"scales is not one of {', '.join(FACTORS)}")
        if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z0-9][a-z0-9_]*", name):
            fail(at, "is not a dotted pair of lower-case names")
        quantities.append(dict(entry, name=name, doc=text(entry["doc"])))
    return quantities


def load_tables():
    folder = os.path.join(ROOT, TABLES)
    tables = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            tables.append(dict(name=name.removesuffix(".yaml"), path=f"{TABLES}/{name}", text=file.read()))
    return tables


def energy_hpp(quantities, tables):
    out = [banner(SCRIPT, ENERGY) + "// clang-format off", "// Quantities of an energy table, and the tables that ship.",
           "#ifndef CX_GEN_ENERGY_HPP", "#define CX_GEN_ENERGY_HPP", "", "#include <array>", "#include <cstdint>", "",
           "namespace cx::config {", "", "enum class Quantity : uint8_t {"]
    out += [f"  {q['name'].replace('.', '_')},  // {q['doc']} [{q['unit']}]" for q in quantities]
    out += ["};", "", "// The keys of a table with a base that multiply its quantities.",
            "enum class Factor : uint8_t { " + ", ".join(FACTORS) + " };",
            f"inline constexpr std::array<const char *, {len(FACTORS)}> kFactorKeys{{" +
            ", ".join(cstring(key) for key in FACTORS.values()) + "};", "",
            "struct QuantityInfo {", "  const char *name;", "  const char *unit;", "  double max;",
            "  Factor scales;  // by what a table that has a base multiplies it", "  const char *doc;", "};", "",
            f"inline constexpr std::array<QuantityInfo, {len(quantities)}> kQuantities{{{{"]
    out += [f"    {{{cstring(q['name'])}, {cstring(q['unit'])}, {q['max']}, Factor::{q['scales']}, "
            f"{cstring(q['doc'])}}}," for q in quantities]
    out += ["}};", "", "struct ShippedTable {", "  const char *name;", "  const char *path;  // in the repository, for messages",
            "  const char *text;", "};", "", f"inline constexpr std::array<ShippedTable, {len(tables)}> kShippedTables{{{{"]
    out += [f"    {{{cstring(t['name'])}, {cstring(t['path'])}, R\"table({t['text']})table\"}}," for t in tables]
    out += ["}};", "", "}  // namespace cx::config", "", "#endif"]
    return "\n".join(out) + "\n"


def number_text(value):
    return f"{value:.5g}"


def energy_md(quantities, tables):
    out = ["# Energy tables", "",
           "What an operation costs, from `configs/energy/`; `energy.table` of a chip names one, or a file of the same form. "
           "How they are used: [docs/energy.md](../energy.md).", "",
           "| key | meaning |", "|---|---|",
           "| node | name of the process |",
           "| sources | name and reference of each source |",
           "| base | a table that ships, or a file beside this one, whose values hold where `values` has none |",
           "| factor, logic_area, sram_area | entries by which the base's values are multiplied that scale with *energy*, *logic* and *sram*; they become grade C |",
           "| values | an entry for every quantity below, or with a base for those that differ |", "",
           "An entry has `value`, `source`, `grade` (A: published, of the source's own table or measurement; B: published, at second hand; "
           "C: estimated or derived), `range` (least and most; without it the value alone), `formula`, `note`. Grade C must have range and "
           "formula.", "", "## Quantities", "", "| quantity | unit | scales | meaning |", "|---|---|---|---|"]
    out += [f"| {q['name']} | {q['unit']} | {'' if q['scales'] == 'none' else q['scales']} | {cell(q['doc'])} |" for q in quantities]
    for table in tables:
        content = yaml.safe_load(table["text"])
        out += ["", f"## {table['name']}", ""]
        if "base" in content:
            out += [f"{content['base']}, with these factors:", "",
                    "| what scales | factor | range | grade | source | formula |", "|---|---:|---|---|---|---|"]
            for kind, key in FACTORS.items():
                if key not in content:
                    continue
                factor = content[key]
                limits = " to ".join(number_text(v) for v in factor.get("range", []))
                out.append(f"| {kind} | {number_text(factor['value'])} | {limits} | {factor['grade']} | {factor['source']} | "
                           f"{cell(factor.get('formula', ''))} |")
            out += [""]
        if content.get("values"):
            out += ["| quantity | value | range | grade | source | formula, note |", "|---|---:|---|---|---|---|"]
        for name, entry in content.get("values", {}).items():
            limits = " to ".join(number_text(v) for v in entry.get("range", []))
            remarks = "; ".join(entry[key] for key in ("formula", "note") if key in entry)
            out.append(f"| {name} | {number_text(entry['value'])} | {limits} | {entry['grade']} | {entry['source']} | {cell(remarks)} |")
        out += [""] if content.get("values") else []
        out += [f"- {name}: {reference}" for name, reference in content["sources"].items()]
    return "\n".join(out) + "\n"


def generate():
    keys = load(read(SOURCE))
    quantities = load_quantities(read(ENERGY))
    tables = load_tables()
    return {"hw/config/gen/chip.hpp": chip_hpp(keys), "hw/config/gen/schema.hpp": schema_hpp(keys),
            "docs/reference/config.md": config_md(keys), "hw/config/gen/energy.hpp": energy_hpp(quantities, tables),
            "docs/reference/energy.md": energy_md(quantities, tables)}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, generate))

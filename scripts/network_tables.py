#!/usr/bin/python3
"""The measured tables of docs/network.md, from docs/network.json.

  network_tables.py measure [SECTION...]   runs everything, or what names some sections, writes docs/network.json and the tables
  network_tables.py check                  rows that are cheap to compute against docs/network.json, the tables in docs/network.md
                                           against it, and what they show (closed forms within 5 %, published efficiencies within
                                           1 %); exit status 1 when one of them is wrong or stale

CX is the cx to run (default build/release/bin/cx).
"""
import concurrent.futures
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import table_script

ROOT = pathlib.Path(__file__).resolve().parent.parent
CX = os.environ.get("CX", str(ROOT / "build/release/bin/cx"))
DATA = ROOT / "docs/network.json"
PAGE = ROOT / "docs/network.md"
SHARED = pathlib.Path(os.environ.get("CX_SHARED_DATA", ROOT.parent / "shared/data")) / "network"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MTU = 4096


def size(count):
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} B"


def collective(operation, cluster, count, algorithm, *, fidelity="packet", chunks=None, sets=()):
    """The row of one run. cluster: a name, or the text of a file."""
    with tempfile.TemporaryDirectory() as folder:
        if "\n" in cluster:
            path = pathlib.Path(folder) / "cluster.yaml"
            path.write_text("name: cluster\n" + cluster)
            cluster = str(path)
        arguments = [CX, "collective", operation, "--cluster", cluster, "--bytes", str(count), "--algo", algorithm, "--fidelity", fidelity,
                     "--check-mib", "0", "--jobs", "1", "--json"]
        arguments += ["--chunks", str(chunks)] if chunks else []
        for one in sets:
            arguments += ["--set", one]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)["rows"][0]


def rounded(value):
    return float(f"{value:.6g}")


# ---- closed forms: alpha is the time of a message beyond its bytes on the narrowest link, beta one byte there ----

MESSAGE, COMPLETION, COMMAND, REDUCE = 500e-9, 300e-9, 50e-9, 400e9  # defaults of the keys rdma.* and card.*
LINK, SWITCH, PCIE_LINK, PCIE_SWITCH, ADAPTER = 300e-9, 400e-9, 150e-9, 120e-9, 200e-9
FLAT = "nodes: {nodes}\nlink: {{gbps: 100, latency_ns: 300}}\ntopology: {{kind: switch}}\n"
DEEP = ("nodes: {nodes}\nnode: {{cards: 8, nic: pcie, nics: 8}}\npcie: {{gen: 5, mps: 512, credit_kib: 256}}\n"
        "link: {{gbps: 400, latency_ns: 300}}\ntopology: {{kind: rail, spines: 8}}\n")
SMALLEST_FLOW = 128  # ranks from which on runs are at flow level


def ethernet(gbps):
    return lambda count: (count + 82 * max(1, -(-count // MTU)) + 4) / (gbps * 125e6)


def pcie(gen, mps, width=16):
    per_lane = {3: 8e9 * 128 / 130, 4: 16e9 * 128 / 130, 5: 32e9 * 128 / 130, 6: 64e9 * 236 / 256}[gen] / 8
    rate = per_lane * width * (0.96 if gen < 6 else 1)
    return lambda count: (count + -(-count // mps) * (24 if gen < 6 else 16)) / rate


class Way:
    """Time of messages over links one after the other, each with its time for so many bytes, and a delay of all of them."""

    def __init__(self, links, delay):
        self.narrow = max(range(len(links)), key=lambda i: links[i](MTU))
        self.links, self.delay = links, delay + MESSAGE + COMPLETION
        self.answer = delay + sum(link(0) for link in links)  # an acknowledgement, or the end of a SEND after that of its RECV

    def wire(self, count):
        return self.links[self.narrow](count)

    def __call__(self, count):
        packet = min(count, MTU)
        return self.delay + self.wire(count) + sum(link(packet) for i, link in enumerate(self.links) if i != self.narrow)


def add(count):
    return COMMAND + count / REDUCE


def ring_half(way, k, count, sums):
    return (k - 1) * (way(count / k) + (add(count / k) if sums else 0))


def halving_half(way, k, count, sums):
    parts = [count / 2 ** s for s in range(1, int(math.log2(k)) + 1)]
    return sum(way(part) + (add(part) if sums else 0) for part in parts)


def direct_half(way, k, count, sums):
    return way(count / k) + (k - 2) * way.wire(count / k) + ((k - 1) * add(count / k) if sums else 0)


HALVES = {"ring": ring_half, "halving": halving_half, "direct": direct_half}


def all_reduce(kind, way, k, count):
    if kind == "doubling":
        # The sum is copied back when the first message from there is acknowledged.
        return math.log2(k) * (way(count) + add(count)) + add(count) + (way.answer if k == 2 else 0)
    return HALVES[kind](way, k, count, True) + HALVES[kind](way, k, count, False)


def closed_form(algorithm, ranks, count, schedule):
    flat = Way([ethernet(100)] * 2, 2 * LINK + SWITCH)
    if algorithm in ("ring", "halving"):
        return all_reduce(algorithm, flat, ranks, count) + flat.answer
    if algorithm == "tree":
        steps = math.ceil(math.log2(ranks))
        # Children are served one after the other, each when the one before has acknowledged.
        serial = (steps - 1) * flat.answer if "serial" in schedule else 0
        return steps * (flat(count) + add(count)) + steps * flat(count) + serial + flat.answer
    bus = pcie(5, 512)
    inside = Way([bus] * 2, 2 * PCIE_LINK + PCIE_SWITCH)
    between = Way([bus, bus, ethernet(400), ethernet(400), bus, bus], 4 * PCIE_LINK + 2 * LINK + 2 * PCIE_SWITCH + 2 * ADAPTER + SWITCH)
    levels = [part.split() for part in re.search(r"\((.*)\)", schedule).group(1).split(", ")]
    (cards, inner), (nodes, outer) = [(int(number), kind) for number, kind in levels]
    if inner == "doubling":
        return all_reduce(inner, inside, cards, count) + all_reduce(outer, between, nodes, count) + between.answer
    return all_reduce(inner, inside, cards, count) + all_reduce(outer, between, nodes, count / cards) + inside.answer


class ClosedForms:
    title = "closed"

    @staticmethod
    def rows():
        for algorithm in ("ring", "tree", "halving", "hcp"):
            for ranks in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
                if algorithm == "hcp" and ranks < 16:
                    continue
                for count in (256 * KIB, 16 * MIB):
                    yield {"algorithm": algorithm, "ranks": ranks, "bytes": count}

    @staticmethod
    def cheap(row):
        return row["ranks"] <= 32

    @staticmethod
    def run(row):
        nodes = row["ranks"] // 8 if row["algorithm"] == "hcp" else row["ranks"]
        cluster = (DEEP if row["algorithm"] == "hcp" else FLAT).format(nodes=nodes)
        fidelity = "packet" if row["ranks"] < SMALLEST_FLOW else "flow"
        ran = collective("allreduce", cluster, row["bytes"], row["algorithm"], fidelity=fidelity, chunks=1)
        return {"schedule": ran["schedule"], "simulated_us": rounded(ran["time_us"]),
                "closed_us": rounded(closed_form(row["algorithm"], row["ranks"], row["bytes"], ran["schedule"]) * 1e6)}

    @staticmethod
    def table(rows):
        lines = ["| ranks | bytes | ring | tree | halving and doubling | hierarchical |", "|---|---|---|---|---|---|"]
        for ranks, count in sorted({(row["ranks"], row["bytes"]) for row in rows}):
            cells = []
            for algorithm in ("ring", "tree", "halving", "hcp"):
                found = [row for row in rows if (row["algorithm"], row["ranks"], row["bytes"]) == (algorithm, ranks, count)]
                cells.append("-" if not found else "{closed_us:.1f} / {simulated_us:.1f}".format(**found[0])
                             + (f" ({found[0]['schedule'][5:-1]})" if algorithm == "hcp" else ""))
            lines.append(f"| {ranks} | {size(count)} | " + " | ".join(cells) + " |")
        return lines

    @staticmethod
    def wrong(rows):
        for row in rows:
            if abs(row["simulated_us"] / row["closed_us"] - 1) > 0.05:
                yield f"{row}: more than 5 % from the closed form"


class RingHcp:
    title = "ring-hcp"

    @staticmethod
    def rows():
        count = KIB
        while count <= GIB:
            yield {"bytes": count}
            count *= 4

    @staticmethod
    def cheap(row):
        return row["bytes"] <= 4 * MIB

    @staticmethod
    def run(row):
        result = {}
        for algorithm in ("ring", "hcp", "auto"):
            ran = collective("allreduce", "cx-trainer-16", row["bytes"], algorithm)
            result[algorithm] = {"time_us": rounded(ran["time_us"]), "schedule": ran["schedule"]}
        return {**result, "bound_us": rounded(ran["lower_bound_us"]), "bus_gb_s": rounded(ran["bus_gb_s"])}

    @staticmethod
    def table(rows):
        lines = ["| bytes of a rank | flat ring | hcp | hcp gains | lower bound | auto | its bus bandwidth |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            lines.append(f"| {size(row['bytes'])} | {row['ring']['time_us']:.1f} | {row['hcp']['time_us']:.1f} | {row['ring']['time_us'] / row['hcp']['time_us']:.2f} "
                         f"| {row['bound_us']:.1f} | {row['auto']['time_us']:.1f}, {row['auto']['schedule']} | {row['bus_gb_s']:.2f} GB/s |")
        return lines

    @staticmethod
    def wrong(rows):
        for row in rows:
            if row["auto"]["time_us"] > 1.03 * min(row["ring"]["time_us"], row["hcp"]["time_us"]):
                yield f"{row}: auto is more than 3 % slower than the better one"


# ---- links ----

PAIR = "nodes: 1\nnode: {{cards: 2}}\npcie: {{gen: {gen}, width: {width}, mps: {mps}, credit_kib: 256}}\ntopology: {{kind: switch}}\n"
WIRE = "nodes: 2\nlink: {{gbps: {gbps}}}\nrdma: {{mtu: {mtu}, window_kib: 4096}}\ntopology: {{kind: switch}}\n"
STREAM = 64 * MIB


def stream_gb_s(cluster):
    """Of one long message from one card to another, latency included."""
    ran = collective("broadcast", cluster, STREAM, "ring", chunks=1)
    return rounded(STREAM / ran["time_us"] * 1e-3), ran["busiest_link"]


def published(file, **keys):
    """Lines of a table of ../shared/data/network whose columns have these values; none if the table is not there."""
    path = SHARED / file
    if not path.exists():
        return []
    names, *lines = [line.split(",") for line in path.read_text().splitlines()]
    found = [dict(zip(names, line)) for line in lines]
    return [line for line in found if all(line[key] == str(value) for key, value in keys.items())]


class Pcie:
    title = "pcie"
    RAW = {3: 15.754, 4: 31.508, 5: 63.015, 6: 118.0}  # GB/s, x16, one direction, after encoding

    @staticmethod
    def rows():
        for gen in (3, 4, 5, 6):
            for width, mps in [(16, mps) for mps in (128, 256, 512, 1024)] + [(1, 256), (4, 256), (8, 256)]:
                yield {"gen": gen, "width": width, "mps": mps}

    @staticmethod
    def cheap(row):
        return row["mps"] == 256

    @staticmethod
    def run(row):
        return {"gb_s": stream_gb_s(PAIR.format(**row))[0]}

    @staticmethod
    def theory(row):
        raw = Pcie.RAW[row["gen"]] * row["width"] / 16
        return raw, raw * row["mps"] / (row["mps"] + (24 if row["gen"] < 6 else 16)), 0.96 if row["gen"] < 6 else 1

    @staticmethod
    def table(rows):
        lines = ["| generation | lanes | MPS | raw GB/s | after packet headers | and after 4 % of the link layer | measured |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            raw, packets, rest = Pcie.theory(row)
            lines.append(f"| {row['gen']} | x{row['width']} | {row['mps']} | {raw:.2f} | {packets:.2f} | {packets * rest:.2f}{'' if rest < 1 else ' (flits)'} | {row['gb_s']:.2f} |")
        return lines

    @staticmethod
    def wrong(rows):
        for row in rows:
            _, packets, rest = Pcie.theory(row)
            if abs(row["gb_s"] / (packets * rest) - 1) > 0.01:
                yield f"{row}: more than 1 % from {packets * rest:.2f} GB/s"
            for line in published("pcie_efficiency.csv", gen=row["gen"], lanes=row["width"], MPS=row["mps"]):
                expected = line["after_~4%DLLP/SKP_MWr_GBps"] if row["gen"] < 6 else line["MWr_GBps"]
                if abs(row["gb_s"] / float(expected) - 1) > 0.01:
                    yield f"{row}: more than 1 % from the published {expected} GB/s"


class Roce:
    title = "roce"

    @staticmethod
    def rows():
        for mtu in (256, 512, 1024, 2048, 4096):
            for gbps in (100, 200, 400, 800):
                yield {"mtu": mtu, "gbps": gbps}

    @staticmethod
    def cheap(row):
        return row["mtu"] >= 2048

    @staticmethod
    def run(row):
        return {"gb_s": stream_gb_s(WIRE.format(**row))[0]}

    @staticmethod
    def table(rows):
        lines = ["| MTU | payload / (payload + 82) | 100 GbE | 200 GbE | 400 GbE | 800 GbE |", "|---|---|---|---|---|---|"]
        for mtu in sorted({row["mtu"] for row in rows}):
            cells = " | ".join(f"{row['gb_s']:.2f}" for row in rows if row["mtu"] == mtu)
            lines.append(f"| {mtu} | {mtu / (mtu + 82):.4f} | {cells} |")
        return lines

    @staticmethod
    def wrong(rows):
        for row in rows:
            theory = row["gbps"] / 8 * row["mtu"] / (row["mtu"] + 82)
            if abs(row["gb_s"] / theory - 1) > 0.01:
                yield f"{row}: more than 1 % from {theory:.2f} GB/s"
            for line in published("rocev2_efficiency.csv", MTU=row["mtu"]):
                expected = float(line[f"{row['gbps']}GbE_GBps"])
                if abs(row["gb_s"] / expected - 1) > 0.01:
                    yield f"{row}: more than 1 % from the published {expected} GB/s"


class Facts:
    """What a card gets to the network, and which link bounds it."""
    title = "facts"
    NODE = ("nodes: 2\nnode: {{cards: {cards}, nic: pcie, nics: {cards}}}\npcie: {{gen: {gen}, mps: {mps}, credit_kib: 256}}\n"
            "link: {{gbps: {gbps}}}\nrdma: {{window_kib: 4096}}\ntopology: {{kind: rail}}\n")

    @staticmethod
    def rows():
        yield {"gen": 4, "mps": 256, "gbps": 800, "cards": 1}
        yield {"gen": 4, "mps": 256, "gbps": 200, "cards": 1}
        yield {"gen": 5, "mps": 512, "gbps": 800, "cards": 1}
        yield {"gen": 5, "mps": 512, "gbps": 400, "cards": 1}
        yield {"gen": 6, "mps": 512, "gbps": 400, "cards": 1}
        yield {"gen": 6, "mps": 512, "gbps": 800, "cards": 1}

    @staticmethod
    def cheap(row):
        return True

    @staticmethod
    def run(row):
        rate, _ = stream_gb_s(Facts.NODE.format(**row))
        return {"gb_s": rate}

    @staticmethod
    def table(rows):
        lines = ["| card to switch | network | measured GB/s | 100 GB/s |", "|---|---|---|---|"]
        for row in rows:
            bus = MTU / pcie(row["gen"], row["mps"])(MTU) * 1e-9
            wire = row["gbps"] / 8 * MTU / (MTU + 82)
            bound = (f"PCIe carries {bus:.1f} of {Pcie.RAW[row['gen']]:.1f} GB/s raw" if bus < wire
                     else f"Ethernet carries {wire:.1f} of {row['gbps'] / 8:.0f} GB/s")
            links = math.ceil(95 / row["gb_s"])
            need = "one, but for headers" if links == 1 else f"{links} of these links"
            lines.append(f"| Gen{row['gen']} x16, MPS {row['mps']} | {row['gbps']} GbE | {row['gb_s']:.1f}: {bound} | {need} |")
        return lines

    @staticmethod
    def wrong(rows):
        for row in rows:
            bus = MTU / pcie(row["gen"], row["mps"])(MTU) * 1e-9
            wire = row["gbps"] / 8 * MTU / (MTU + 82)
            if abs(row["gb_s"] / min(bus, wire) - 1) > 0.01:
                yield f"{row}: more than 1 % from {min(bus, wire):.1f} GB/s"


# ---- 16 nodes: where the hierarchy gains ----

class Search:
    title = "search"
    NODE = ("nodes: 16\nnode: {{cards: {cards}{nic}}}\npcie: {{gen: {gen}, mps: 512}}\nlink: {{gbps: {gbps}, latency_ns: 300}}\n"
            "topology: {{kind: switch}}\n")
    NICS = {"one": ", nic: pcie, nics: 1", "one a card": ", nic: pcie, nics: {cards}", "on the card": ""}
    FLAT_MS, HCP_MS, NEAR = 12, 4.5, 0.1

    @staticmethod
    def rows():
        for cards in (2, 4, 8):
            for nics in Search.NICS:
                for gbps, gen in ((100, 4), (100, 5), (200, 5), (400, 5)):
                    for mib in (1, 64, 72, 128, 144, 256):
                        yield {"cards": cards, "nics": nics, "gbps": gbps, "gen": gen, "bytes": mib * MIB}

    @staticmethod
    def cheap(row):
        return row["cards"] == 2 and row["bytes"] == MIB

    @staticmethod
    def run(row):
        cluster = Search.NODE.format(**row, nic=Search.NICS[row["nics"]].format(**row))
        shared = ["flow.steps=0"]  # no trains: 432 runs
        flat = collective("allreduce", cluster, row["bytes"], "ring", fidelity="flow", chunks=1, sets=shared)
        deep = collective("allreduce", cluster, row["bytes"], "hcp", fidelity="flow", chunks=4, sets=shared)
        return {"flat_ms": rounded(flat["time_us"] * 1e-3), "hcp_ms": rounded(deep["time_us"] * 1e-3), "schedule": deep["schedule"]}

    @staticmethod
    def found(row):
        near = lambda value, wanted: abs(value / wanted - 1) <= Search.NEAR
        return near(row["flat_ms"], Search.FLAT_MS) and near(row["hcp_ms"], Search.HCP_MS)

    @staticmethod
    def table(rows):
        lines = ["| cards a node | NICs a node | PCIe, network | bytes | flat ring | hcp | gain |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            if Search.found(row):
                lines.append(f"| {row['cards']} | {row['nics']} | Gen{row['gen']} x16, {row['gbps']} GbE | {size(row['bytes'])} | {row['flat_ms']:.2f} ms "
                             f"| {row['hcp_ms']:.2f} ms, {row['schedule']} | {row['flat_ms'] / row['hcp_ms']:.2f} |")
        lines += ["", "Gain of all configurations of the search, least to most:", "", "| NICs a node | 1 MiB | 64 MiB and more |", "|---|---|---|"]
        for name in Search.NICS:
            def gains(small):
                found = [row["flat_ms"] / row["hcp_ms"] for row in rows if row["nics"] == name and (row["bytes"] == MIB) == small]
                return f"{min(found):.2f} to {max(found):.2f}"
            lines.append(f"| {name} | {gains(True)} | {gains(False)} |")
        return lines

    @staticmethod
    def wrong(rows):
        if not any(Search.found(row) for row in rows):
            yield "no configuration where the flat ring takes 12 ms and hcp 4.5 ms"
        for row in rows:
            if row["nics"] == "one" and row["bytes"] > MIB and row["flat_ms"] / row["hcp_ms"] > 1.1:
                yield f"{row}: hcp gains with one NIC a node"


class Thousand:
    title = "thousand"

    @staticmethod
    def rows():
        for mib in (1, 4, 16, 64, 256, 1024):
            yield {"bytes": mib * MIB}

    @staticmethod
    def cheap(row):
        return False

    @staticmethod
    def run(row):
        result = {}
        for algorithm in ("ring", "hcp"):
            ran = collective("allreduce", "rail-1024", row["bytes"], algorithm, fidelity="flow", chunks=1 if algorithm == "ring" else None)
            result[algorithm] = {"time_us": rounded(ran["time_us"]), "schedule": ran["schedule"]}
        return {**result, "bound_us": rounded(ran["lower_bound_us"])}

    @staticmethod
    def table(rows):
        lines = ["| bytes of a rank | lower bound | flat ring | its efficiency | hierarchical | its efficiency |", "|---|---|---|---|---|---|"]
        for row in rows:
            cells = [f"{row[a]['time_us']:.1f}{', ' + row[a]['schedule'] if a == 'hcp' else ''} | {row['bound_us'] / row[a]['time_us']:.1%}" for a in ("ring", "hcp")]
            lines.append(f"| {size(row['bytes'])} | {row['bound_us']:.1f} | " + " | ".join(cells) + " |")
        return lines

    @staticmethod
    def wrong(rows):
        return []


SECTIONS = {section.title: section for section in (ClosedForms, RingHcp, Pcie, Roce, Facts, Search, Thousand)}


def page_with(text, data):
    for title, section in SECTIONS.items():
        if title not in data:
            continue
        begin, end = f"<!-- network_tables.py: {title} -->", f"<!-- network_tables.py: end of {title} -->"
        at, until = text.index(begin) + len(begin), text.index(end)
        text = text[:at] + "\n" + "\n".join(section.table(data[title])) + "\n" + text[until:]
    return text


def compute(section, rows):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [{**row, **result} for row, result in zip(rows, pool.map(section.run, rows))]


def measure(titles):
    data = json.loads(DATA.read_text()) if DATA.exists() else {}
    for title in titles or SECTIONS:
        data[title] = compute(SECTIONS[title], list(SECTIONS[title].rows()))
        data = {name: data[name] for name in SECTIONS if name in data}
        lines = (json.dumps(name) + ": [\n  " + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]" for name, rows in data.items())
        DATA.write_text("{\n " + ",\n ".join(lines) + "\n}\n")
        print(f"{title}: {len(data[title])} rows", file=sys.stderr, flush=True)
        for line in SECTIONS[title].wrong(data[title]):
            print(line, file=sys.stderr, flush=True)
    PAGE.write_text(page_with(PAGE.read_text(), data))


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return abs(a - b) <= 1e-5 * abs(b) if isinstance(a, float) else a == b


def stale_lines():
    data = json.loads(DATA.read_text())
    stale = []
    for title, section in SECTIONS.items():
        rows = list(section.rows())
        stored = data.get(title, [])
        if [{key: row[key] for key in rows[0]} for row in stored] != rows:
            stale.append(f"{title}: its rows are not those of scripts/network_tables.py")
            continue
        cheap = [row for row in rows if section.cheap(row)]
        for fresh in compute(section, cheap):
            old = next(row for row in stored if all(row[key] == fresh[key] for key in rows[0]))
            if not same(fresh, old):
                stale.append(f"{title}: {fresh}, docs/network.json has {old}")
        stale += [f"{title}: {line}" for line in section.wrong(stored)]
    if not stale:
        text = PAGE.read_text()
        if page_with(text, data) != text:
            stale.append("docs/network.md: its tables are not those of docs/network.json")
    return stale


if __name__ == "__main__":
    table_script.run(__doc__, "network_tables.py", SECTIONS, measure, stale_lines)

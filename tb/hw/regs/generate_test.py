#!/usr/bin/python3
"""The generator refuses damaged descriptions: one test for each rule."""

import copy
import importlib.util
import os
import sys
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
SPEC = importlib.util.spec_from_file_location("cx_generate", os.path.join(ROOT, "hw/regs/generate.py"))
GENERATE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(GENERATE)

BLOCK = {"block": "test", "size": 16, "doc": "Test.", "registers": [
    {"name": "A", "offset": 0, "access": "rw", "doc": "a"},
    {"name": "B_LO", "offset": 4, "access": "rw", "doc": "b"},
    {"name": "B_HI", "offset": 8, "access": "rw", "doc": "b"}]}


def damaged(change, description):
    description = copy.deepcopy(description)
    change(description)
    return description


class Registers(unittest.TestCase):
    def refuse(self, change, message):
        with self.assertRaisesRegex(GENERATE.DescriptionError, message):
            block = GENERATE.load_block("test.yaml", damaged(change, BLOCK))
            GENERATE.block_c(block)

    def test_sound(self):
        self.assertEqual(GENERATE.load_block("test.yaml", copy.deepcopy(BLOCK))["size"], 16)

    def test_rules(self):
        def first(**values):
            return lambda d: d["registers"][0].update(values)

        def field(**values):
            return first(fields=[{"name": "F", "bits": "3:0"}, dict({"name": "G", "bits": "7:4"}, **values)])

        self.refuse(first(offset=2), "multiple of 4")
        self.refuse(first(offset=4), "taken by A|taken by B")
        self.refuse(first(offset=16), "outside")
        self.refuse(first(count=2, stride=16), "outside")
        self.refuse(first(count=0), "count")
        self.refuse(first(access="rx"), "access")
        self.refuse(first(reset=1 << 32), "32 bits")
        self.refuse(first(colour=1), "unknown key")
        self.refuse(first(name="B_HI"), "twice")
        self.refuse(first(name="7"), "identifier")
        self.refuse(lambda d: d["registers"][0].pop("doc"), "missing key")
        self.refuse(lambda d: d.update(size=10), "size")
        self.refuse(lambda d: d["registers"].pop(), "_HI")
        self.refuse(field(bits="4:3"), "overlaps")
        self.refuse(field(bits="32"), "within")
        self.refuse(field(bits="3:5"), "within")
        self.refuse(field(bits="x"), "neither")
        self.refuse(field(name="F"), "twice")
        self.refuse(field(enum={"X": 16}), "fit")
        self.refuse(field(enum={"X": 1, "Y": 1}), "two names")
        self.refuse(lambda d: d["registers"][0].update(fields=[{"name": "F", "bits": "0"}], reset=2), "no field")


class Packets(unittest.TestCase):
    def refuse(self, change, message):
        with self.assertRaisesRegex(GENERATE.DescriptionError, message):
            GENERATE.load_packets("packets.yaml", damaged(change, GENERATE.read("hw/queue/packets.yaml")))

    def test_rules(self):
        self.refuse(lambda d: d["packets"][1]["fields"][1].update(at=25), "aligned")
        self.refuse(lambda d: d["packets"][1]["fields"][1].update(at=32), "overlaps")
        self.refuse(lambda d: d["packets"][1]["fields"][1].update(at=64), "leaves")
        self.refuse(lambda d: d["packets"][1]["fields"][0].update(enum="nothing"), "no enumeration")
        self.refuse(lambda d: d["packets"][1].update(type=1), "taken")
        self.refuse(lambda d: d["packets"][2]["fields"][0].update(align=3), "power of two")
        self.refuse(lambda d: d["packets"][3]["fields"][2].update(min=65), "min is above max")
        self.refuse(lambda d: d["completion_record"].pop(), "holes")
        self.refuse(lambda d: d["status"]["BAD_TYPE"].update(value=0), "one code")


class Instructions(unittest.TestCase):
    def refuse(self, change, message):
        with self.assertRaisesRegex(GENERATE.DescriptionError, message):
            GENERATE.load_isa("isa.yaml", damaged(change, GENERATE.read("hw/isa/isa.yaml")))

    def test_rules(self):
        self.refuse(lambda d: d["instructions"][1].update(opcode=0), "taken")
        self.refuse(lambda d: d["instructions"][1].update(engines=["gpu"]), "no engine")
        self.refuse(lambda d: d["instructions"][1]["fields"][0].update(at=0), "overlaps")
        self.refuse(lambda d: d["instructions"][1]["fields"][0].update(type="u7"), "type")
        self.refuse(lambda d: d["enums"]["reduce"]["MAX"].update(value=9), "count from 0")


class Map(unittest.TestCase):
    def refuse(self, change, message):
        description = GENERATE.read("hw/regs/map.yaml")
        blocks = {instance["block"]: None for instance in description["instances"]}
        with self.assertRaisesRegex(GENERATE.DescriptionError, message):
            GENERATE.load_map("map.yaml", damaged(change, description), blocks)

    def test_rules(self):
        self.refuse(lambda d: d.update(bar0_size=0x180000), "power of two")
        self.refuse(lambda d: d["instances"][1].update(offset=0), "taken")
        self.refuse(lambda d: d["instances"][1].update(offset=0x100000), "within BAR0")
        self.refuse(lambda d: d["instances"][1].update(block="none"), "no description")
        self.refuse(lambda d: d["interrupts"][1].update(line=0), "taken")
        self.refuse(lambda d: d["memories"][0].update(base=0x80000001), "aligned")


if __name__ == "__main__":
    unittest.main()

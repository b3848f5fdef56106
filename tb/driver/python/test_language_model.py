"""Decoders with caches that grow, as Hugging Face exports them, and without cache, against a NumPy forward pass."""
import json
import os
import subprocess
import tempfile
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import cxvp

LAYERS, WIDTH, HEADS, SIZE, VOCABULARY, PLACES = 2, 24, 3, 8, 29, 40


def make_weights():
    random = np.random.default_rng(17)
    weights = {
        "words": random.standard_normal((VOCABULARY, WIDTH)),
        "places": 0.5 * random.standard_normal((PLACES, WIDTH)),
        "head": random.standard_normal((WIDTH, VOCABULARY)),
    }
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "out"):
            weights[f"{name}.{layer}"] = random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def forward(weights, tokens):
    """Scores [len(tokens), vocabulary] in double precision, the whole sequence at once."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    count = len(tokens)
    x = w["words"][tokens] + w["places"][:count]
    for layer in range(LAYERS):
        q, k, v = (
            (x @ w[f"{name}.{layer}"]).reshape(count, HEADS, SIZE).transpose(1, 0, 2) for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(SIZE)
        scores[:, np.triu(np.ones((count, count), bool), 1)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = shares / shares.sum(-1, keepdims=True) @ v
        x = x + np.tanh(mixed.transpose(1, 0, 2).reshape(count, WIDTH) @ w[f"out.{layer}"])
    return x @ w["head"]


def build(weights, cached):
    nodes, constants = [], [numpy_helper.from_array(value, name) for name, value in weights.items()]

    def op(kind, *inputs, name=None, **attributes):
        name = name or f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(value):
        constants.append(numpy_helper.from_array(value, f"c_{len(constants)}"))
        return constants[-1].name

    def integers(*values):
        return constant(np.array(values, np.int64))

    def scalar(value):
        return constant(np.array(value, np.int64))

    def size(tensor, axis):
        return op("Gather", op("Shape", tensor), scalar(axis))

    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", VOCABULARY])]
    count = size("input_ids", 1)
    if cached:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"]))
        inputs.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "sequence"]))
        past = size("past_key_values.0.key", 2)
        positions = "position_ids"
    else:
        past = scalar(0)
        positions = op("Unsqueeze", op("Range", scalar(0), count, scalar(1)), integers(0))
    total = op("Add", past, count)
    keys = op("Range", scalar(0), total, scalar(1))
    rows = op("Unsqueeze", op("Range", past, total, scalar(1)), integers(1))
    visible = op("LessOrEqual", keys, rows)
    if cached:
        visible = op("And", visible, op("Unsqueeze", op("Cast", "attention_mask", to=TensorProto.BOOL), integers(1, 2)))
    x = op("Add", op("Gather", "words", "input_ids"), op("Gather", "places", positions))
    for layer in range(LAYERS):
        heads = []
        for name in ("query", "key", "value"):
            head = op("Reshape", op("MatMul", x, f"{name}.{layer}"), integers(0, 0, HEADS, SIZE))
            head = op("Transpose", head, perm=[0, 2, 1, 3])
            if cached and name != "query":
                dims = ["batch", HEADS, "past", SIZE]
                inputs.append(helper.make_tensor_value_info(f"past_key_values.{layer}.{name}", TensorProto.FLOAT, dims))
                dims = ["batch", HEADS, "total", SIZE]
                outputs.append(helper.make_tensor_value_info(f"present.{layer}.{name}", TensorProto.FLOAT, dims))
                head = op("Concat", f"past_key_values.{layer}.{name}", head, axis=2, name=f"present.{layer}.{name}")
            heads.append(head)
        query, key, value = heads
        scores = op("MatMul", query, op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = op("Mul", scores, constant(np.float32(1 / np.sqrt(SIZE))))
        shares = op("Softmax", op("Where", visible, scores, constant(np.float32(-1e9))), axis=-1)
        mixed = op("Transpose", op("MatMul", shares, value), perm=[0, 2, 1, 3])
        mixed = op("MatMul", op("Reshape", mixed, integers(0, 0, WIDTH)), f"out.{layer}")
        x = op("Add", x, op("Tanh", mixed))
    op("MatMul", x, "head", name="logits")
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, [c for c in constants if c.name in used])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


class LanguageModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.weights = make_weights()
        cls.paths = {}
        for name, cached in (("append", True), ("none", False)):
            cls.paths[name] = os.path.join(cls.folder.name, name + ".onnx")
            onnx.save(build(cls.weights, cached), cls.paths[name])

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def check(self, logits, tokens):
        np.testing.assert_allclose(logits, forward(self.weights, tokens)[-1], rtol=2e-4, atol=2e-4)

    def test_a_growing_cache_has_fixed_capacity_on_the_device(self):
        model = cxvp.LanguageModel(self.paths["append"], config="tiny", context=24)
        for prompt in ([3, 1, 4, 1, 5], [9, 2, 6]):
            tokens = list(prompt)
            logits = model.feed(tokens)
            for _ in range(10):
                self.check(logits, tokens)
                tokens.append(int(np.argmax(logits)))
                logits = model.feed(tokens[-1:])
                report = model.report()
                # One new entry of two tensors for each layer, moved inside the device.
                self.assertEqual(report["copied_bytes"], 4 * HEADS * SIZE * 4)
                self.assertEqual(report["length"], len(tokens))
                self.assertEqual(len(report["runs"]), 1)
                self.assertLess(report["runs"][0]["bytes"]["inputs"], 300)
            model.reset()
        report = model.report()
        self.assertEqual(report["cache_style"], "append")
        # Prefill of 5 and of 3 are padded to 8 and 4.
        self.assertEqual(report["session"]["compilations"], 3)
        self.assertEqual(report["session"]["runs"], 22)

    def cx(self, *arguments):
        result = subprocess.run([os.environ["CX_BINARY"], *arguments], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_a_profile_is_of_the_whole_step(self):
        cells = LAYERS * 2 * HEADS * SIZE  # of a token in the caches
        for chip, precision in (("tiny", "fp32"), ("cx3210", "fp16"), ("rca2", "bf16")):
            common = [self.paths["append"], "--config", chip, "--precision", precision, "--context", "24",
                      "--prompt-tokens", "3,1,4,1,5"]
            cost = json.loads(self.cx("generate", *common, "--tokens", "2", "--json"))
            document = os.path.join(self.folder.name, "profile.json")
            reports = json.loads(self.cx("profile", *common, "--json", "--document", document))["runs"]
            with open(document, encoding="utf-8") as file:
                runs = json.load(file)["runs"]
            table = self.cx("profile", *common)
            for step, tokens, report, run in zip(("prefill", "decode"), (5, 1), reports, runs):
                expected, summary, path = cost[step], run["summary"], run["critical_path"]
                self.assertEqual(report["cycles"], expected["cycles"])
                self.assertEqual(summary["cycles"], expected["cycles"])
                self.assertEqual(summary["latency_us"], expected["us"])
                self.assertEqual(summary["packets"], expected["packets"])
                self.assertAlmostEqual(summary["energy_uj"], expected["energy_uj"], delta=1e-6)
                for key in ("pcie_to_device", "pcie_to_host", "dram_read", "dram_written"):
                    self.assertEqual(summary["bytes"][key], expected["bytes"][key])
                cycle_ns = 1e3 / run["chip"]["clock_mhz"]
                self.assertAlmostEqual(sum(path["duration"]), expected["cycles"] * cycle_ns, delta=1e-3)
                self.assertAlmostEqual(sum(path["by_reason"].values()), expected["cycles"] * cycle_ns, delta=1e-3)
                self.assertAlmostEqual(sum(report["critical_path_us"].values()), expected["us"], delta=1e-6)
                # The copies are one row, the last.
                self.assertEqual([n["name"] for n in run["nodes"]].count("cache moves"), 1)
                moves = run["nodes"][-1]
                self.assertEqual((moves["name"], moves["op"], moves["engine"]), ("cache moves", "Copy", "sdma"))
                self.assertAlmostEqual(moves["time"], expected["cache_move_cycles"] * cycle_ns, delta=1e-6)
                self.assertAlmostEqual(sum(moves["by_reason"]), moves["time"], delta=1e-6)
                self.assertEqual(expected["bytes"]["cache_moved"], tokens * cells * 4)
                self.assertEqual(moves["bytes"], 2 * tokens * cells * 4)
                self.assertGreaterEqual(moves["memory_bytes"], moves["bytes"])
                self.assertGreater(moves["energy_uj"], 0)
                self.assertGreaterEqual(moves["time"], moves["bound_ns"])
                self.assertEqual(moves["bound"], max(range(8), key=lambda r: moves["by_reason"][r]))
                self.assertAlmostEqual(sum(n["time"] for n in run["nodes"]),
                                       1e3 * (summary["work_us"] + summary["cache_moves_us"]), delta=1e-3)
                row = next(r for r in table.split("prefill of 5")[-1].split("decode of token 6")[step == "decode"]
                           .splitlines() if r.startswith("cache moves"))
                self.assertIn(f"{moves['time'] / 1e3:.2f}", row)
                self.assertIn(run["reasons"][moves["bound"]], row)

    def test_a_full_cache_is_an_error(self):
        model = cxvp.LanguageModel(self.paths["append"], config="tiny", context=6)
        model.feed([1, 2, 3, 4, 5])
        with self.assertRaisesRegex(cxvp.InputError, "the cache holds 6 tokens; there are 5 and 2 more"):
            model.feed([6, 7])
        self.check(model.feed([6]), [1, 2, 3, 4, 5, 6])
        model.reset()
        self.check(model.feed([7, 7]), [7, 7])

    def test_buckets_cut_the_prompt(self):
        model = cxvp.LanguageModel(self.paths["append"], config="tiny", context=16, buckets=[1, 4])
        tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5]
        self.check(model.feed(tokens), tokens)
        report = model.report()
        self.assertEqual(len(report["runs"]), 3)
        self.assertEqual(report["session"]["compilations"], 2)

    def test_without_cache_a_window_moves_over_the_text(self):
        model = cxvp.LanguageModel(self.paths["none"], config="tiny", context=12)
        tokens = [3, 1, 4]
        logits = model.feed(tokens)
        for _ in range(15):
            self.check(logits, tokens[-12:])
            tokens.append(int(np.argmax(logits)))
            logits = model.feed(tokens[-1:])
        report = model.report()
        self.assertEqual((report["cache_style"], report["session"]["compilations"]), ("none", 1))
        short = cxvp.LanguageModel(self.paths["none"], config="tiny", context=12, buckets=[4, 12])
        for tokens in ([3, 1, 4], [3, 1, 4, 1, 5]):
            short.reset()
            self.check(short.feed(tokens), tokens)
        self.assertEqual(short.report()["session"]["compilations"], 2)

    def test_what_is_not_understood_is_named(self):
        for path, options, text in (
            (self.paths["none"], {}, "leaves the length open and the model has no cache: state the context"),
            (self.paths["append"], {}, "the cache has no fixed capacity: state the context"),
            (self.paths["append"], {"context": 8, "buckets": [9]}, "a program for 9 tokens: expected 1 to 8"),
        ):
            with self.assertRaisesRegex(cxvp.InputError, text):
                cxvp.LanguageModel(path, config="tiny", **options)
        model = cxvp.LanguageModel(self.paths["append"], config="tiny", context=8)
        with self.assertRaisesRegex(cxvp.InputError, "at least one token"):
            model.feed([])
        with self.assertRaisesRegex(cxvp.InputError, "token -1 is negative"):
            model.feed([-1])
        with self.assertRaises(cxvp.DeviceFault):  # beyond the vocabulary: only the device sees it
            model.feed([VOCABULARY])
        model.reset()
        self.check(model.feed([5, 6]), [5, 6])
        other = build(self.weights, True)
        other.graph.input[1].name = "extra"
        for node in other.graph.node:
            for i, name in enumerate(node.input):
                if name == "attention_mask":
                    node.input[i] = "extra"
        path = os.path.join(self.folder.name, "extra.onnx")
        onnx.save(other, path)
        with self.assertRaisesRegex(cxvp.InputError, r"input 'extra', int64 \[batch, total\], is not understood"):
            cxvp.LanguageModel(path, config="tiny", context=8)


if __name__ == "__main__":
    unittest.main()

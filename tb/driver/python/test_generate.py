"""cx generate: text, reports and errors of the command line."""
import json
import os
import subprocess
import tempfile
import unittest

import latent_decoder
import latent_decoder_reference as reference
import numpy as np
import onnx

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
SHAKESPEARE = os.path.join(os.environ.get("CX_DATA_DIR", os.path.join(ROOT, "../shared/data")), "models/gpt_shakespeare_char")


def cx(*arguments):
    return subprocess.run([os.environ["CX_BINARY"], "generate", *arguments], capture_output=True, text=True)


class GenerateTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = os.path.join(cls.folder.name, "latent.onnx")
        cls.charset = os.path.join(cls.folder.name, "charset.json")
        subprocess.run(["/usr/bin/python3", latent_decoder.__file__, cls.model, "--charset", cls.charset], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_latent_decoder(self):
        with open(self.charset, encoding="utf-8") as file:
            characters = json.load(file)
        shape = latent_decoder.Shape(len(characters))
        weights = latent_decoder.make_weights(shape, 2)
        tokens = [characters.index(c) for c in "ROMEO:"]
        for _ in range(8):
            tokens.append(int(np.argmax(reference.forward(shape, weights, tokens)[0][-1])))
        expected = os.path.join(self.folder.name, "expected.json")
        with open(expected, "w", encoding="utf-8") as file:
            json.dump(tokens, file)
        common = [self.model, "--config", "tiny", "--charset", self.charset, "--prompt", "ROMEO:", "--tokens", "8"]
        result = cx(*common, "--reference", expected, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["tokens"], tokens[6:])
        self.assertEqual(report["text"], "".join(characters[t] for t in tokens[6:]))
        self.assertEqual(report["cache"]["style"], "slots")
        self.assertEqual(report["cache"]["bytes_on_device"], 3 * 64 * 40 * 4)
        self.assertEqual((report["compilations"], report["program_reuses"]), (2, 6))
        self.assertEqual(report["decode"]["steps"], 7)
        self.assertGreater(report["time_to_first_token_us"], 0)
        self.assertAlmostEqual(report["tokens_per_s"] * report["time_per_token_us"], 1e6, delta=1)
        # A step brings a token and a position in, and scores out; the caches stay.
        step_bytes = report["decode"]["bytes"]["pcie_to_host"] / 7
        self.assertLess(step_bytes, 65 * 4 + 512)
        again = json.loads(cx(*common, "--json").stdout)
        for run in (report, again):
            self.assertGreater(run["decode"].pop("wall_s"), 0)
        self.assertEqual(again["decode"], report["decode"])
        tokens[9] += 1
        with open(expected, "w", encoding="utf-8") as file:
            json.dump(tokens, file)
        result = cx(*common, "--reference", expected)
        self.assertEqual(result.returncode, 1)
        self.assertIn("FAIL: 9 of 14 tokens", result.stdout)

    def test_sampling_follows_its_seed(self):
        def draw(seed, temperature="1.5"):
            result = cx(self.model, "--config", "tiny", "--prompt-tokens", "30,27", "--tokens", "12", "--json",
                        "--temperature", temperature, "--seed", seed)
            self.assertEqual(result.returncode, 0, result.stderr)
            return json.loads(result.stdout)["tokens"]

        first = draw("1")
        self.assertEqual(first, draw("1"))
        self.assertNotEqual(first, draw("2"))
        self.assertEqual(draw("1", "0"), draw("2", "0"))

    def test_errors(self):
        for arguments, text in (
            ([self.model], "give --prompt TEXT with --tokenizer FILE, or --prompt-tokens"),
            ([self.model, "--prompt", "A"], "--prompt needs --tokenizer FILE"),
            ([self.model, "--prompt-tokens", "1", "--tokens", "0"], "--tokens: expected at least 1"),
            ([self.model, "--prompt-tokens", "1", "--greedy", "--temperature", "1"], "exclude each other"),
            ([self.model, "--config", "tiny", "--prompt-tokens", "1", "--context", "65"], "the caches hold 64"),
            ([self.model, "--config", "tiny", "--prompt-tokens", "1", "--tokens", "70"], "the cache holds 64 tokens"),
            (["/nonexistent.onnx", "--config", "tiny", "--prompt-tokens", "1"], "no such file"),
            ([self.model, "--prompt-tokens", "1", "--reference", self.model], "expected a JSON array of token numbers"),
        ):
            result = cx(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(text, result.stderr)
        result = cx(self.model, "--config", "tiny", "--prompt-tokens", "999")
        self.assertEqual(result.returncode, 3)
        self.assertIn("device fault", result.stderr)

    def test_trained_model_without_cache(self):
        if not os.path.isdir(SHAKESPEARE):
            self.skipTest(SHAKESPEARE + " is absent")
        for precision, buckets in (("fp32", "64"), ("fp16", "16,64")):
            result = cx(
                os.path.join(SHAKESPEARE, "model.onnx"), "--charset", os.path.join(SHAKESPEARE, "charset.json"),
                "--prompt", "ROMEO:", "--tokens", "58", "--context", "64", "--precision", precision, "--buckets", buckets,
                "--reference", os.path.join(SHAKESPEARE, "greedy_from_ROMEO.json"), "--json",
            )  # fmt: skip
            self.assertEqual(result.returncode, 0, result.stderr)
            report = json.loads(result.stdout)
            self.assertEqual(report["check"], {"passed": True, "agreeing_tokens": 64, "compared_tokens": 64})
            self.assertEqual(report["compilations"], len(buckets.split(",")))
            self.assertTrue(report["text"].startswith("\nThe "))


if __name__ == "__main__":
    unittest.main()

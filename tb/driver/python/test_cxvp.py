"""The module cxvp: sessions, arrays, device tensors, reports, errors, threads."""
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import cxvp

CHIP = "tiny"


def save_model(folder, name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, t, d) for n, t, d in inputs],
        [helper.make_tensor_value_info(n, t, d) for n, t, d in outputs],
        [numpy_helper.from_array(value, n) for n, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    path = os.path.join(folder, name + ".onnx")
    onnx.save(model, path)
    return path


class SessionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        random = np.random.default_rng(4)
        cls.w = random.standard_normal((12, 20)).astype(np.float32)
        cls.b = random.standard_normal(20).astype(np.float32)
        cls.layer = save_model(
            cls.folder.name,
            "layer",
            [
                helper.make_node("Gemm", ["x", "w", "b"], ["sum"]),
                helper.make_node("Relu", ["sum"], ["y"]),
                helper.make_node("ReduceMax", ["y"], ["top"], axes=[1], keepdims=0),
            ],
            [("x", TensorProto.FLOAT, ["rows", 12])],
            [("y", TensorProto.FLOAT, ["rows", 20]), ("top", TensorProto.FLOAT, ["rows"])],
            [("w", cls.w), ("b", cls.b)],
        )
        cls.counter = save_model(
            cls.folder.name,
            "counter",
            [helper.make_node("Add", ["state", "step"], ["next"])],
            [("state", TensorProto.FLOAT, ["n", 8]), ("step", TensorProto.FLOAT, [1, 8])],
            [("next", TensorProto.FLOAT, ["n", 8])],
        )

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def expected(self, x):
        return np.maximum(x.astype(np.float64) @ self.w + self.b, 0)

    def test_signature(self):
        session = cxvp.Session(self.layer, config=CHIP)
        (x,) = session.get_inputs()
        self.assertEqual((x.name, x.type, x.shape, x.dtype), ("x", "tensor(float)", ["rows", 12], np.float32))
        self.assertEqual([(o.name, o.shape) for o in session.get_outputs()], [("y", ["rows", 20]), ("top", ["rows"])])
        self.assertIn("float32 [rows, 12]", repr(x))

    def test_runs_with_any_rows(self):
        session = cxvp.Session(self.layer, config=CHIP)
        random = np.random.default_rng(6)
        for rows in (3, 1, 7, 3, 1):
            x = random.standard_normal((rows, 12)).astype(np.float32)
            y, top = session.run(None, {"x": x})
            np.testing.assert_allclose(y, self.expected(x), rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(top, y.max(axis=1))
            (only,) = session.run(["top"], {"x": np.asfortranarray(x)})
            np.testing.assert_array_equal(only, top)
        statistics = session.statistics()
        self.assertEqual((statistics["runs"], statistics["compilations"]), (10, 3))
        self.assertEqual(statistics["cache_hits"], 7)

    def test_precision(self):
        x = np.random.default_rng(7).standard_normal((4, 12)).astype(np.float32)
        exact = cxvp.Session(self.layer, config=CHIP).run(["y"], {"x": x})[0]
        half = cxvp.Session(self.layer, config=CHIP, precision="fp16").run(["y"], {"x": x})[0]
        self.assertTrue((exact != half).any())
        np.testing.assert_allclose(half, exact, rtol=2e-2, atol=2e-2)

    def test_report_and_profile(self):
        session = cxvp.Session(self.layer, config=CHIP)
        with self.assertRaises(cxvp.UsageError):
            session.report()
        x = np.ones((4, 12), np.float32)
        session.run(None, {"x": x})
        report = session.report()
        self.assertEqual(report["macs"], 4 * 12 * 20)
        self.assertGreater(report["latency_us"], report["launch_us"])
        domains = sum(value for name, value in report["energy_uj"].items() if name != "total")
        self.assertAlmostEqual(report["energy_uj"]["total"], domains, delta=1e-6 * domains)
        self.assertGreater(domains, 0)
        self.assertEqual(report["bytes"]["inputs"], x.nbytes)
        self.assertEqual(report["precision"], "fp32")
        self.assertEqual(report["session"]["compilations"], 1)
        self.assertEqual(set(report["engines"]), {"load", "store", "dmmu", "vpu", "sca"})
        profile = session.profile({"x": x})
        self.assertGreaterEqual(len(profile["groups"]), 1)
        session.run(None, {"x": x})
        again = session.report()
        self.assertEqual((again["cycles"], again["engines"]), (report["cycles"], report["engines"]))

    def test_state_stays_on_the_device(self):
        session = cxvp.Session(self.counter, config=CHIP)
        step = np.arange(8, dtype=np.float32).reshape(1, 8)
        a = session.device.zeros((2, 8))
        b = session.device.tensor(np.full((2, 8), 7, np.float32))
        for _ in range(5):
            session.bind_input("state", a)
            session.bind_output("next", b)
            self.assertEqual(session.run(None, {"step": step}), [])
            self.assertEqual(session.report()["bytes"]["outputs"], 0)
            a, b = b, a
        np.testing.assert_array_equal(a.numpy(), np.tile(5 * step, (2, 1)))
        self.assertEqual((a.shape, a.dtype, a.nbytes), ((2, 8), np.float32, 64))
        a.write(np.ones((2, 8), np.float32))
        session.bind_input("state", a)
        session.bind_output("next", None)
        np.testing.assert_array_equal(session.run(["next"], {"step": step})[0], np.tile(step + 1, (2, 1)))
        with self.assertRaisesRegex(cxvp.InputError, r"the array is float32 \[8\]"):
            a.write(np.ones(8, np.float32))

    def test_sessions_share_the_device(self):
        first = cxvp.Session(self.layer, config=CHIP)
        second = cxvp.Session(self.counter, config=CHIP)
        third = cxvp.Session(self.counter, device=first.device)
        self.assertIs(first.device, second.device)
        self.assertIs(first.device, third.device)
        self.assertEqual(first.device, cxvp.Device(CHIP))
        other = cxvp.Session(self.counter, config=CHIP, set=["spm.kib=256"])
        self.assertNotEqual(other.device, first.device)
        self.assertEqual(other.device.info()["spm_bytes"], 256 << 10)
        before = first.device.info()["dram_used_bytes"]
        extra = cxvp.Session(self.layer, device=first.device)
        extra.run(None, {"x": np.ones((2, 12), np.float32)})
        self.assertGreater(first.device.info()["dram_used_bytes"], before)
        del extra
        self.assertEqual(first.device.info()["dram_used_bytes"], before)

    def test_errors(self):
        session = cxvp.Session(self.layer, config=CHIP)
        good = np.ones((2, 12), np.float32)
        for feed, text in (
            ({}, r"input 'x', float32 \[rows, 12\], is missing"),
            ({"z": good}, "has no input 'z'"),
            ({"x": good.astype(np.float64)}, r"got float64 \[2, 12\]"),
            ({"x": good[:, :5]}, r"does not fit \[rows, 12\]"),
        ):
            with self.assertRaisesRegex(cxvp.InputError, text):
                session.run(None, feed)
        with self.assertRaisesRegex(ValueError, "has no output 'q'"):
            session.run(["q"], {"x": good})
        with self.assertRaisesRegex(cxvp.InputError, "no such file"):
            cxvp.Session("/nonexistent.onnx", config=CHIP)
        with self.assertRaisesRegex(cxvp.InputError, "no such configuration"):
            cxvp.Session(self.layer, config="nonexistent")
        with self.assertRaises(cxvp.UsageError):
            cxvp.Session(self.layer, config=CHIP, precision="fp5")
        unsupported = save_model(
            self.folder.name,
            "unsupported",
            [helper.make_node("RandomNormalLike", ["x"], ["y"])],
            [("x", TensorProto.FLOAT, [4])],
            [("y", TensorProto.FLOAT, [4])],
        )
        with self.assertRaises(cxvp.UnsupportedError) as caught:
            cxvp.Session(unsupported, config=CHIP).run(None, {"x": np.ones(4, np.float32)})
        self.assertEqual(caught.exception.op, "RandomNormalLike")
        with self.assertRaises(MemoryError):
            session.device.zeros((1 << 40,), np.float32)
        self.assertTrue(issubclass(cxvp.TimeoutError, cxvp.DeviceFault))
        self.assertTrue(issubclass(cxvp.DeviceFault, cxvp.Error))
        self.assertEqual(session.run(["y"], {"x": good})[0].shape, (2, 20))

    def test_calibration(self):
        random = np.random.default_rng(7)
        samples = [{"x": random.uniform(-1, 1, (rows, 12)).astype(np.float32)} for rows in (3, 5)]
        samples[1]["x"][4, 2] = 2.5
        x = random.uniform(-1, 1, (4, 12)).astype(np.float32)
        exact = np.maximum(x @ self.w + self.b, 0)
        for precision, error in (("int8", 0.2), ("fp8_e4m3", 0.8)):
            session = cxvp.Session(self.layer, config=CHIP, precision=precision, calibration=samples)
            self.assertEqual(session.ranges, {"x": 2.5})
            y = session.run(["y"], {"x": x})[0]
            self.assertLess(np.abs(y - exact).max(), error)
            self.assertGreater(np.abs(y - exact).max(), 0)
            # The same ranges from a file and as they are give the same bits; those of one sample are finer.
            path = os.path.join(self.folder.name, "ranges.json")
            with open(path, "w") as out:
                json.dump(session.ranges, out)
            for given in ({"calibration": path}, {"calibration": pathlib.Path(path)}, {"ranges": session.ranges}):
                again = cxvp.Session(self.layer, config=CHIP, precision=precision, **given)
                np.testing.assert_array_equal(again.run(["y"], {"x": x})[0], y)
            one = cxvp.Session(self.layer, config=CHIP, precision=precision, calibration=samples[0])
            self.assertEqual(one.ranges, {"x": np.abs(samples[0]["x"]).max()})
        self.assertEqual(cxvp.Session(self.layer, config=CHIP).ranges, {})

    def test_calibration_errors(self):
        good = {"x": np.ones((1, 12), np.float32)}
        for kind, text, arguments in (
            (cxvp.UsageError, "no ranges to calibrate", {"precision": "fp16", "calibration": good}),
            (cxvp.UsageError, "one of them", {"precision": "int8", "calibration": good, "ranges": {"x": 1.0}}),
            (cxvp.UsageError, "no samples", {"precision": "int8", "calibration": []}),
            (TypeError, "iter", {"precision": "int8", "calibration": 3}),
            (cxvp.InputError, "absent.json", {"precision": "int8", "calibration": "/absent.json"}),
            (cxvp.InputError, "'z'", {"precision": "int8", "calibration": {**good, "z": good["x"]}}),
            (cxvp.InputError, "'x'", {"precision": "int8", "calibration": {}}),
            (cxvp.InputError, "not finite", {"precision": "int8", "calibration": {"x": good["x"] * np.nan}}),
        ):
            with self.assertRaisesRegex(kind, text):
                cxvp.Session(self.layer, config=CHIP, **arguments)

    def test_host_fallback(self):
        path = save_model(
            self.folder.name,
            "places",
            [
                helper.make_node("Neg", ["x"], ["negative"]),
                helper.make_node("NonZero", ["negative"], ["places"], name="finder"),
                helper.make_node("Add", ["places", "places"], ["y"]),
            ],
            [("x", TensorProto.FLOAT, ["n", 3])],
            [("y", TensorProto.INT64, [2, "found"])],
        )
        session = cxvp.Session(path, config=CHIP)
        x = np.array([[0, 5, 0], [0, 0, -2]], np.float32)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], 2 * np.array(np.nonzero(x)))
        report = session.report()
        self.assertEqual(report["programs"], 2)
        self.assertFalse(report["host_only"])
        self.assertEqual([(h["op"], h["nodes"]) for h in report["host_fallback"]], [("NonZero", ["finder"])])
        self.assertEqual(report["precision"], "fp32")

    def test_device_fault(self):
        # An index that is out of range is known to the device alone.
        path = save_model(
            self.folder.name,
            "lookup",
            [helper.make_node("Gather", ["table", "i"], ["y"])],
            [("i", TensorProto.INT64, ["n"])],
            [("y", TensorProto.FLOAT, ["n", 6])],
            [("table", np.arange(60, dtype=np.float32).reshape(10, 6))],
        )
        session = cxvp.Session(path, config=CHIP)
        indices = np.array([3, 0, 9, -1], np.int64)
        np.testing.assert_array_equal(
            session.run(None, {"i": indices})[0], np.arange(60, dtype=np.float32).reshape(10, 6)[indices]
        )
        with self.assertRaises(cxvp.DeviceFault) as caught:
            session.run(None, {"i": np.array([3, 0, 10, 1], np.int64)})
        self.assertNotEqual(caught.exception.status, 0)
        self.assertGreaterEqual(caught.exception.engine, 0)
        self.assertEqual(session.run(None, {"i": indices})[0].shape, (4, 6))

    def test_threads(self):
        session = cxvp.Session(self.layer, config=CHIP)
        other = cxvp.Session(self.layer, config=CHIP)
        random = np.random.default_rng(8)
        cases = [random.standard_normal((rows, 12)).astype(np.float32) for rows in (1, 2, 3, 4)]
        problems = []

        def work(which, x):
            try:
                for _ in range(3):
                    y = which.run(["y"], {"x": x})[0]
                    np.testing.assert_allclose(y, self.expected(x), rtol=1e-5, atol=1e-5)
                    which.report()
            except BaseException as problem:  # an assertion in a thread must reach the test
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(s, x)) for s in (session, other) for x in cases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])

    def test_other_threads_run_during_a_run(self):
        session = cxvp.Session(self.layer, config=CHIP)
        x = np.ones((512, 12), np.float32)
        session.run(None, {"x": x})
        counted = [0]
        done = threading.Event()

        def count():
            while not done.is_set():
                counted[0] += 1
                time.sleep(0.0002)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(100)  # nobody is made to give way: the thread counts only while run() lets it
        thread = threading.Thread(target=count)
        thread.start()
        try:
            before = counted[0]
            for _ in range(100):
                session.run(None, {"x": x})
                if counted[0] > before:
                    break
            self.assertGreater(counted[0], before)
        finally:
            done.set()
            sys.setswitchinterval(interval)
            thread.join()


if __name__ == "__main__":
    unittest.main()

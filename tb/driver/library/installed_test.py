"""The installed tree: complete, free of this computer's paths, and usable from programs outside by pkg-config and CMake."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BUILD = pathlib.Path(os.environ["CX_BUILD"])
SOURCE = pathlib.Path(os.environ["CX_SOURCE"])


def output_of(command, **options):
    result = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            **options)
    if result.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout}")
    return result.stdout


class InstalledTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        first = cls.folder / "first"
        output_of(["cmake", "--install", BUILD, "--prefix", first])
        # What is installed may be moved.
        cls.prefix = cls.folder / "moved"
        first.rename(cls.prefix)
        cls.lib = cls.prefix / os.environ["CX_LIBDIR"]
        cls.environment = {name: value for name, value in os.environ.items() if not name.startswith("CX_")}
        cls.environment["PKG_CONFIG_PATH"] = str(cls.lib / "pkgconfig")
        cls.environment["CCACHE_DISABLE"] = "1"
        random = np.random.default_rng(7)
        cls.w = random.standard_normal((12, 4)).astype(np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Relu", ["product"], ["y"])], "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 12])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], [numpy_helper.from_array(cls.w, "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        cls.model = cls.folder / "layer.onnx"
        onnx.save(model, cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def run_outside(self, command):
        """In an empty folder and environment, so that nothing of the build is found by chance."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return output_of(command, env=self.environment, cwd=work)

    def check_result(self, line):
        expected = np.maximum(np.full((1, 12), 0.5, np.float32) @ self.w, 0)[0]
        values = [float(value) for value in line.split(":")[-1].split()]
        np.testing.assert_allclose([value for value in values], expected, rtol=1e-5, atol=1e-6)

    def test_files(self):
        for name in ("bin/cx", "include/cx/cx.h", "include/cx/cx.hpp", "include/cx/error.hpp",
                     "share/cxvp/configs/tiny.yaml", "share/cxvp/configs/cx3210.yaml"):
            self.assertTrue((self.prefix / name).is_file(), name)
        for name in ("libcx.so", "pkgconfig/cx.pc", "cmake/cx/cxConfig.cmake", "cmake/cx/cxConfigVersion.cmake"):
            self.assertTrue((self.lib / name).exists(), name)
        dynamic = output_of(["readelf", "-d", self.lib / "libcx.so"])
        header = (self.prefix / "include/cx/cx.h").read_text()
        abi = re.search(r"CX_ABI_VERSION (\d+)u", header).group(1)
        self.assertIn(f"soname: [libcx.so.{abi}]", dynamic)
        self.assertNotIn("RUNPATH", dynamic)

    def test_no_paths_of_this_computer(self):
        for path in self.prefix.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                for forbidden in (SOURCE, BUILD):
                    self.assertNotIn(str(forbidden).encode(), content, f"{path.name} names {forbidden}")

    def test_command_finds_its_configurations(self):
        text = self.run_outside([self.prefix / "bin/cx", "config", "show", "tiny"])
        self.assertIn("dmmu:", text)
        self.assertIn("MSI-X", self.run_outside([self.prefix / "bin/cx", "info", "--config", "tiny"]))
        link = self.folder / "cx-by-link"
        link.symlink_to(self.prefix / "bin/cx")
        self.assertIn("dmmu:", self.run_outside([link, "config", "show", "tiny"]))

    def test_c_example_by_pkg_config(self):
        flags = self.run_outside(["pkg-config", "--cflags", "--libs", "cx"]).split()
        program = self.folder / "run_model"
        self.run_outside(["gcc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", SOURCE / "examples/c/run_model.c", *flags,
                          f"-Wl,-rpath,{self.lib}", "-o", program])
        lines = self.run_outside([program, self.model, "tiny"]).splitlines()
        self.check_result(lines[0])
        self.assertRegex(lines[1], r"^[1-9][\d.]* us simulated, [1-9]\d* cycles$")
        failed = subprocess.run([program, self.model, "no-such-card"], env=self.environment, text=True, stderr=subprocess.PIPE)
        self.assertEqual(failed.returncode, 1)
        self.assertIn("no such configuration file", failed.stderr)

    def build_by_cmake(self, example):
        source, build = self.folder / example, self.folder / (example + "-build")
        shutil.copytree(SOURCE / "examples" / example, source)
        self.run_outside(["cmake", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}"])
        self.run_outside(["cmake", "--build", build])
        return build

    def test_c_example_by_cmake(self):
        lines = self.run_outside([self.build_by_cmake("c") / "run_model", self.model, "tiny"]).splitlines()
        self.check_result(lines[0])

    def test_cpp_example_by_cmake(self):
        program = self.folder / "layer.cxb"
        self.run_outside([self.prefix / "bin/cx", "convert", self.model, "--config", "tiny", "-o", program])
        lines = self.run_outside([self.build_by_cmake("cpp") / "run_program", program, "tiny"]).splitlines()
        self.check_result(lines[0])
        self.assertIn(", 3 packets", lines[1])
        self.check_result(lines[2])
        self.assertIn(", 2 packets", lines[3])
        self.assertRegex(lines[4], r"^[1-9][\d.]* us simulated for 8 launches of a command buffer$")

    def test_cmake_refuses_another_abi(self):
        source = self.folder / "other"
        source.mkdir()
        (source / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.25)\nproject(other C)\nfind_package(cx 99 REQUIRED)\n")
        with self.assertRaisesRegex(AssertionError, "considered but not accepted"):
            self.run_outside(["cmake", "-S", source, "-B", source / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}"])


if __name__ == "__main__":
    unittest.main()

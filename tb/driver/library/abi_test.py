"""scripts/abi.py sees what it says it sees."""
import importlib.util
import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("abi", ROOT / "scripts/abi.py")
abi = importlib.util.module_from_spec(spec)
spec.loader.exec_module(abi)

HEADER = """
/* Says something. */
typedef struct cx_a {
  size_t struct_size;
  uint32_t one, two; /* three; */
  const char *const *texts;
  void (*call)(void *context, int value);
  uint8_t bytes[4];
} cx_a;
typedef enum cx_e { CX_X = 0, CX_Y = 1 /* last */ } cx_e;
/* Documented. */
cx_result cx_first(cx_a *a);

cx_result cx_second(const cx_a *a,
                    int b);
"""


class AbiTest(unittest.TestCase):
    def test_functions_and_comments(self):
        functions = abi.declared_functions(HEADER)
        self.assertEqual(list(functions), ["cx_first", "cx_second"])
        self.assertEqual(abi.undocumented(HEADER, functions), ["cx_second"])

    def test_members(self):
        program = abi.layout_program(HEADER)
        for member in ("struct_size", "one", "two", "texts", "call", "bytes"):
            self.assertIn(f'"{member}", offsetof', program)
        self.assertNotIn("three", program)
        for value in ("CX_X", "CX_Y"):
            self.assertIn(f'"{value}"', program)

    def test_additions_are_no_breaks(self):
        old = ["function f CX_1", "struct s 16", "member s.a 0 8", "value CX_X 0", "macro CX_API_VERSION 1"]
        new = ["function f CX_1", "function g CX_2", "struct s 24", "member s.a 0 8", "member s.b 16 8", "value CX_X 0",
               "macro CX_API_VERSION 2"]
        self.assertEqual(abi.breaks(old, new), [])

    def test_breaks(self):
        old = ["function f CX_1", "struct s 16", "member s.a 0 8", "value CX_X 0"]
        for gone in range(len(old)):
            self.assertEqual(len(abi.breaks(old, old[:gone] + old[gone + 1:])), 1, old[gone])
        for changed in ("function f CX_2", "struct s 8", "member s.a 8 8", "member s.a 0 4", "value CX_X 1"):
            new = [changed if abi.key_of(changed) == abi.key_of(line) else line for line in old]
            self.assertEqual(len(abi.breaks(old, new)), 1, changed)

    def test_structs_without_size_may_not_grow(self):
        self.assertEqual(abi.struct_rules(HEADER + "typedef struct cx_r {\n  int a;\n} cx_r;\n"), {"cx_r"})

    def test_every_node_of_the_map_ends_with_the_rest_hidden(self):
        text = abi.map_text({"cx_a": "CX_1", "cx_b": "CX_2", "cx_c": "CX_10"})
        self.assertRegex(text, r"CX_10 \{\n  global:\n    cx_c;\n\} CX_2;")
        self.assertEqual(text.count("local:"), 1)


if __name__ == "__main__":
    unittest.main()

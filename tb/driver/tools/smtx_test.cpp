// Files of sparsity patterns: what they hold, and a message with the line for each damage.
#include "driver/tools/smtx.hpp"

#include <catch2/catch.hpp>

#include "driver/include/cx/error.hpp"

using cx::tools::parse_smtx;

TEST_CASE("a pattern has rows, offsets and columns in any order of a row") {
  const auto pattern = parse_smtx("3, 4, 4\n0 2 2 4\n3 0 1 2\n", "m.smtx");
  CHECK(pattern.rows == 3);
  CHECK(pattern.columns == 4);
  CHECK(pattern.nonzeros() == 4);
  CHECK(pattern.offsets == std::vector<int64_t>{0, 2, 2, 4});
  CHECK(pattern.indices == std::vector<int64_t>{0, 3, 1, 2});
  CHECK(pattern.sparsity() == Approx(1 - 4 / 12.0));
}

TEST_CASE("a pattern without non-zeros may lack its last line") {
  CHECK(parse_smtx("2, 2, 0\n0 0 0", "m.smtx").nonzeros() == 0);
  CHECK(parse_smtx("2, 2, 0\n0 0 0\n\n", "m.smtx").sparsity() == 1);
}

TEST_CASE("every damage names its line") {
  struct Case {
    const char *text, *message;
  };
  const Case cases[] = {
      {"", "m.smtx:1: the file ends before rows, columns and non-zeros"},
      {"2, 2\n0 0 0\n", "m.smtx:1: 2 numbers"},
      {"2, x, 0\n0 0 0\n", "m.smtx:1: 'x'"},
      {"2, -1, 0\n0 0 0\n", "m.smtx:1: '-1'"},
      {"0, 2, 0\n0\n", "m.smtx:1: 0 rows"},
      {"65536, 65536, 0\n", "m.smtx:1: 65536 rows of 65536 columns"},
      {"2, 2, 5\n", "m.smtx:1: 5 non-zeros in 4 elements"},
      {"2, 2, 1\n", "m.smtx:2: the file ends before the row offsets"},
      {"2, 2, 1\n0 1\n0\n", "m.smtx:2: 2 row offsets, 2 rows need 3"},
      {"2, 2, 1\n1 1 1\n0\n", "m.smtx:2: the first row offset is 1"},
      {"2, 2, 1\n0 2 1\n0\n", "m.smtx:2: row 1 begins at 2 and ends at 1"},
      {"2, 2, 1\n0 1 2\n0\n", "m.smtx:2: the last row offset is 2"},
      {"2, 2, 1\n0 1 1\n", "m.smtx:3: the file ends before the column indices"},
      {"2, 2, 1\n0 1 1\n0 1\n", "m.smtx:3: 2 column indices"},
      {"2, 2, 1\n0 1 1\n2\n", "m.smtx:3: row 0: column 2 of 2"},
      {"2, 2, 2\n0 2 2\n1 1\n", "m.smtx:3: row 0: column 1 stands there twice"},
      {"2, 2, 1\n0 1 1\n0\n7\n", "m.smtx:4: a fourth line"},
  };
  for (const Case &c : cases) {
    INFO(c.text);
    try {
      parse_smtx(c.text, "m.smtx");
      FAIL("accepted");
    } catch (const cx::InputError &error) {
      CHECK_THAT(error.what(), Catch::StartsWith(c.message));
    }
  }
}

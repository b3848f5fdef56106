// Topology files: what they hold, and a message with line and column for each damage.
#include "driver/tools/layers.hpp"

#include <catch2/catch.hpp>

#include "driver/include/cx/error.hpp"

using cx::tools::Layer;
using cx::tools::parse_layers;

TEST_CASE("products have M, N and K") {
  const auto layers = parse_layers("Layer, M, N, K,\ng128,128,256,512,\n\n  q , 1 ,2,3\r\n", "l.csv");
  REQUIRE(layers.size() == 2);
  CHECK(layers[0].name == "g128");
  CHECK_FALSE(layers[0].is_conv);
  CHECK(layers[0].m == 128);
  CHECK(layers[0].n == 256);
  CHECK(layers[0].k == 512);
  CHECK(layers[1].name == "q");
  CHECK(layers[1].macs() == 6);
}

TEST_CASE("convolutions become products of output points, filters and their elements") {
  const auto layers = parse_layers(
      "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
      "Conv1,224,224,7,7,3,64,2,\nstrip,5,9,2,3,4,6,3\n",
      "l.csv");
  REQUIRE(layers.size() == 2);
  // 109.5 windows count as 110.
  CHECK(layers[0].m == 110 * 110);
  CHECK(layers[0].n == 64);
  CHECK(layers[0].k == 147);
  CHECK(layers[1].is_conv);
  CHECK(layers[1].conv.stride == 3);
  CHECK(layers[1].m == 2 * 3);
  CHECK(layers[1].k == 2 * 3 * 4);
}

TEST_CASE("every damage of a topology file names its line and column") {
  const std::string products = "Layer,M,N,K,\n",
                    convs =
                        "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,\n";
  struct Case {
    std::string text, message;
  };
  const std::string number = "expected a whole number from 1 to 1048576";
  std::vector<Case> cases = {
      {"", "l.csv:1:1: the file is empty"},
      {"Layer\n", "l.csv:1:1: expected the columns"},
      {"Name,M,N,K\na,1,1,1\n", "l.csv:1:1: column 'Name'"},
      {"Layer,M,N\na,1,1\n", "l.csv:1:9: column 'K' is missing"},
      {"Layer,M,K,N\na,1,1,1\n", "l.csv:1:9: column 'K', expected 'N'"},
      {"Layer,M,N,K,Sparsity\na,1,1,1,2:4\n", "l.csv:1:13: column 'Sparsity' is one too many"},
      {"Layer,IFMAP Height,Width\n", "l.csv:1:20: column 'Width', expected 'IFMAP Width'"},
      {products, "l.csv:1:1: no layer follows"},
      {products + "\n,1,2,3\n", "l.csv:3:1: Layer: empty"},
      {products + "a,1,2,3,4\n", "l.csv:2:9: '4' after the last column, expected 3 numbers"},
      {products + "a,1,2\n", "l.csv:2:6: K: missing, " + number},
      {products + "a,0,2,3\n", "l.csv:2:3: M: '0', " + number},
      {products + "a,1, x,3\n", "l.csv:2:6: N: 'x', " + number},
      {products + "a,1,2,3.5\n", "l.csv:2:7: K: '3.5', " + number},
      {products + "a,1048577,2,3\n", "l.csv:2:3: M: '1048577', " + number},
      {convs + "c,4,4,5,1,1,1,1\n", "l.csv:2:7: Filter Height: 5, expected at most the IFMAP Height of 4"},
      {convs + "c,4,4,1,5,1,1,1\n", "l.csv:2:9: Filter Width: 5, expected at most the IFMAP Width of 4"},
      {convs + "c,8192,8192,1,1,1,1,1\n", "l.csv:2:1: 67108864 output points, expected at most 16777216"},
      {convs + "c,64,64,64,64,8192,1,1\n", "l.csv:2:1: 33554432 elements of a filter, expected at most 16777216"},
  };
  const char *const columns[] = {"IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width",
                                 "Channels",     "Num Filter",  "Strides"};
  for (std::size_t field = 0; field < std::size(columns); ++field) {
    std::string line = "c";
    for (std::size_t i = 0; i < std::size(columns); ++i) line += i == field ? ",-1" : ",1";
    cases.push_back(
        {convs + line + "\n", "l.csv:2:" + std::to_string(3 + 2 * field) + ": " + columns[field] + ": '-1', "});
  }
  for (const Case &c : cases) {
    INFO(c.text);
    try {
      parse_layers(c.text, "l.csv");
      FAIL("no error");
    } catch (const cx::InputError &error) {
      CHECK_THAT(error.what(), Catch::StartsWith(c.message));
    }
  }
}

TEST_CASE("a topology file that is not there is an error") {
  CHECK_THROWS_WITH(cx::tools::load_layers("/nowhere/l.csv"), "/nowhere/l.csv: cannot be read");
}

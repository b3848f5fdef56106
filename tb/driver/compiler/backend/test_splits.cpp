#include <algorithm>
#include <catch2/catch.hpp>

#include "driver/compiler/backend/gemm.hpp"

using namespace cx;
using namespace cx::compiler::backend;

namespace {

Target large() {
  Target target;
  target.tiles = 384;
  target.tile_rows = target.tile_cols = 32;
  target.tile_acc_rows = 1024;
  target.spm_bytes_per_cycle = 16384;
  return target;
}

}  // namespace

TEST_CASE("a product may take any number of tiles in one direction") {
  const Target target = large();
  // One block of columns leaves nothing but rows to share; 64 rows of K hide the port.
  const TileSplit rows = rank_splits(target, Dtype::FP16, 384 * 512, 32, {64, 1}).front();
  CHECK(rows.m == 384);
  CHECK(rows.n == 1);
  // One row does the reverse.
  const TileSplit columns = rank_splits(target, Dtype::FP16, 1, 384 * 32, {64, 1}).front();
  CHECK(columns.m == 1);
  CHECK(columns.n == 384);
  for (const TileSplit &split : rank_splits(target, Dtype::FP16, 4096, 4096, {4096, 1})) {
    CHECK(split.m * split.n <= 384);
  }
}

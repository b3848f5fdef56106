#include "hw/dmmu/tile_alone.hpp"

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace cx::hw {
namespace {

/// Words of elements that are evenly spread over [-1, 1), or all INT8 values.
std::vector<uint32_t> random_words(num::DType format, uint32_t pack, size_t words) {
  std::vector<uint32_t> result(words, 0);
  const size_t bits = 8 * num::bytes_of(format);
  uint64_t state = 1;
  for (uint32_t &word : result) {
    for (uint32_t l = 0; l < pack; ++l) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const float value = static_cast<float>(static_cast<int32_t>(state >> 40) - (1 << 23)) / (1 << 23);
      uint32_t element = 0;
      num::encode(format, format == num::DType::INT8 ? 127 * value : value, &element);
      word |= element << (bits * l);
    }
  }
  return result;
}

}  // namespace

TileAlone run_tile_alone(const TileShape &shape, num::DType format, uint32_t m, uint32_t blocks, uint32_t folds) {
  if ((shape.formats >> static_cast<unsigned>(format) & 1) == 0) {
    throw std::invalid_argument("the tile does not multiply " + std::string(num::name_of(format)));
  }
  if (m < 1 || m > shape.acc_rows) throw std::invalid_argument("m is 1 to the accumulator rows");
  const auto sim = rtl::make_tile_sim(shape);
  const uint32_t pack = elements_per_word(shape, format);
  const std::vector<uint32_t> weights = random_words(format, pack, size_t{shape.rows} * shape.cols);
  const std::vector<uint32_t> activations = random_words(format, pack, size_t{m} * shape.rows);
  TileAlone result;

  const auto tick = [&] {
    sim->tick();
    ++result.cycles;
  };
  const auto command = [&](rtl::TileSim::Op op) {
    sim->in.cmd_op = op;
    sim->in.cmd_valid = true;
    for (sim->settle(); !sim->out.cmd_ready;) tick();
    tick();
    sim->in.cmd_valid = false;
  };

  const auto begin = std::chrono::steady_clock::now();
  sim->in.cmd_m = static_cast<uint16_t>(m);
  sim->in.cmd_k = static_cast<uint16_t>(longest_k(shape, format));
  sim->in.cmd_n = static_cast<uint8_t>(shape.cols);
  sim->in.d_ready = true;
  for (uint32_t block = 0; block < blocks; ++block) {
    for (uint32_t fold = 0; fold < folds; ++fold) {
      sim->in.cmd_fmt = static_cast<uint8_t>(format);
      command(rtl::TileSim::Op::kLoad);
      sim->in.w_valid = true;
      for (uint32_t r = 0; r < shape.rows; ++r) {
        std::memcpy(sim->w_row, &weights[size_t{r} * shape.cols], shape.cols * sizeof(uint32_t));
        tick();
      }
      sim->in.w_valid = false;
      sim->in.cmd_accumulate = fold != 0;
      command(rtl::TileSim::Op::kMul);
      sim->in.a_valid = true;
      for (uint32_t i = 0; i < m; ++i) {
        std::memcpy(sim->a_row, &activations[size_t{i} * shape.rows], shape.rows * sizeof(uint32_t));
        tick();
      }
      sim->in.a_valid = false;
    }
    sim->in.cmd_fmt = static_cast<uint8_t>(num::DType::FP32);
    sim->in.cmd_integer = format == num::DType::INT8;
    command(rtl::TileSim::Op::kDrain);
    while (!sim->out.idle) tick();
  }
  result.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.macs = uint64_t{blocks} * folds * m * shape.cols * longest_k(shape, format);
  return result;
}

}  // namespace cx::hw

#include "hw/dmmu/tile_alone.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <ctime>
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

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

TileAlone run_tile_alone(const TileShape &shape, num::DType format, uint32_t m, uint32_t blocks, uint32_t folds) {
  if ((shape.formats >> static_cast<unsigned>(format) & 1) == 0) {
    throw std::invalid_argument("the tile does not multiply " + std::string(num::name_of(format)));
  }
  if (m < 1 || m > shape.acc_rows) throw std::invalid_argument("m is 1 to the accumulator rows");
  const auto sim = rtl::make_tile_sim(shape);
  const uint32_t pack = elements_per_word(shape, format);
  // Operands of its own for every pass, as a product has them: repeated ones would be easier for the host's branch
  // prediction. Beyond kDistinct passes they come again.
  constexpr uint32_t kDistinct = 1024;
  const uint32_t distinct = std::min<uint64_t>(kDistinct, uint64_t{blocks} * folds);
  const std::vector<uint32_t> weights = random_words(format, pack, size_t{folds} * shape.rows * shape.cols);
  const std::vector<uint32_t> activations = random_words(format, pack, size_t{distinct} * m * shape.rows);
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
  const double cpu_begin = cpu_seconds();
  sim->in.cmd_m = static_cast<uint16_t>(m);
  sim->in.cmd_k = static_cast<uint16_t>(longest_k(shape, format));
  sim->in.cmd_n = static_cast<uint8_t>(shape.cols);
  sim->in.d_ready = true;
  // Taken when a drain asks for it.
  const bool eight_bit = num::bytes_of(format) == 1;
  sim->in.p_valid = true;
  std::fill_n(sim->p_row, shape.cols, std::bit_cast<uint32_t>(1.0f / 128));
  for (uint32_t block = 0; block < blocks; ++block) {
    for (uint32_t fold = 0; fold < folds; ++fold) {
      sim->in.cmd_fmt = static_cast<uint8_t>(format);
      command(rtl::TileSim::Op::kLoad);
      sim->in.w_valid = true;
      for (uint32_t r = 0; r < shape.rows; ++r) {
        std::copy_n(&weights[(size_t{fold} * shape.rows + r) * shape.cols], shape.cols, sim->w_row);
        tick();
      }
      sim->in.w_valid = false;
      sim->in.cmd_accumulate = fold != 0;
      command(rtl::TileSim::Op::kMul);
      sim->in.a_valid = true;
      const uint32_t *row = &activations[size_t{(block * folds + fold) % distinct} * m * shape.rows];
      for (uint32_t i = 0; i < m; ++i) {
        std::copy_n(row + size_t{i} * shape.rows, shape.rows, sim->a_row);
        tick();
      }
      sim->in.a_valid = false;
    }
    sim->in.cmd_fmt = static_cast<uint8_t>(eight_bit ? num::DType::FP16 : format);
    sim->in.cmd_integer = format == num::DType::INT8;
    sim->in.cmd_has_scale = eight_bit;
    command(rtl::TileSim::Op::kDrain);
    while (!sim->out.idle) tick();
  }
  result.cpu_s = cpu_seconds() - cpu_begin;
  result.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.macs = uint64_t{blocks} * folds * m * shape.cols * longest_k(shape, format);
  return result;
}

}  // namespace cx::hw

// What a program is compiled for.
#pragma once

#include <cstdint>

namespace cx {

/// What a program is compiled for. Read from the capability registers of a device; two devices with equal arch_hash
/// run each other's programs.
struct Target {
  uint64_t arch_hash = 0;
  uint32_t clock_khz = 0;
  uint32_t tiles = 0;
  uint32_t tile_rows = 0;      ///< K per pass
  uint32_t tile_cols = 0;      ///< N per pass and tile
  uint32_t tile_acc_rows = 0;  ///< rows of a tile's accumulator memory
  uint32_t tile_pack = 1;      ///< products of 8-bit formats per element and cycle: K per pass is tile_rows * tile_pack
  bool output_stationary = false;  ///< programs shall use MM_MUL_OS
  uint32_t sca_tiles = 0;          ///< sparse tiles; 0: none
  uint32_t sca_rows = 0;           ///< rows of M of a sparse tile
  uint32_t sca_cols = 0;           ///< columns of a group of compressed weights
  uint32_t sca_acc_rows = 0;       ///< groups that a sparse tile's accumulators hold
  uint32_t sca_depth = 0;          ///< longest K of a sparse tile
  uint32_t sca_window = 0;         ///< positions along K that its columns may be apart
  uint32_t sca_queue = 0;          ///< weights in the queue of a column
  /// MAC tiles and sparse tiles are the same slots: of `tiles`, a program's image says how many are sparse tiles, up to
  /// sca_tiles; the others are MAC tiles. Otherwise a program has all of both.
  bool shared_array = false;
  uint32_t array_switch_cycles = 0;  ///< that a change of the split takes
  uint32_t vpu_lanes = 0;
  uint32_t spm_bytes = 0;
  uint32_t spm_bytes_per_cycle = 0;
  uint32_t semaphores = 0;
  uint32_t formats = 0;  ///< bit n: the DMMU multiplies isa dtype n
  uint64_t dram_bytes = 0;
  uint32_t dram_mbps = 0;
  uint32_t dram_stream_mbps = 0;  ///< that a sequential read comes to
  uint32_t dram_latency_ns = 0;   ///< on an idle channel
  uint32_t dram_channels = 0;
  uint32_t dram_stripe_bytes = 0;  ///< consecutive bytes in one channel
  uint32_t noc_way_cycles = 0;     ///< one way over the idle network on chip
};

}  // namespace cx

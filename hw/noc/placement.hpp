// Which router each block of the chip hangs on. No SystemC.
#ifndef HW_NOC_PLACEMENT_HPP
#define HW_NOC_PLACEMENT_HPP

#include <map>
#include <span>
#include <stdexcept>
#include <string>

#include "hw/noc/topology.hpp"

namespace cx::hw {

struct PlacementError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Routers by block. Blocks: cp, host (the PCIe endpoint), sdma, load, store, dmmu, vpu, sca, registers (of the blocks
// that are no initiator), tcm, spm, and dram0, dram1, ... for each channel of DRAM.
//
// Where nothing else is said the channels of DRAM are spread over both side columns of a mesh, the scratchpad is in the
// middle with the engines round it, and host, system DMA and control processor are at the top; on a ring all are spread
// evenly. `items` are of the form BLOCK@COLUMN:ROW (row 0 on a ring).
// Throws PlacementError for another form, an unknown block, a block named twice, or a router that does not exist.
std::map<std::string, unsigned> place_blocks(const Topology &topology, unsigned dram_channels,
                                             std::span<const std::string> items = {});

}  // namespace cx::hw

#endif

// What an instruction takes.
#ifndef HW_ENGINE_TIMING_HPP
#define HW_ENGINE_TIMING_HPP

#include "hw/sync/clock.hpp"

namespace cx::hw {

// When a data instruction lets the next one in and when its results are there, in cycles from its issue.
struct Timing {
  Cycles accept_cycles = 1;  // at least 1
  Cycles complete_cycles = 1;
};

}  // namespace cx::hw

#endif

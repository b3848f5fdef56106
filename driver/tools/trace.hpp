// The trace unit of the card in this process.
#pragma once

#include <vector>

#include "hw/common/port/cx_port.h"

namespace cx::tools {

/// A card is open.
void start_trace();
std::vector<cx_port_trace_record> finish_trace();

}  // namespace cx::tools

// Records of the trace unit of the card in this process.
#pragma once

#include <cstdint>
#include <vector>

#include "hw/regs/gen/trace.h"

namespace cx::tools {

/// Bit of a kind of record.
constexpr uint64_t trace_kind(unsigned kind) { return uint64_t{1} << kind; }

/// Records of the card that was opened last; `kinds` a sum, 0 all; samples of counters every `sample_ps`, 0 none.
/// While a TraceFile is written, samples are as it takes them. Throws Error when something is traced already.
void start_trace(uint64_t kinds = trace_kind(CX_TRACE_INSTRUCTION), uint64_t sample_ps = 0);
std::vector<cx_trace_record> finish_trace();

}  // namespace cx::tools

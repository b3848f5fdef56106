#include "driver/tools/trace.hpp"

#include <utility>

#include "driver/include/cx/error.hpp"
#include "driver/tools/trace/trace_file.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {

namespace {

std::vector<cx_trace_record> &collected() {
  static std::vector<cx_trace_record> records;
  return records;
}

}  // namespace

void start_trace(uint64_t kinds, uint64_t sample_ps) {
  collected().clear();
  // A card has one trace unit: while a file is written, its records are taken from there.
  if (TraceFile *file = TraceFile::current()) {
    const uint32_t card = cx_port_trace_card(nullptr);
    if (card == CX_PORT_NOT_TRACED) throw Error("trace: no card is open");
    file->tap(card, kinds, collected());
    return;
  }
  const FirmwareFunctions &functions = firmware_functions();
  cx_port_trace_options options{};
  options.records = [](void *, uint32_t, const cx_trace_record *records, std::size_t count) {
    collected().insert(collected().end(), records, records + count);
  };
  options.kinds = kinds;
  options.sample_ps = sample_ps;
  options.functions = functions.addresses.data();
  options.function_count = functions.addresses.size();
  if (cx_port_trace_start(&options) != CX_PORT_OK) throw Error("trace: something is traced already");
}

std::vector<cx_trace_record> finish_trace() {
  if (TraceFile *file = TraceFile::current()) {
    file->untap();
    return std::exchange(collected(), {});
  }
  if (cx_port_trace_stop() != CX_PORT_OK) throw Error("trace: nothing is traced");
  return std::exchange(collected(), {});
}

}  // namespace cx::tools

#include "driver/tools/trace.hpp"

#include <cstdlib>

#include "driver/include/cx/error.hpp"

namespace cx::tools {

void start_trace() {
  if (cx_port_trace_start() != CX_PORT_OK) throw Error("trace: no card is open in this process");
}

std::vector<cx_port_trace_record> finish_trace() {
  cx_port_trace_record *records = nullptr;
  std::size_t count = 0;
  if (cx_port_trace_stop(&records, &count) != CX_PORT_OK) throw Error("trace: no card is open in this process");
  std::vector<cx_port_trace_record> result(records, records + count);
  std::free(records);
  return result;
}

}  // namespace cx::tools

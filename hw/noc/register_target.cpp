#include "hw/noc/register_target.hpp"

#include <cstdint>
#include <cstring>

#include "hw/noc/origin.hpp"

namespace cx::hw {

void access_registers(regs::RegFile &registers, tlm::tlm_generic_payload &transaction) {
  const std::uint64_t address = transaction.get_address();
  if (address >= registers.size_bytes()) {
    transaction.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
    return;
  }
  if (transaction.get_data_length() != 4 || transaction.get_streaming_width() < 4) {
    transaction.set_response_status(tlm::TLM_BURST_ERROR_RESPONSE);
    return;
  }
  if (transaction.get_byte_enable_ptr()) {
    transaction.set_response_status(tlm::TLM_BYTE_ENABLE_ERROR_RESPONSE);
    return;
  }
  const regs::Side side = origin_of(transaction);
  const auto offset = static_cast<std::uint32_t>(address);
  std::uint32_t word = 0;
  regs::Result result = regs::Result::unmapped;
  if (transaction.is_read()) {
    result = registers.read(side, offset, word);
    if (result == regs::Result::ok) std::memcpy(transaction.get_data_ptr(), &word, sizeof word);
  } else if (transaction.is_write()) {
    std::memcpy(&word, transaction.get_data_ptr(), sizeof word);
    result = registers.write(side, offset, word);
  } else {
    transaction.set_response_status(tlm::TLM_COMMAND_ERROR_RESPONSE);
    return;
  }
  switch (result) {
    case regs::Result::ok:
      transaction.set_response_status(tlm::TLM_OK_RESPONSE);
      break;
    case regs::Result::unmapped:
      transaction.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
      break;
    case regs::Result::misaligned:
      transaction.set_response_status(tlm::TLM_BURST_ERROR_RESPONSE);
      break;
  }
}

}  // namespace cx::hw

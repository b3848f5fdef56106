#include "hw/noc/memory_target.hpp"

#include <algorithm>
#include <cstring>

namespace cx::hw {

unsigned access_memory(tlm::tlm_generic_payload &transaction, std::byte *memory, std::uint64_t size) {
  const std::uint64_t address = transaction.get_address();
  const unsigned length = transaction.get_data_length();
  const unsigned char *enables = transaction.get_byte_enable_ptr();
  if (address >= size || length > size - address) {
    transaction.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
    return 0;
  }
  if (length == 0 || transaction.get_streaming_width() < length) {
    transaction.set_response_status(tlm::TLM_BURST_ERROR_RESPONSE);
    return 0;
  }
  if (enables && transaction.get_byte_enable_length() == 0) {
    transaction.set_response_status(tlm::TLM_BYTE_ENABLE_ERROR_RESPONSE);
    return 0;
  }
  if (!transaction.is_read() && !transaction.is_write()) {
    transaction.set_response_status(tlm::TLM_COMMAND_ERROR_RESPONSE);
    return 0;
  }
  std::byte *there = memory + address;
  unsigned char *here = transaction.get_data_ptr();
  if (!enables) {
    if (transaction.is_read()) {
      std::memcpy(here, there, length);
    } else {
      std::memcpy(there, here, length);
    }
  } else {
    const unsigned period = transaction.get_byte_enable_length();
    for (unsigned i = 0; i < length; ++i) {
      if (enables[i % period] != TLM_BYTE_ENABLED) continue;
      if (transaction.is_read()) {
        here[i] = static_cast<unsigned char>(there[i]);
      } else {
        there[i] = static_cast<std::byte>(here[i]);
      }
    }
  }
  transaction.set_dmi_allowed(true);
  transaction.set_response_status(tlm::TLM_OK_RESPONSE);
  return length;
}

unsigned debug_memory(tlm::tlm_generic_payload &transaction, std::byte *memory, std::uint64_t size) {
  const std::uint64_t address = transaction.get_address();
  if (address >= size) return 0;
  const auto length = static_cast<unsigned>(std::min<std::uint64_t>(transaction.get_data_length(), size - address));
  if (transaction.is_read()) {
    std::memcpy(transaction.get_data_ptr(), memory + address, length);
  } else if (transaction.is_write()) {
    std::memcpy(memory + address, transaction.get_data_ptr(), length);
  }
  return length;
}

void grant_memory(tlm::tlm_dmi &dmi, std::byte *memory, std::uint64_t size) {
  dmi.set_dmi_ptr(reinterpret_cast<unsigned char *>(memory));
  dmi.set_start_address(0);
  dmi.set_end_address(size - 1);
  dmi.allow_read_write();
}

}  // namespace cx::hw

// What tests of the NoC share: where blocks lie, a master, single accesses.
#pragma once

#include <tlm_utils/simple_initiator_socket.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <systemc>
#include <tlm>

namespace cx::hw::test {

inline constexpr std::uint64_t kSpmBase = 0x1'0000'0000;
inline constexpr std::uint64_t kDramBase = 0x10'0000'0000;
inline constexpr std::uint64_t kRegsBase = 0x4000'0000;

// Remembers the last range whose DMI was taken back.
struct Master : sc_core::sc_module {
  tlm_utils::simple_initiator_socket<Master> socket;
  std::uint64_t invalidated_first = 0;
  std::uint64_t invalidated_last = 0;

  explicit Master(sc_core::sc_module_name name) : sc_module(name), socket("socket") {
    socket.register_invalidate_direct_mem_ptr(this, &Master::invalidate);
  }
  void invalidate(sc_dt::uint64 first, sc_dt::uint64 last) {
    invalidated_first = first;
    invalidated_last = last;
  }
};

struct Access {
  tlm::tlm_response_status status;
  sc_core::sc_time delay;
};

// The address must come back as it was.
inline Access access(Master &master, tlm::tlm_command command, std::uint64_t address, void *data, unsigned bytes) {
  tlm::tlm_generic_payload transaction;
  transaction.set_command(command);
  transaction.set_address(address);
  transaction.set_data_ptr(static_cast<unsigned char *>(data));
  transaction.set_data_length(bytes);
  transaction.set_streaming_width(bytes);
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  master.socket->b_transport(transaction, delay);
  CHECK(transaction.get_address() == address);
  return {transaction.get_response_status(), delay};
}

inline sc_core::sc_time ns(double value) { return sc_core::sc_time(value, sc_core::SC_NS); }

}  // namespace cx::hw::test

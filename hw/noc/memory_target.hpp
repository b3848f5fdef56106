// TLM plumbing that all plain memories share.
#ifndef HW_NOC_MEMORY_TARGET_HPP
#define HW_NOC_MEMORY_TARGET_HPP

#include <cstddef>
#include <cstdint>
#include <tlm>

namespace cx::hw {

// Carries out a read or write on `memory` of `size` bytes, with byte enables and streaming width, and sets the
// response. Returns the number of bytes of the transaction, 0 if it failed.
unsigned access_memory(tlm::tlm_generic_payload &transaction, std::byte *memory, std::uint64_t size);

// The same for transport_dbg: as many bytes as lie in the memory; byte enables are ignored.
unsigned debug_memory(tlm::tlm_generic_payload &transaction, std::byte *memory, std::uint64_t size);

// Grants reads and writes of the whole memory.
void grant_memory(tlm::tlm_dmi &dmi, std::byte *memory, std::uint64_t size);

}  // namespace cx::hw

#endif

// A register file behind a TLM target socket: aligned 32-bit words, one at a time.
#ifndef HW_NOC_REGISTER_TARGET_HPP
#define HW_NOC_REGISTER_TARGET_HPP

#include <tlm>

#include "hw/regs/regfile.hpp"

namespace cx::hw {

// Carries out a transaction on `registers` as the side that origin_of() tells. Responses: address error for an offset
// without a register, burst error for other than one aligned word, byte enable error for byte enables.
void access_registers(regs::RegFile &registers, tlm::tlm_generic_payload &transaction);

}  // namespace cx::hw

#endif

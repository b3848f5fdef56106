// Who started a transaction: blocks whose registers treat the host and the firmware differently ask this.
#ifndef HW_NOC_ORIGIN_HPP
#define HW_NOC_ORIGIN_HPP

#include <tlm>

#include "hw/regs/regfile.hpp"

namespace cx::hw {

// The NoC attaches it to each transaction according to the initiator (Noc::add_initiator).
struct OriginExtension : tlm::tlm_extension<OriginExtension> {
  regs::Side side = regs::Side::firmware;

  tlm::tlm_extension_base *clone() const override { return new OriginExtension(*this); }
  void copy_from(const tlm::tlm_extension_base &other) override {
    side = static_cast<const OriginExtension &>(other).side;
  }
};

// The side to pass to a register file. A transaction that carries no extension counts as the firmware's.
inline regs::Side origin_of(const tlm::tlm_generic_payload &transaction) {
  const auto *extension = transaction.get_extension<OriginExtension>();
  return extension ? extension->side : regs::Side::firmware;
}

}  // namespace cx::hw

#endif

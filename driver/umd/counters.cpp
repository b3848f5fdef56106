#include "driver/umd/counters.hpp"

#include <algorithm>
#include <functional>

namespace cx {

const std::array<uint64_t DramCounters::*, DramCounters::kCount> DramCounters::members = {
    &DramCounters::row_hits,    &DramCounters::row_misses,    &DramCounters::row_conflicts, &DramCounters::refreshes,
    &DramCounters::turnarounds, &DramCounters::code_bytes,    &DramCounters::busy_ns,       &DramCounters::row_ns,
    &DramCounters::activate_ns, &DramCounters::bank_group_ns, &DramCounters::turnaround_ns, &DramCounters::refresh_ns};
const std::array<const char *, DramCounters::kCount> DramCounters::names = {
    "row_hits", "row_misses", "row_conflicts", "refreshes",     "turnarounds",   "code_bytes",
    "busy_ns",  "row_ns",     "activate_ns",   "bank_group_ns", "turnaround_ns", "refresh_ns"};

namespace {

template <typename Combine>
Counters combined(const Counters &a, const Counters &b, Combine combine) {
  Counters r;
  r.cycles = combine(a.cycles, b.cycles);
  for (int i = 0; i < kEngines; ++i) {
    const EngineCounters &x = a.engines[i], &y = b.engines[i];
    r.engines[i] = {combine(x.busy_cycles, y.busy_cycles),   combine(x.stall_cycles, y.stall_cycles),
                    combine(x.instructions, y.instructions), combine(x.ops, y.ops),
                    combine(x.bytes_read, y.bytes_read),     combine(x.bytes_written, y.bytes_written)};
  }
  for (uint64_t Counters::*member :
       {&Counters::dram_read, &Counters::dram_written, &Counters::spm_read, &Counters::spm_written, &Counters::noc,
        &Counters::pcie_to_device, &Counters::pcie_to_host, &Counters::array_cycles, &Counters::packets,
        &Counters::interrupts, &Counters::firmware_instructions, &Counters::firmware_cycles}) {
    r.*member = combine(a.*member, b.*member);
  }
  for (const auto member : DramCounters::members) r.dram.*member = combine(a.dram.*member, b.dram.*member);
  // Of one card both have the same links; an empty list counts as zeros.
  const NocLinkCounters none;
  for (size_t i = 0; i < std::max(a.noc_links.size(), b.noc_links.size()); ++i) {
    const NocLinkCounters &x = i < a.noc_links.size() ? a.noc_links[i] : none;
    const NocLinkCounters &y = i < b.noc_links.size() ? b.noc_links[i] : none;
    const NocLinkCounters &named = i < a.noc_links.size() ? x : y;
    r.noc_links.push_back({named.from, named.to, combine(x.bytes, y.bytes), combine(x.busy_cycles, y.busy_cycles),
                           combine(x.waited_cycles, y.waited_cycles), combine(x.crowded_cycles, y.crowded_cycles)});
  }
  return r;
}

}  // namespace

Counters operator+(const Counters &a, const Counters &b) { return combined(a, b, std::plus<uint64_t>()); }

Counters operator-(const Counters &later, const Counters &earlier) {
  return combined(later, earlier, std::minus<uint64_t>());
}

}  // namespace cx

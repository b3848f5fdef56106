// The chip's one clock: conversion between core cycles and simulated time.
#ifndef HW_SYNC_CLOCK_HPP
#define HW_SYNC_CLOCK_HPP

#include <cstdint>
#include <systemc>

namespace cx::hw {

// A count of core clock cycles; as a point in time, cycles since simulated time 0.
using Cycles = std::uint64_t;

// The period is a whole number of picoseconds (the kernel's resolution), rounded to nearest.
class Clock {
 public:
  // Throws std::invalid_argument unless 0 < mhz <= 100000.
  explicit Clock(double mhz);

  std::uint64_t period_ps() const { return period_ps_; }
  sc_core::sc_time period() const { return sc_core::sc_time::from_value(period_ps_); }

  // Span of a number of cycles.
  sc_core::sc_time span(Cycles cycles) const { return sc_core::sc_time::from_value(cycles * period_ps_); }
  // Cycles that lie wholly before `time`.
  Cycles floor(const sc_core::sc_time &time) const { return time.value() / period_ps_; }
  // First clock edge at or after `time`.
  Cycles ceil(const sc_core::sc_time &time) const { return (time.value() + period_ps_ - 1) / period_ps_; }
  // First clock edge at or after the kernel's present time.
  Cycles now() const { return ceil(sc_core::sc_time_stamp()); }
  // From the kernel's present time to clock edge `edge`; zero if it has passed.
  sc_core::sc_time until(Cycles edge) const {
    const std::uint64_t present = sc_core::sc_time_stamp().value();
    const std::uint64_t target = edge * period_ps_;
    return sc_core::sc_time::from_value(target > present ? target - present : 0);
  }

 private:
  std::uint64_t period_ps_;
};

}  // namespace cx::hw

#endif

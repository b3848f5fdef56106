#include "hw/chip/fault_injector.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace cx::hw {

namespace {

constexpr double kPsInUs = 1e6, kPsInSecond = 1e12;

std::uint64_t now_ps() { return sc_core::sc_time_stamp().value(); }

// Time to the next of events at random.
std::uint64_t gap_ps(std::mt19937_64 &random, double rate_hz) {
  const double uniform = (static_cast<double>(random() >> 11) + 1) * 0x1p-53;  // above 0, at most 1
  return static_cast<std::uint64_t>(std::min(-std::log(uniform) / rate_hz * kPsInSecond, 1e18));
}

}  // namespace

FaultInjector::FaultInjector(sc_core::sc_module_name name, std::vector<std::string> plan, std::uint64_t seed,
                             Provoke provoke)
    : sc_module(name), plan_(std::move(plan)), seed_(seed), provoke_(std::move(provoke)), due_("due") {
  sc_core::sc_spawn_options options;
  options.spawn_method();
  options.dont_initialize();
  options.set_sensitivity(&due_);
  sc_core::sc_spawn([this] { strike(); }, "strike", &options);
  restart();
}

void FaultInjector::restart() {
  armed_.clear();
  due_.cancel();
  number_ = packets_ = launches_ = 0;
  power_on_ps_ = now_ps();
  for (const std::string &text : plan_) arm(parse_fault(text));
}

void FaultInjector::arm(const FaultSpec &spec) {
  Armed armed{spec, std::mt19937_64(spec.seed ? *spec.seed : seed_ + number_), spec.count, false};
  ++number_;
  armed.packets = packets_ + spec.after_packets.value_or(0);
  armed.launches = launches_ + spec.after_launches.value_or(0) + 1;
  if (!spec.after_launches && !(spec.after_packets && *spec.after_packets > 0)) {
    const auto at = power_on_ps_ + static_cast<std::uint64_t>(spec.at_us.value_or(0) * kPsInUs);
    armed.timed = true;
    armed.due_ps = std::max(at, now_ps());
    if (spec.rate_hz > 0) armed.due_ps += gap_ps(armed.random, spec.rate_hz);
  }
  armed_.push_back(std::move(armed));
  schedule();
}

void FaultInjector::release(Armed &armed) {
  armed.timed = true;
  armed.due_ps = now_ps();
  if (armed.spec.rate_hz > 0) armed.due_ps += gap_ps(armed.random, armed.spec.rate_hz);
}

void FaultInjector::count(std::uint64_t &counter) {
  ++counter;
  if (armed_.empty()) return;
  for (Armed &armed : armed_) {
    if (armed.timed) continue;
    if (armed.spec.after_packets ? packets_ >= armed.packets : launches_ >= armed.launches) release(armed);
  }
  schedule();
}

void FaultInjector::schedule() {
  due_.cancel();
  std::uint64_t first = UINT64_MAX;
  for (const Armed &armed : armed_) {
    if (armed.timed) first = std::min(first, armed.due_ps);
  }
  if (first == UINT64_MAX) return;
  const std::uint64_t now = now_ps();
  due_.notify(sc_core::sc_time::from_value(first > now ? first - now : 0));
}

void FaultInjector::strike() {
  const std::uint64_t now = now_ps();
  for (Armed &armed : armed_) {
    while (armed.timed && armed.left != 0 && armed.due_ps <= now) {
      --armed.left;
      provoke_(armed.spec, armed.random);
      if (armed.spec.rate_hz > 0) armed.due_ps += gap_ps(armed.random, armed.spec.rate_hz);
    }
  }
  std::erase_if(armed_, [](const Armed &armed) { return armed.left == 0; });
  schedule();
}

}  // namespace cx::hw

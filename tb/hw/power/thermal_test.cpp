// Temperatures against closed forms of simple cases and against an integrator in small steps.
#include "hw/power/thermal.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

using cx::hw::ThermalNetwork;
using cx::hw::ThermalParams;
using cx::hw::Throttle;

namespace {

struct Step {
  double watts, seconds;
};

struct Temperatures {
  double junction, sink;
};

/// Classical Runge-Kutta of fourth order with steps of a hundredth of the fastest time constant.
Temperatures integrate(const ThermalParams &p, const std::vector<Step> &trace) {
  Temperatures t{p.ambient_c, p.ambient_c};
  const auto slope = [&](const Temperatures &at, double watts) {
    const double through = (at.junction - at.sink) / p.r_junction_c_per_w;
    return Temperatures{(watts - through) / p.c_junction_j_per_c,
                        (through - (at.sink - p.ambient_c) / p.r_sink_c_per_w) / p.c_sink_j_per_c};
  };
  const auto moved = [](const Temperatures &at, const Temperatures &by, double h) {
    return Temperatures{at.junction + h * by.junction, at.sink + h * by.sink};
  };
  for (const Step &step : trace) {
    const double limit = 0.01 * p.r_junction_c_per_w * std::min(p.c_junction_j_per_c, p.c_sink_j_per_c);
    const auto count = static_cast<int>(std::ceil(step.seconds / limit));
    const double h = step.seconds / count;
    for (int i = 0; i < count; ++i) {
      const Temperatures k1 = slope(t, step.watts), k2 = slope(moved(t, k1, h / 2), step.watts),
                         k3 = slope(moved(t, k2, h / 2), step.watts), k4 = slope(moved(t, k3, h), step.watts);
      t.junction += h / 6 * (k1.junction + 2 * k2.junction + 2 * k3.junction + k4.junction);
      t.sink += h / 6 * (k1.sink + 2 * k2.sink + 2 * k3.sink + k4.sink);
    }
  }
  return t;
}

}  // namespace

TEST_CASE("the response to a step of heat, where one capacity rules") {
  // A sink that never warms: the junction alone, with one time constant.
  ThermalParams p{25, 0.4, 0.05, 0.3, 1e12};
  ThermalNetwork cold(p);
  const double tau = 0.4 * 0.05;
  for (const double seconds : {0.1 * tau, 0.9 * tau, 3 * tau}) {
    cold.reset();
    cold.advance(80, seconds);
    CHECK(cold.junction_c() == Approx(25 + 80 * 0.4 * (1 - std::exp(-seconds / tau))).epsilon(1e-9));
    CHECK(cold.sink_c() == Approx(25).epsilon(1e-9));
  }
  // A junction without capacity: it is above the sink by P r at all times.
  p = {25, 0.4, 1e-12, 0.3, 20};
  ThermalNetwork sink(p);
  const double slow = 0.3 * 20;
  sink.advance(50, 0.7 * slow);
  CHECK(sink.sink_c() == Approx(25 + 50 * 0.3 * (1 - std::exp(-0.7))).epsilon(1e-9));
  CHECK(sink.junction_c() == Approx(sink.sink_c() + 50 * 0.4).epsilon(1e-9));
}

TEST_CASE("steps may be of any length") {
  const ThermalParams p{30, 0.2, 0.15, 0.5, 3};
  ThermalNetwork whole(p), parts(p);
  whole.advance(70, 2.5);
  for (int i = 0; i < 1000; ++i) parts.advance(70, 2.5e-3);
  CHECK(parts.junction_c() == Approx(whole.junction_c()).epsilon(1e-10));
  CHECK(parts.sink_c() == Approx(whole.sink_c()).epsilon(1e-10));
  whole.advance(70, 1e6);
  CHECK(whole.junction_c() == Approx(whole.steady_c(70)));
  CHECK(whole.steady_c(70) == Approx(30 + 70 * 0.7));
  whole.advance(0, 1e6);
  CHECK(whole.junction_c() == Approx(30));
}

TEST_CASE("a trace of changing heat gives what an integrator in small steps gives") {
  constexpr unsigned kSeed = 20;
  std::mt19937 random(kSeed);
  std::uniform_real_distribution<double> unit(0, 1);
  double worst = 0;
  for (int network = 0; network < 20; ++network) {
    const ThermalParams p{20 + 30 * unit(random), 0.05 + unit(random), 0.01 + unit(random), 0.05 + unit(random),
                          0.01 + 5 * unit(random)};
    ThermalNetwork model(p);
    std::vector<Step> trace;
    INFO("seed " << kSeed << ", network " << network);
    for (int step = 0; step < 40; ++step) {
      const double tau = p.r_junction_c_per_w * p.c_junction_j_per_c;
      trace.push_back({unit(random) < 0.3 ? 0 : 200 * unit(random), tau * std::exp(4 * unit(random) - 3)});
      model.advance(trace.back().watts, trace.back().seconds);
      const Temperatures reference = integrate(p, trace);
      const double rise = std::max(reference.junction - p.ambient_c, 1.0);
      worst = std::max(worst, std::abs(model.junction_c() - reference.junction) / rise);
      worst = std::max(worst, std::abs(model.sink_c() - reference.sink) / rise);
    }
  }
  CAPTURE(worst);
  CHECK(worst < 0.005);
  CHECK(worst < 1e-6);  // what docs/validation.md says
}

TEST_CASE("the time to cool ends at the temperature that was asked for") {
  const ThermalParams p{30, 0.2, 0.15, 0.5, 3};
  ThermalNetwork network(p);
  CHECK(network.seconds_to_cool(0, 40) == 0);
  network.advance(150, 5);
  REQUIRE(network.junction_c() > 80);
  CHECK(network.seconds_to_cool(100, 80) < 0);  // steady at 100
  const double seconds = network.seconds_to_cool(20, 60);
  REQUIRE(seconds > 0);
  network.advance(20, seconds);
  CHECK(network.junction_c() == Approx(60).epsilon(1e-9));
}

TEST_CASE("edges are skipped one by one while it is hot and given back when it is cool") {
  Throttle throttle({90, 105, 1e-5});
  CHECK(throttle.stretched(1000) == 1000);
  throttle.decide(90);
  CHECK(throttle.skipped() == 0);
  throttle.decide(90.1);
  CHECK(throttle.skipped() == 1);
  CHECK(throttle.stretched(1500) == 1600);
  CHECK(throttle.stretched(1) == 2);  // a cycle never becomes shorter
  throttle.decide(89);                // neither hot nor cool
  CHECK(throttle.skipped() == 1);
  for (int i = 0; i < 40; ++i) throttle.decide(100);
  CHECK(throttle.skipped() == 15);
  CHECK(throttle.stretched(3) == 48);
  throttle.decide(87.9);
  CHECK(throttle.skipped() == 14);
  for (int i = 0; i < 40; ++i) throttle.decide(50);
  CHECK(throttle.skipped() == 0);
  CHECK_FALSE(throttle.too_hot(105));
  CHECK(throttle.too_hot(105.1));
}

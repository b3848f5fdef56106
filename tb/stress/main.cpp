#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>

#include "tb/stress/card_stress.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  statm >> size >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

void print(const char *title, const std::map<std::string, uint64_t> &counts) {
  fmt::print("  {}:", title);
  const char *separator = " ";
  for (const auto &[name, count] : counts) {
    fmt::print("{}{} {}", separator, name, count);
    separator = ", ";
  }
  fmt::print("\n");
}

}  // namespace

int main(int argc, char **argv) {
  cx::stress::Limits limits;
  uint64_t seed = 1, operations = 100'000, settle_every = 1500;
  double seconds = 0;
  std::vector<std::string> cards;
  bool no_faults = false;
  CLI::App app(
      "Random copies, launches, waits, faults and resets on several cards and many queues; all data and outcomes are "
      "checked.");
  app.add_option("--device", cards,
                 "Address of a card, repeatable (default: two of inproc:configs/chips/tiny.yaml); a served one needs "
                 "faults.door=true");
  app.add_option("--queues", limits.queues, "Queues of each card")->check(CLI::Range(1, 12))->capture_default_str();
  app.add_option("--streams", limits.streams, "Streams of each card")->check(CLI::Range(0, 3))->capture_default_str();
  app.add_option("--operations", operations, "Operations on all cards together")->capture_default_str();
  app.add_option("--seconds", seconds, "Ends after so long in real time instead");
  app.add_option("--settle-every", settle_every, "Operations on a card between comparisons of its whole memory")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", seed, "Seed of the first card; each further one counts up")->capture_default_str();
  app.add_flag("--no-faults", no_faults, "Provoke none");
  app.add_flag("--log", limits.log, "Each fault and recovery, to stderr");
  CLI11_PARSE(app, argc, argv);
  limits.faults = !no_faults;
  if (cards.empty()) cards.assign(2, "inproc:configs/chips/tiny.yaml");

  const auto begin = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  uint64_t done = 0;
  try {
    std::vector<std::unique_ptr<cx::stress::CardStress>> stresses;
    for (size_t i = 0; i < cards.size(); ++i) {
      cx::DeviceOptions options;
      if (cards[i].rfind("inproc:", 0) == 0)
        options.overrides = {"faults.door=true", fmt::format("queues.count={}", limits.queues + 1 + limits.streams)};
      options.wait_limit_us = cx::stress::kWaitLimitUs;
      options.staging_bytes = limits.slot_bytes / 2;  // the largest transfer goes in four pieces
      stresses.push_back(
          std::make_unique<cx::stress::CardStress>(cx::Device::connect(cards[i], options), limits, seed + i));
    }
    for (size_t i = 0; i < stresses.size() && stresses.size() > 1; ++i) {
      stresses[i]->set_peer(*stresses[(i + 1) % stresses.size()]);
    }
    const auto settle = [&] {
      for (auto &stress : stresses) stress->settle();
      for (auto &stress : stresses) stress->compare_inbox();
    };
    double resident = 0;
    auto told = begin;
    while (seconds > 0 ? elapsed() < seconds : done < operations) {
      for (auto &stress : stresses) stress->step();
      done += stresses.size();
      if (done / stresses.size() % settle_every == 0) {
        settle();
        if (resident == 0) resident = resident_mib();
      }
      if (Clock::now() - told > std::chrono::seconds(10)) {
        told = Clock::now();
        fmt::print(stderr, "{:.0f} s, {} operations\n", elapsed(), done);
      }
    }
    settle();
    fmt::print(
        "seed {}, {} operations in {:.1f} s, {:.1f} MiB resident after the first comparison, {:.1f} at the end\n", seed,
        done, elapsed(), resident, resident_mib());
    for (size_t i = 0; i < stresses.size(); ++i) {
      const cx::stress::Tally &tally = stresses[i]->tally();
      fmt::print(
          "{} (seed {}): {} packets, all complete; {} bytes compared; {:.3f} ms of simulated time; digest {:016x}\n",
          cards[i], seed + i, tally.completed, tally.bytes_compared,
          static_cast<double>(stresses[i]->device().time_ps()) * 1e-9, tally.digest);
      print("operations", tally.operations);
      print("faults", tally.faults);
      print("failed packets", tally.failures);
      print("events", tally.events);
      print("recoveries", tally.recoveries);
    }
  } catch (const cx::stress::Broken &broken) {
    fmt::print(stderr, "seed {}, after {} operations: {}\n", seed, done, broken.what());
    return 1;
  } catch (const cx::InputError &error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const cx::DeviceFault &fault) {
    fmt::print(stderr, "seed {}, after {} operations: {}\n", seed, done, fault.what());
    return 3;
  }
  return 0;
}

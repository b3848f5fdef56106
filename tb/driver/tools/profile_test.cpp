// Attribution of a trace to groups, and the lower bound.
#include "driver/tools/profile.hpp"

#include <catch2/catch.hpp>

#include "driver/include/cx/error.hpp"

using namespace cx;
using namespace cx::tools;

namespace {

constexpr uint32_t kLoad = 0, kDmmu = 2;

TracedInstruction record(uint32_t engine, uint32_t pc, uint64_t issue, uint64_t accept, uint64_t complete) {
  TracedInstruction result{};
  result.engine = engine;
  result.pc = pc;
  result.issue = issue;
  result.accept = accept;
  result.complete = complete;
  return result;
}

/// Two groups; the second one's load comes while the first computes.
struct Fixture {
  Program program;
  compiler::CompileStatistics statistics;
  RunReport report;
  Target target;
  std::vector<TracedInstruction> trace;

  Fixture() {
    program.debug = {
        {kLoad, 0, 4, "first"}, {kLoad, 4, 4, "second"}, {kDmmu, 0, 10, "first"}, {kDmmu, 10, 9, "second"}};
    statistics.details.resize(2);
    statistics.details[0] = {"first", "Conv", {"first", "relu"}, 4000, 640};
    statistics.details[1] = {"second", "MatMul", {"second"}, 1000, 6400};
    report.peak_macs_per_cycle = 100;
    report.launch_cycles = 500;
    target.clock_khz = 1'000'000;
    target.dram_mbps = 64'000;  // 64 bytes a cycle
    trace = {record(kLoad, 2, 1000, 1050, 1060), record(kLoad, 6, 1050, 1150, 1200), record(kDmmu, 5, 1060, 1160, 1180),
             record(kDmmu, 15, 1200, 1290, 1300)};
    trace[1].waited = 7;
    trace[1].memory_bytes = 8192;
    trace[3].operations = 1000;
  }
  Profile make() const {
    return make_profile(std::span<const TracedInstruction>(trace), program, statistics, report, target);
  }
};

}  // namespace

TEST_CASE("time goes to the group that moves the end on") {
  const Profile profile = Fixture().make();
  REQUIRE(profile.groups.size() == 2);
  const GroupProfile &first = profile.groups[0], &second = profile.groups[1];
  CHECK(profile.work_cycles == 300);
  CHECK(first.first_issue == 0);
  CHECK(first.last_complete == 180);
  CHECK(first.cycles == 180);
  CHECK(second.first_issue == 50);
  CHECK(second.last_complete == 300);
  CHECK(second.cycles == 120);
  CHECK(first.engines[kLoad].busy == 50);
  CHECK(second.engines[kLoad].busy == 100);
  CHECK(second.engines[kLoad].waited == 7);
  CHECK(second.engines[kDmmu].busy == 90);
  CHECK(second.engines[kDmmu].operations == 1000);
  CHECK(second.memory_bytes == 8192);
  CHECK(profile.violation.empty());
}

TEST_CASE("the bound is the slower of products and bytes, and what surrounds the work") {
  const Profile profile = Fixture().make();
  CHECK(profile.mac_cycles == Approx(50));
  CHECK(profile.byte_cycles == Approx(110));
  CHECK(profile.bound_cycles == Approx(110 + 200));
  CHECK(profile.ratio() == Approx(310.0 / 500));
  CHECK(profile.groups[0].bound_cycles == Approx(40));
  CHECK(profile.groups[0].bound_by_macs);
  CHECK(profile.groups[1].bound_cycles == Approx(100));
  CHECK_FALSE(profile.groups[1].bound_by_macs);
}

TEST_CASE("a run that is faster than the bound is told") {
  Fixture fixture;
  fixture.report.peak_macs_per_cycle = 10;  // 500 cycles of products in a run of 300
  const Profile profile = fixture.make();
  CHECK(profile.violation.find("300 cycles, less than its lower bound of 500.0") != std::string::npos);
  fixture.report.peak_macs_per_cycle = 100;
  fixture.target.dram_mbps = 16'000;
  CHECK(fixture.make().violation.find("7040 bytes") != std::string::npos);
}

TEST_CASE("products of the sparse unit count without those that it skips, beside the dense ones") {
  Fixture fixture;
  fixture.statistics.sca_tiles = 2;
  fixture.target.sca_rows = 5;
  fixture.target.sca_cols = 2;
  fixture.statistics.details[0].product.engine = "sca";
  fixture.statistics.details[0].product.macs_skipped = 1000;
  const Profile profile = fixture.make();
  CHECK(profile.macs == 1000);
  CHECK(profile.sparse_macs == 3000);
  CHECK(profile.mac_cycles == Approx(150));
  CHECK(profile.groups[0].bound_cycles == Approx(150));
  CHECK(profile.violation.empty());
}

TEST_CASE("the sparse unit's time is split into products, waits and the rest") {
  constexpr uint32_t kSca = 4;
  Fixture fixture;
  fixture.statistics.sca_tiles = 2;
  fixture.target.sca_rows = 5;
  fixture.target.sca_cols = 2;
  for (compiler::GroupStatistics &group : fixture.statistics.details) group.product.engine = "sca";
  fixture.program.debug.push_back({kSca, 0, 4, "first"});
  fixture.program.debug.push_back({kSca, 4, 3, "second"});
  constexpr uint64_t origin = 1000;  // the first load's issue
  const auto sparse = [&](uint32_t pc, uint64_t issue, uint64_t accept, uint64_t complete, uint64_t waited,
                          uint64_t operations) {
    TracedInstruction made = record(kSca, pc, issue, accept, complete);
    made.waited = waited;
    made.operations = operations;
    fixture.trace.push_back(made);
  };
  sparse(0, origin + 30, origin + 31, origin + 50, 20, 0);    // a load, after a wait of 20
  sparse(1, origin + 31, origin + 51, origin + 101, 0, 7);    // its product runs from 50 to 101
  sparse(2, origin + 110, origin + 111, origin + 120, 0, 0);  // its drain
  sparse(4, origin + 130, origin + 131, origin + 140, 15, 0);
  sparse(5, origin + 141, origin + 142, origin + 180, 0, 9);   // from 141
  sparse(6, origin + 181, origin + 182, origin + 200, 60, 0);  // waits while the product runs: no loss
  const Profile profile = fixture.make();
  const SparseTime &first = profile.groups[0].sparse, &second = profile.groups[1].sparse;
  CHECK(first.products == 51);
  CHECK(first.waited == 20);
  CHECK(first.rest == 30);
  CHECK(first.limit == Approx(4000.0 / 20));
  CHECK(first.uneven() == 0);
  CHECK(second.products == 39);
  CHECK(second.waited == 15);
  CHECK(second.rest == 25 + 20);
  CHECK(first.products + first.waited + first.rest + second.products + second.waited + second.rest == 200);
  CHECK(first.waited_for == static_cast<int>(kLoad));  // from 0 to 50
}

TEST_CASE("a trace of another program is refused") {
  Fixture fixture;
  fixture.trace.push_back(record(kDmmu, 19, 1300, 1301, 1301));
  CHECK_THROWS_AS(fixture.make(), Error);
  fixture.trace.back() = record(1, 0, 1300, 1301, 1301);
  CHECK_THROWS_AS(fixture.make(), Error);
  fixture.trace.pop_back();
  fixture.program.debug[0].node = "third";
  CHECK_THROWS_AS(fixture.make(), Error);
  fixture = Fixture();
  fixture.report.launch_cycles = 299;
  CHECK_THROWS_AS(fixture.make(), Error);
}

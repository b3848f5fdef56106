// Attribution of a trace to groups, and the lower bound.
#include "driver/tools/profile.hpp"

#include <catch2/catch.hpp>

#include "driver/include/cx/error.hpp"

using namespace cx;
using namespace cx::tools;

namespace {

constexpr uint32_t kLoad = 0, kDmmu = 2;

cx_port_trace_record record(uint32_t engine, uint32_t pc, uint64_t issue, uint64_t accept, uint64_t complete) {
  cx_port_trace_record result{};
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
  std::vector<cx_port_trace_record> trace;

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
  Profile make() const { return make_profile(trace, program, statistics, report, target); }
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
  fixture.target.sca_tiles = 2;
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

// Energy of a product as cx bench gemm reports it, against counts and figures by hand.
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tb/driver/tools/cx_process.hpp"

using cx::tb::Folder;
using cx::tb::run_cx;

namespace {

/// With reals as operands, which are hardly ever 0.
nlohmann::json product(const std::string &arguments) {
  const Folder folder;
  const auto run = run_cx("bench gemm --json --output " + (folder / "c.f32") + " " + arguments);
  INFO(run.text);
  REQUIRE(run.status == 0);
  return nlohmann::json::parse(run.text);
}

Approx exactly(double value) { return Approx(value).epsilon(1e-9).margin(1e-8); }

// Table n7, pJ.
constexpr double kFp16 = 0.34, kBf16 = 0.21, kInt8 = 0.07, kFloatSum = 0.38, kIntegerSum = 0.03, kDrain = 1.69;
constexpr double kSmallSram = 7.5;                  // of 64 bits; a tile of 'tiny' has 256 rows of accumulators
constexpr double kBank = 8.5 + (14 - 8.5) * 1 / 5;  // 512 KiB in 8 banks: 64 KiB

}  // namespace

TEST_CASE("a product's energy is its multiplications times theirs, and its bytes times theirs") {
  const struct {
    const char *precision;
    double product, sum;
  } formats[] = {{"fp16", kFp16, kFloatSum}, {"bf16", kBf16, kFloatSum}, {"int8", kInt8, kIntegerSum}};
  constexpr double kM = 16, kN = 24, kK = 8;  // K is the rows of a tile: one pass, nothing joins
  for (const auto &format : formats) {
    const auto json = product(std::string("-m 16 -n 24 -k 8 --config tiny --precision ") + format.precision);
    const auto &energy = json.at("energy_uj");
    INFO(format.precision << " " << energy.dump());
    const double macs = kM * kN * kK, sums = kM * kN;
    REQUIRE(json.at("macs") == macs);
    const double dmmu = 1e-6 * (macs * (format.product + format.sum) + 2 * sums * kSmallSram / 2 + sums * kDrain);
    if (std::string(format.precision) == "int8") {  // some reals round to 0 and are gated
      CHECK(energy.at("dmmu").get<double>() <= dmmu);
      CHECK(energy.at("dmmu").get<double>() > 0.95 * dmmu);
    } else {
      CHECK(energy.at("dmmu").get<double>() == exactly(dmmu));
    }
    const auto &bytes = json.at("bytes");
    const auto moved = [&](const char *a, const char *b) {
      return bytes.at(a).get<double>() + bytes.at(b).get<double>();
    };
    CHECK(energy.at("dram").get<double>() == exactly(1e-6 * moved("dram_read", "dram_written") * 8 * 5));
    CHECK(energy.at("scratchpad").get<double>() == exactly(1e-6 * moved("spm_read", "spm_written") * kBank / 8));
    // The counter is read later: some instructions are only in it.
    const double instructions = 1e-6 * json.at("firmware_instructions").get<double>() * 7.7;
    CHECK(energy.at("cp").get<double>() <= instructions);
    CHECK(energy.at("cp").get<double>() > 0.98 * instructions);
    CHECK(energy.at("sca") == 0);
    double sum = 0;
    for (const auto &[name, value] : energy.items()) sum += name == "total" ? 0 : value.get<double>();
    CHECK(energy.at("total").get<double>() == exactly(sum));
    CHECK(json.at("average_w").get<double>() == exactly(sum / json.at("energy_span_us").get<double>()));
    CHECK(json.at("tops_per_w").get<double>() == exactly(2e-6 * macs / sum));
    CHECK(json.at("energy_span_us") > json.at("latency_us"));
    for (const auto &[name, value] : energy.items()) {
      CHECK(json.at("energy_least_uj").at(name) <= value);
      CHECK(json.at("energy_most_uj").at(name) >= value);
    }
  }
}

TEST_CASE("the same run takes the same energy; another table another one") {
  const std::string job = "-m 16 -n 24 -k 40 --config tiny --precision fp16";
  const auto first = product(job), second = product(job), finer = product(job + " --set energy.table=n5");
  CHECK(first.at("energy_uj") == second.at("energy_uj"));
  CHECK(first.at("energy_most_uj") == second.at("energy_most_uj"));
  CHECK(finer.at("energy_uj").at("dmmu").get<double>() ==
        exactly(0.75 * first.at("energy_uj").at("dmmu").get<double>()));
  CHECK(finer.at("energy_uj").at("dram") == first.at("energy_uj").at("dram"));
  CHECK(finer.at("cycles") == first.at("cycles"));
  const auto hbm = product(job + " --set energy.dram=hbm2");
  CHECK(hbm.at("energy_uj").at("dram").get<double>() ==
        exactly(3.97 / 5 * first.at("energy_uj").at("dram").get<double>()));
}

TEST_CASE("the result does not depend on tiles being RTL") {
  const std::string job = "-m 16 -n 24 -k 40 --config tiny --precision fp16";
  CHECK(product(job).at("energy_uj") == product(job + " --set dmmu.rtl_tiles=all").at("energy_uj"));
}

TEST_CASE("a table that is wrong is bad input, with its place") {
  const Folder folder;
  const std::string table = folder / "mine.yaml";
  std::ofstream(table)
      << "node: mine\nbase: n7\nsources: {S: s}\nvalues:\n  sum.float: {value: many, source: S, grade: A}\n";
  const auto run = run_cx("bench gemm -m 8 -n 8 -k 8 --config tiny --set energy.table=" + table);
  INFO(run.text);
  CHECK(run.status == 2);
  CHECK(run.text.find(table + ":5:") != std::string::npos);
  CHECK(run.text.find("values.sum.float.value: expected a number") != std::string::npos);
}

TEST_CASE("an operating point changes clock, cycles of memories and the energy of the core") {
  const std::string job = "-m 16 -n 24 -k 40 --config tiny --precision fp16 --set power.points=[250@0.6,1000@0.9]";
  const auto nominal = product(job), slow = product(job + " --point 1"), fast = product(job + " --point 2");
  const auto plain = product("-m 16 -n 24 -k 40 --config tiny --precision fp16");
  CHECK(nominal.at("cycles") == plain.at("cycles"));
  CHECK(nominal.at("energy_uj") == plain.at("energy_uj"));
  CHECK(nominal.at("operating_point").at("mhz") == 500);
  CHECK(nominal.at("operating_point").at("volts") == Approx(0.75));
  CHECK(slow.at("operating_point").at("number") == 1);
  CHECK(slow.at("operating_point").at("mhz") == 250);
  CHECK(slow.at("operating_point").at("volts") == Approx(0.6));
  const auto uj = [](const nlohmann::json &json, const char *domain) {
    return json.at("energy_uj").at(domain).get<double>();
  };
  CHECK(uj(slow, "dmmu") == exactly(0.64 * uj(nominal, "dmmu")));
  CHECK(uj(fast, "dmmu") == exactly(1.44 * uj(nominal, "dmmu")));
  // The compiler may split the product otherwise at another clock: bytes have their price.
  const auto per_byte = [&](const nlohmann::json &json, const char *domain, const char *read, const char *written) {
    const auto &bytes = json.at("bytes");
    return uj(json, domain) / (bytes.at(read).get<double>() + bytes.at(written).get<double>());
  };
  CHECK(per_byte(slow, "scratchpad", "spm_read", "spm_written") ==
        exactly(0.64 * per_byte(nominal, "scratchpad", "spm_read", "spm_written")));
  CHECK(per_byte(slow, "dram", "dram_read", "dram_written") ==
        exactly(per_byte(nominal, "dram", "dram_read", "dram_written")));
  CHECK(slow.at("macs") == nominal.at("macs"));
  // Latencies of DRAM and link are times: a slower core waits fewer of its cycles for them.
  CHECK(slow.at("cycles") < nominal.at("cycles"));
  CHECK(nominal.at("cycles") < fast.at("cycles"));
  CHECK(slow.at("latency_us") > nominal.at("latency_us"));
  CHECK(nominal.at("latency_us") > fast.at("latency_us"));
  const auto refused = run_cx("bench gemm -m 8 -n 8 -k 8 --config tiny --point 1");
  CHECK(refused.status == 2);
  CHECK(refused.text.find("there is no operating point 1; power.points has 0") != std::string::npos);
}

TEST_CASE("a die that warms throttles, one that stays cool runs as without temperature") {
  // A product of 100 us and more on a die with time constants of a few microseconds.
  const std::string job = "-m 256 -n 64 -k 256 --config tiny --precision fp16";
  const std::string quick =
      " --set thermal.model=true --set thermal.c_junction_j_per_c=1e-6 --set thermal.c_sink_j_per_c=2e-6"
      " --set thermal.r_junction_c_per_w=20 --set thermal.r_sink_c_per_w=20 --set thermal.window_us=2";
  const auto cold = product(job),
             cool = product(job + quick + " --set thermal.throttle_c=900 --set thermal.trip_c=950");
  CHECK_FALSE(cold.contains("thermal"));
  CHECK(cool.at("cycles") == cold.at("cycles"));
  CHECK(cool.at("energy_uj").at("dmmu") == cold.at("energy_uj").at("dmmu"));
  CHECK(cool.at("thermal").at("throttled_us") == 0);
  const double peak = cool.at("thermal").at("peak_c").get<double>();
  INFO("peak " << peak << " degrees, " << cold.at("latency_us") << " us");
  REQUIRE(peak > 38);  // 35 around it

  const std::string limit = " --set thermal.throttle_c=" + std::to_string(35 + 0.7 * (peak - 35));
  const auto hot = product(job + quick + limit + " --set thermal.trip_c=950"),
             again = product(job + quick + limit + " --set thermal.trip_c=950");
  CHECK(hot.at("cycles") > cold.at("cycles"));
  CHECK(hot.at("thermal").at("throttled_us") > 0);
  CHECK(hot.at("thermal").at("throttled_us") < hot.at("energy_span_us"));
  CHECK(hot.at("thermal").at("peak_c").get<double>() < peak);
  CHECK(hot.at("energy_uj").at("dmmu") == cold.at("energy_uj").at("dmmu"));
  CHECK(hot.at("cycles") == again.at("cycles"));
  CHECK(hot.at("thermal") == again.at("thermal"));

  const auto trip = run_cx("bench gemm " + job + quick + " --set thermal.throttle_c=36 --set thermal.trip_c=" +
                           std::to_string(35 + 0.3 * (peak - 35)));
  INFO(trip.text);
  CHECK(trip.status == 3);
  CHECK(trip.text.find("THERMAL_TRIP") != std::string::npos);
}

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

// cx device and --device as a user meets them.
#include <signal.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tb/driver/tools/card_process.hpp"
#include "tb/driver/tools/cx_process.hpp"

using cx::tb::CardProcess;
using cx::tb::Folder;
using cx::tb::run_cx;

namespace {

nlohmann::json without_host(const std::string &text) {
  nlohmann::json json = nlohmann::json::parse(text);
  json.erase("wall_s");
  json.erase("config");
  return json;
}

}  // namespace

TEST_CASE("a product takes the same cycles and energy on a card behind a socket") {
  const Folder folder;
  const std::string socket = folder / "card";
  const CardProcess card("--config tiny --socket " + socket);
  REQUIRE(card.ready == "listening at " + socket + "\n");
  const std::string job = "bench gemm -m 16 -n 24 -k 40 --precision fp16 --json";
  const auto here = run_cx(job + " --config tiny");
  const auto there = run_cx(job + " --device vfio-user:" + socket);
  INFO(there.text);
  REQUIRE(here.status == 0);
  REQUIRE(there.status == 0);
  const auto a = without_host(here.text), b = without_host(there.text);
  CHECK(a.at("cycles") == b.at("cycles"));
  for (const char *key : {"energy_uj", "energy_least_uj", "energy_most_uj", "energy_span_us"})
    CHECK(a.at(key) == b.at(key));
  // The environment says the same as the option.
  REQUIRE(setenv("CX_DEVICE", ("vfio-user:" + socket).c_str(), 1) == 0);
  const auto by_environment = run_cx("info --json");
  unsetenv("CX_DEVICE");
  CHECK(by_environment.status == 0);
  CHECK(nlohmann::json::parse(by_environment.text).at("tiles") == 2);
}

TEST_CASE("several cards, each at a socket of its own") {
  const Folder folder;
  const std::string socket = folder / "card";
  CardProcess cards("--config tiny --set dmmu.tiles=3 --count 2 --socket " + socket, 2);
  for (const char *suffix : {".0", ".1"}) {
    const auto info = run_cx("info --json --device vfio-user:" + socket + suffix);
    INFO(info.text);
    REQUIRE(info.status == 0);
    CHECK(nlohmann::json::parse(info.text).at("tiles") == 3);
  }
  cards.end();
  CHECK(run_cx("info --device vfio-user:" + socket + ".0").status == 2);
}

TEST_CASE("devices that cannot be had exit with 2 and say why") {
  const Folder folder;
  const auto absent = run_cx("info --device vfio-user:" + folder / "nobody");
  CHECK(absent.status == 2);
  CHECK(absent.text.find("no device listens there") != std::string::npos);
  CHECK(run_cx("info --device usb:1").text.find("expected inproc:FILE.yaml or vfio-user:SOCKET") != std::string::npos);
  CHECK(run_cx("device --config tiny").status == 2);
  CHECK(run_cx("device --config nosuch --socket " + folder / "card").status == 2);
  CHECK(run_cx("device --config tiny --count 0 --socket " + folder / "card").status == 2);
  CHECK(run_cx("device --config tiny --socket " + folder / "no" + "/such/folder").status == 2);
  const CardProcess card("--config tiny --socket " + folder / "card");
  const auto taken = run_cx("device --config tiny --socket " + folder / "card");
  CHECK(taken.status == 2);
  CHECK(taken.text.find("another process listens there") != std::string::npos);
  const auto keys = run_cx("info --set dmmu.tiles=4 --device vfio-user:" + folder / "card");
  CHECK(keys.status == 2);
  CHECK(keys.text.find("cx device --set") != std::string::npos);
}

TEST_CASE("a file that is no socket is not removed") {
  const Folder folder;
  const std::string path = folder / "precious";
  std::ofstream(path) << "text";
  CHECK(run_cx("device --config tiny --socket " + path).status == 2);
  CHECK(std::filesystem::file_size(path) == 4);
}

TEST_CASE("a socket that a dead card left behind is used again") {
  const Folder folder;
  const std::string socket = folder / "card";
  const pid_t child = fork();
  if (child == 0) {
    fclose(stdout);
    execl(CX_BINARY, CX_BINARY, "device", "--config", "tiny", "--socket", socket.c_str(), nullptr);
    _exit(127);
  }
  for (int i = 0; i < 1000 && !std::filesystem::exists(socket); ++i) usleep(10'000);
  REQUIRE(std::filesystem::exists(socket));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const CardProcess card("--config tiny --socket " + socket);
  CHECK(card.ready == "listening at " + socket + "\n");
  CHECK(run_cx("info --device vfio-user:" + socket).status == 0);
}

TEST_CASE("lspci decodes the function's configuration space") {
  if (std::system("command -v lspci >/dev/null") != 0) {
    WARN("lspci (package pciutils) is not installed");
    return;
  }
  const Folder folder;
  const auto dump = run_cx("info --config cx3210 --pci");
  REQUIRE(dump.status == 0);
  std::ofstream(folder / "dump") << dump.text;
  FILE *pipe = popen(("lspci -vvv -n -F " + folder / "dump").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[4096];
  while (const std::size_t n = fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, n);
  REQUIRE(pclose(pipe) == 0);
  INFO(text);
  for (const char *line :
       {"00:00.0 1200: c5a1:3210 (rev 01)", "Mem+ BusMaster+", "Region 0: Memory at", "64-bit, non-prefetchable",
        "64-bit, prefetchable", "Power Management version 3", "MSI-X: Enable+ Count=32 Masked-",
        "Vector table: BAR=0 offset=00020000", "PBA: BAR=0 offset=00028000", "Express (v2) Endpoint", "FLReset+",
        "MaxPayload 256 bytes, MaxReadReq 512 bytes", "Speed 16GT/s, Width x16", "Advanced Error Reporting",
        "Device Serial Number 43-58-56-50-32-10-c5-a1"}) {
    CHECK_THAT(text, Catch::Matchers::Contains(line));
  }
  CHECK(text.find("<chain broken>") == std::string::npos);
}

TEST_CASE("faults are provoked in a served card by its door, and in a card of this process by a plan") {
  const Folder folder;
  const std::string socket = folder / "card";
  const std::string address = " --device vfio-user:" + socket;
  const std::string job = "bench gemm -m 16 -n 24 -k 40 --precision fp16 --json";
  {
    const CardProcess card("--config tiny --socket " + socket);
    const auto closed = run_cx("fault inject illegal_instruction" + address);
    CHECK(closed.status == 2);
    CHECK(closed.text.find("faults.door=true") != std::string::npos);
  }
  const CardProcess card("--config tiny --set faults.door=true --socket " + socket);
  const auto wrong = run_cx("fault inject engine_hang engine=cpu" + address);
  CHECK(wrong.status == 2);
  CHECK(wrong.text.find("engine: expected the name of an engine, got 'cpu'") != std::string::npos);
  const auto armed = run_cx("fault inject illegal_instruction engine=load" + address);
  INFO(armed.text);
  CHECK(armed.status == 0);
  CHECK(armed.text == "armed: illegal_instruction@engine=load\n");
  const auto faulted = run_cx(job + address);
  INFO(faulted.text);
  CHECK(faulted.status == 3);
  CHECK(faulted.text.find("ILLEGAL_INSTRUCTION") != std::string::npos);
  CHECK(run_cx(job + address).status == 0);

  const auto planned = run_cx(job + " --config tiny --set 'faults.plan=[engine_hang@engine=dmmu]'");
  INFO(planned.text);
  CHECK(planned.status == 3);
  CHECK(planned.text.find("ENGINE_HANG") != std::string::npos);
  CHECK(planned.text.find("engine dmmu hangs at instruction") != std::string::npos);
  const auto list = run_cx("fault list");
  CHECK(list.status == 0);
  for (const char *kind : {"iommu", "illegal_packet", "illegal_instruction", "bad_address", "ecc_corrected",
                           "ecc_uncorrected", "engine_hang", "firmware_crash", "link_down", "thermal_trip"}) {
    CHECK(list.text.find("  " + std::string(kind) + ": ") != std::string::npos);
  }
}

// cx top: what a served card's registers say, to somebody who is not its client.
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "hw/common/vfio_user/channel.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/tools/card_process.hpp"
#include "tb/driver/tools/cx_process.hpp"

namespace fs = std::filesystem;
using cx::tb::CardProcess;
using cx::tb::Folder;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

std::vector<json> readings(const std::string &socket, const std::string &arguments) {
  const auto result = run_cx("top --json --device vfio-user:" + socket + " " + arguments);
  INFO(result.text);
  REQUIRE(result.status == 0);
  std::vector<json> all;
  std::istringstream lines(result.text);
  for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
  return all;
}

std::string ask(const std::string &path, const std::string &line) {
  const cx::vfio::Fd door = cx::vfio::connect_to(path.c_str());
  REQUIRE(send(door.get(), line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size()));
  std::string reply;
  char part[256];
  for (ssize_t bytes = 0; (bytes = read(door.get(), part, sizeof part)) > 0;) reply.append(part, bytes);
  return reply;
}

}  // namespace

TEST_CASE("a card without a client is shown at rest, and looking takes no time") {
  const Folder folder;
  const std::string socket = folder / "card";
  const CardProcess card("--config tiny --socket " + socket);
  const auto shown = readings(socket, "--interval 0.02 --count 3");
  REQUIRE(shown.size() == 3);
  for (const json &reading : shown) {
    CHECK(reading["time_us"] == shown[0]["time_us"]);
    CHECK(reading["simulated_us"] == 0);
    CHECK(reading["packets"] == 0);
    CHECK(reading["engines"]["vpu"]["instructions"] == 0);
    CHECK(reading["watts"]["total"] == 0);  // no time passes
  }
  const auto text = run_cx("top --count 1 --interval 0.02 --device vfio-user:" + socket);
  CHECK(text.status == 0);
  CHECK(text.text.find("dmmu") != std::string::npos);
}

TEST_CASE("a card at work is shown while its client runs, and its client does not notice") {
  const fs::path recogniser = cx::tb::ocr_models() / "ch_PP-OCRv4_rec_infer.onnx";
  if (!fs::exists(recogniser)) {
    WARN("no models: skipped");
    return;
  }
  const Folder folder;
  const std::string socket = folder / "card",
                    command = "run " + recogniser.string() + " --seed 1 --shape x=1,3,48,160 --json";
  const CardProcess card("--config tiny --socket " + socket);
  cx::tb::Result watched;
  std::thread client([&] { watched = run_cx(command + " --device vfio-user:" + socket); });
  bool seen = false;
  double last_time = 0;
  uint64_t last_instructions = 0;
  // Some readings while it works; the client's run takes seconds.
  for (int i = 0; i < 400 && !seen; ++i) {
    for (const json &reading : readings(socket, "--interval 0.05 --count 2")) {
      const auto &vpu = reading["engines"]["vpu"];
      const uint64_t instructions = vpu["instructions"];
      for (const auto &[name, engine] : reading["engines"].items()) {
        CHECK(engine["utilisation"] >= 0);
        CHECK(engine["utilisation"] <= 1);
      }
      if (instructions > last_instructions && last_instructions != 0 && reading["simulated_us"] > 0) {
        CHECK(reading["time_us"] > last_time);
        CHECK(vpu["utilisation"] > 0);
        CHECK(reading["bytes"]["spm_read"] > 0);
        CHECK(reading["watts"]["vpu"] > 0);
        CHECK(reading["watts"]["leakage"] > 0);
        double sum = 0;
        for (const auto &[domain, watts] : reading["watts"].items()) sum += domain == "total" ? 0 : watts.get<double>();
        CHECK(reading["watts"]["total"] == Approx(sum));
        seen = true;
      }
      last_instructions = instructions;
      last_time = reading["time_us"];
    }
  }
  client.join();
  CHECK(seen);
  INFO(watched.text);
  REQUIRE(watched.status == 0);
  json with = json::parse(watched.text), without = json::parse(run_cx(command + " --config tiny").text);
  for (json *report : {&with, &without}) {
    report->erase("wall_s");
    report->erase("config");
  }
  CHECK(with == without);
}

TEST_CASE("what cannot be looked at is refused") {
  CHECK(run_cx("top").status == 2);
  CHECK(run_cx("top --device inproc:tiny").status == 2);
  const auto nobody = run_cx("top --count 1 --device vfio-user:/nowhere/card");
  CHECK(nobody.status == 2);
  CHECK(nobody.text.find("/nowhere/card.registers") != std::string::npos);
  CHECK(run_cx("top --interval 0 --device vfio-user:/nowhere/card").status == 2);
  const Folder folder;
  const std::string socket = folder / "card";
  const CardProcess card("--config tiny --socket " + socket);
  CHECK(ask(socket + ".registers", "words\n").rfind("error: expected hexadecimal", 0) == 0);
  CHECK(ask(socket + ".registers", "2\n").rfind("error: ", 0) == 0);
  CHECK(ask(socket + ".registers", "ffffffff\n").rfind("error: ", 0) == 0);
  CHECK(ask(socket + ".registers", "10\n").rfind("error", 0) == std::string::npos);
}

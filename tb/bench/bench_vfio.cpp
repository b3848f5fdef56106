// What a card in another process costs: the round trip of a region read against a bare socket, bulk DMA, and no-op
// packets through ring, firmware and interrupt.
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "driver/umd/device.hpp"
#include "hw/regs/gen/map.h"
#include "hw/vfio_user/server.hpp"
#include "tb/driver/transport/served_card.hpp"

namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
namespace wire = cx::vfio;
using cx::hw::vfio::Function;
using cx::hw::vfio::HostLink;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void require(bool condition, const char *what) {
  if (!condition) throw std::runtime_error(what);
}

/// A function that is nothing but the memory of one region: what remains is the protocol.
class MemoryFunction final : public Function {
 public:
  std::uint64_t region_bytes(std::uint32_t index) const override { return index == 0 ? memory_.size() : 0; }
  bool read(std::uint32_t, std::uint64_t offset, std::byte *to, std::size_t bytes) override {
    std::memcpy(to, memory_.data() + offset, bytes);
    return true;
  }
  bool write(std::uint32_t, std::uint64_t offset, const std::byte *from, std::size_t bytes) override {
    std::memcpy(memory_.data() + offset, from, bytes);
    return true;
  }
  Mapped map(std::uint64_t, std::uint64_t, std::byte *, bool, bool) override { return Mapped::bad; }
  Mapped map(std::uint64_t, std::uint64_t, HostLink &, bool, bool) override { return Mapped::bad; }
  void unmap(std::uint64_t, std::uint64_t) override {}
  std::uint32_t vectors() const override { return 1; }
  void arm(std::uint32_t, bool) override {}
  std::optional<std::uint32_t> take_interrupt() override { return std::nullopt; }
  void reset() override {}
  void power_cycle() override {}
  Wake advance(std::uint64_t) override { return Wake::idle; }
  std::uint64_t time_ps() const override { return 0; }

 private:
  std::vector<std::byte> memory_ = std::vector<std::byte>(1 << 16, std::byte{0x5a});
};

/// Both ends of a stream socket as a served card has it.
std::pair<wire::Fd, wire::Fd> socket_pair() {
  int ends[2];
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket pair");
  return {wire::Fd(ends[0]), wire::Fd(ends[1])};
}

void send_bytes(int fd, const std::vector<std::byte> &bytes) {
  require(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()), "send failed");
}

bool receive_bytes(int fd, std::vector<std::byte> &bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = recv(fd, bytes.data() + done, bytes.size() - done, 0);
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

/// One kind of round trip, and how long single ones took.
struct RoundTrip {
  std::function<void()> call;
  std::vector<double> seconds;
  void run(int calls) {
    for (int i = 0; i < calls; ++i) {
      const auto begin = Clock::now();
      call();
      seconds.push_back(seconds_since(begin));
    }
  }
};

/// The server with MemoryFunction against a bare exchange of as many bytes, in turns, so that both see the same host.
Json protocol_round_trip(std::uint32_t bytes) {
  std::pair<wire::Fd, wire::Fd> bare_ends = socket_pair();
  const wire::Fd &bare = bare_ends.first, &bare_peer = bare_ends.second;
  std::pair<wire::Fd, wire::Fd> served_ends = socket_pair();
  wire::Fd client_end = std::move(served_ends.first), server_end = std::move(served_ends.second);
  const std::size_t ask_bytes = sizeof(wire::Header) + sizeof(wire::RegionAccess), answer_bytes = ask_bytes + bytes;
  std::thread echo([fd = bare_peer.get(), ask_bytes, answer_bytes] {
    std::vector<std::byte> ask(ask_bytes), answer(answer_bytes);
    while (receive_bytes(fd, ask)) send_bytes(fd, answer);
  });
  MemoryFunction function;
  std::thread serving([&function, end = std::move(server_end)]() mutable {
    cx::hw::vfio::Server server(function);
    server.serve(std::move(end));
  });
  std::vector<double> bare_medians, server_medians;
  {
    auto client = std::make_unique<wire::Channel>(std::move(client_end));
    const auto call = [&](std::uint16_t command, std::span<const std::byte> head, std::span<const std::byte> data) {
      require(client->send({1, command, 0, wire::kTypeCommand, 0}, head, data), "the server is gone");
      auto reply = client->receive();
      require(reply && (reply->header.flags & wire::kError) == 0, "the server refuses");
      return std::move(*reply);
    };
    const std::string capabilities = R"({"capabilities":{"cx_time":true}})";
    const wire::Version version{wire::kMajor, wire::kMinor};
    call(wire::kVersion, wire::bytes_of(version),
         std::as_bytes(std::span(capabilities.c_str(), capabilities.size() + 1)));
    std::vector<std::byte> ask(ask_bytes), answer(answer_bytes);
    const auto ping = [&] {
      send_bytes(bare.get(), ask);
      require(receive_bytes(bare.get(), answer), "the peer is gone");
    };
    const wire::RegionAccess access{64, 0, bytes};
    const auto read = [&] {
      const wire::Message reply = call(wire::kRegionRead, wire::bytes_of(access), {});
      require(reply.payload.size() == sizeof access + bytes && reply.payload.back() == std::byte{0x5a}, "wrong data");
    };
    for (int round = 0; round < 21; ++round) {
      RoundTrip plain{ping, {}}, served{read, {}};
      plain.run(2000);
      served.run(2000);
      if (round == 0) continue;  // warming up
      bare_medians.push_back(median(plain.seconds));
      server_medians.push_back(median(served.seconds));
    }
  }
  serving.join();
  shutdown(bare_peer.get(), SHUT_RDWR);
  echo.join();
  const double plain = median(bare_medians), served = median(server_medians);
  return {{"bytes", bytes}, {"socket_us", plain * 1e6}, {"server_us", served * 1e6}, {"ratio", served / plain}};
}

/// Median of a register read through the driver, microseconds.
double register_read(cx::Device &device) {
  RoundTrip read{[&] { device.read_register(CX_MAP_DEV_OFFSET); }, {}};
  read.run(20'000);
  return median(read.seconds) * 1e6;
}

/// Bytes a wall second from host memory that the device reaches to device memory, best of several copies; the bytes are
/// compared.
double bulk_copy(cx::Device &device, std::uint64_t bytes) {
  const cx::HostBuffer host = device.allocate_host(bytes);
  const cx::DeviceBuffer memory = device.allocate(bytes);
  std::mt19937_64 random(5);
  for (std::uint64_t i = 0; i < bytes; i += 8) {
    const std::uint64_t value = random();
    std::memcpy(host.data() + i, &value, 8);
  }
  double best = 1e9;
  for (int run = 0; run < 7; ++run) {
    const auto begin = Clock::now();
    device.queue().copy_to_device(memory.address(), host.iova(), bytes).wait();
    best = std::min(best, seconds_since(begin));
  }
  std::vector<std::byte> back(bytes);
  device.download(back, memory.address());
  require(std::memcmp(back.data(), host.data(), bytes) == 0, "the copy differs");
  return static_cast<double>(bytes) / best;
}

/// Bytes a wall second of Device::upload(), which goes through staging memory.
double upload(cx::Device &device, std::uint64_t bytes) {
  const cx::DeviceBuffer memory = device.allocate(bytes);
  const std::vector<std::byte> data(bytes, std::byte{0x33});
  double best = 1e9;
  for (int run = 0; run < 7; ++run) {
    const auto begin = Clock::now();
    device.upload(memory.address(), data);
    best = std::min(best, seconds_since(begin));
  }
  return static_cast<double>(bytes) / best;
}

/// No-op packets a minute, each with its doorbell and its interrupt. batch 1: each is waited for before the next.
double packets_per_minute(cx::Device &device, unsigned batch, unsigned packets) {
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const auto stats = device.queue().stats();
    std::uint64_t before = 0, after = 0;
    for (std::uint32_t v = 0; v < device.info().msix_vectors; ++v) before += device.interrupts(v);
    const auto begin = Clock::now();
    for (unsigned done = 0; done < packets; done += batch) {
      cx::Fence last;
      for (unsigned i = 0; i < batch; ++i) last = device.queue().nop({.interrupt = true});
      last.wait();
    }
    device.queue().drain();
    best = std::max(best, 60.0 * packets / seconds_since(begin));
    for (std::uint32_t v = 0; v < device.info().msix_vectors; ++v) after += device.interrupts(v);
    const auto now = device.queue().stats();
    require(now.completed - stats.completed == packets && now.failed == stats.failed, "packets were lost");
    // The last interrupts of a run may be taken in the next one.
    require(after - before + batch >= packets, "interrupts were lost");
  }
  return best;
}

Json measure(cx::Device &device) {
  const std::uint64_t bytes = 32 << 20;
  Json result;
  result["register_read_us"] = register_read(device);
  result["copy_bytes_per_s"] = bulk_copy(device, bytes);
  result["upload_bytes_per_s"] = upload(device, bytes);
  result["packets_per_minute_single"] = packets_per_minute(device, 1, 20'000);
  result["packets_per_minute_batch"] = packets_per_minute(device, 64, 64 * 400);
  return result;
}

void print(const Json &report) {
  std::printf("region read, server with a function of plain memory against a bare socket (medians)\n");
  std::printf("%10s %12s %12s %8s\n", "bytes", "socket us", "server us", "ratio");
  for (const Json &row : report["protocol"]) {
    std::printf("%10u %12.2f %12.2f %8.2f\n", row["bytes"].get<unsigned>(), row["socket_us"].get<double>(),
                row["server_us"].get<double>(), row["ratio"].get<double>());
  }
  const Json &in = report["in_process"], &over = report["over_socket"];
  const auto row = [&](const char *name, const char *key, double scale) {
    std::printf("%-44s %14.2f %14.2f\n", name, in[key].get<double>() * scale, over[key].get<double>() * scale);
  };
  std::printf("\n%-44s %14s %14s\n", "card, by the driver", "in process", "over socket");
  row("register read, us", "register_read_us", 1);
  row("copy of mapped memory, GB/s", "copy_bytes_per_s", 1e-9);
  row("upload, GB/s", "upload_bytes_per_s", 1e-9);
  row("no-op packets a minute, one by one, millions", "packets_per_minute_single", 1e-6);
  row("no-op packets a minute, batches of 64", "packets_per_minute_batch", 1e-6);
}

}  // namespace

/// Arguments: [--json] [configuration of the chip]
namespace {

/// Both ends on one core: otherwise the time to wake an idle core, which the host's scheduler decides, hides the
/// protocol.
void stay_on_one_core() {
  cpu_set_t allowed, one;
  CPU_ZERO(&one);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  int core = 0;
  while (core < CPU_SETSIZE && !CPU_ISSET(core, &allowed)) ++core;
  CPU_SET(core, &one);
  sched_setaffinity(0, sizeof one, &one);
}

}  // namespace

int main(int argc, char **argv) try {
  stay_on_one_core();
  bool json = false;
  std::string chip = "configs/chips/tiny.yaml";
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--json") {
      json = true;
    } else {
      chip = argv[i];
    }
  }
  Json report;
  {
    // The child process is made before this one has threads or a card.
    const cx::tb::ServedCard card(chip);
    const auto device = cx::Device::connect(card.address());
    report["over_socket"] = measure(*device);
  }
  {
    const auto device = cx::Device::open(chip);
    report["in_process"] = measure(*device);
  }
  for (std::uint32_t bytes : {4u, 64u, 4096u, 65536u - 64u}) report["protocol"].push_back(protocol_round_trip(bytes));
  if (json) {
    std::printf("%s\n", report.dump(2).c_str());
  } else {
    print(report);
  }
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "cx_vfio_bench: %s\n", error.what());
  return 1;
}

// A vfio-user client in a test, byte by byte, and the function behind the server.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "hw/vfio_user/server.hpp"
#include "tb/hw/vfio_user/fake_function.hpp"

namespace cx::tb {

namespace wire = cx::vfio;
using wire::Fd;

/// Bytes of structs one after the other.
template <class... T>
std::vector<std::byte> packed(const T &...values) {
  std::vector<std::byte> out;
  const auto add = [&](const auto &value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  (add(values), ...);
  return out;
}

inline std::vector<std::byte> version_text(const std::string &json, std::uint16_t major = wire::kMajor,
                                           std::uint16_t minor = wire::kMinor) {
  std::vector<std::byte> out = packed(wire::Version{major, minor});
  const auto *text = reinterpret_cast<const std::byte *>(json.c_str());
  out.insert(out.end(), text, text + json.size() + 1);
  return out;
}

/// A server in a thread and the socket to it. With `greet` the version is agreed.
class Bench {
 public:
  FakeFunction function;

  explicit Bench(bool greet = true, const std::string &capabilities = R"({"capabilities":{"cx_time":true}})") {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    client_ = std::make_unique<wire::Channel>(Fd(ends[0]), std::size_t{8} << 20);
    server_thread_ = std::thread([this, fd = ends[1]] {
      hw::vfio::Server server(function);
      server.serve(Fd(fd));
    });
    if (greet) REQUIRE(error(wire::kVersion, version_text(capabilities)) == 0);
  }
  ~Bench() { hang_up(); }

  wire::Channel &channel() { return *client_; }

  /// Ends the connection and waits for the server.
  void hang_up() {
    client_.reset();
    if (server_thread_.joinable()) server_thread_.join();
  }

  void send(std::uint16_t command, const std::vector<std::byte> &payload, const std::vector<int> &fds = {},
            std::uint32_t flags = wire::kTypeCommand, std::uint16_t id = 77) {
    REQUIRE(client_->send({id, command, 0, flags, 0}, payload, {}, fds));
  }
  /// Raw bytes, for headers that do not fit their message.
  void send_raw(const wire::Header &header, const std::vector<std::byte> &payload = {}) {
    std::vector<std::byte> all = packed(header);
    all.insert(all.end(), payload.begin(), payload.end());
    REQUIRE(::write(client_->fd(), all.data(), all.size()) == static_cast<ssize_t>(all.size()));
  }
  wire::Message receive() {
    REQUIRE(client_->readable(5000));
    auto message = client_->receive(5000);
    REQUIRE(message);
    return std::move(*message);
  }
  wire::Message call(std::uint16_t command, const std::vector<std::byte> &payload, const std::vector<int> &fds = {}) {
    send(command, payload, fds);
    wire::Message reply = receive();
    CHECK(reply.header.id == 77);
    CHECK(reply.header.command == command);
    CHECK(reply.type() == wire::kTypeReply);
    if ((reply.header.flags & wire::kError) != 0) CHECK(reply.payload.empty());
    return reply;
  }
  /// errno of a command; 0: it succeeded.
  int error(std::uint16_t command, const std::vector<std::byte> &payload, const std::vector<int> &fds = {}) {
    const wire::Message reply = call(command, payload, fds);
    return (reply.header.flags & wire::kError) != 0 ? static_cast<int>(reply.header.error) : 0;
  }
  /// The connection still answers.
  bool alive() { return error(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0})) == 0; }

 private:
  std::unique_ptr<wire::Channel> client_;
  std::thread server_thread_;
};

inline Fd memory_file(std::size_t bytes) {
  Fd fd(memfd_create("test", MFD_CLOEXEC));
  REQUIRE(fd);
  REQUIRE(ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  return fd;
}

inline std::uint64_t count_of(const Fd &event) {
  std::uint64_t count = 0;
  return ::read(event.get(), &count, sizeof count) == sizeof count ? count : 0;
}

inline Fd event() { return Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

/// Open descriptors of this process.
inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for (int fd = 0; fd < 256; ++fd) count += fcntl(fd, F_GETFD) != -1;
  return count;
}

}  // namespace cx::tb

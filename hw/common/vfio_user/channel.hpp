// One end of a vfio-user connection: whole messages with their file descriptors over a stream socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "hw/common/vfio_user/wire.hpp"

namespace cx::vfio {

/// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd &operator=(Fd &&other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

struct Message {
  Header header{};
  std::vector<std::byte> payload;
  std::vector<Fd> fds;

  std::uint32_t type() const { return header.flags & kTypeMask; }
  /// The leading struct of the payload; nothing if the payload is shorter.
  template <class T>
  std::optional<T> as() const {
    if (payload.size() < sizeof(T)) return std::nullopt;
    T value;
    __builtin_memcpy(&value, payload.data(), sizeof value);
    return value;
  }
};

class Channel {
 public:
  static constexpr std::size_t kMaxFds = 64;

  /// Messages with a larger payload are read to their end and kept without it (Message::payload empty, header.size
  /// as it came).
  explicit Channel(Fd socket, std::size_t max_payload = kDefaultTransfer + 4096)
      : socket_(std::move(socket)), max_payload_(max_payload) {}

  int fd() const { return socket_.get(); }

  /// The next message. Blocks until it is complete, for at most timeout_ms once a part of it has come (-1: for ever).
  /// Nothing when the peer is gone.
  std::optional<Message> receive(int timeout_ms = -1);
  /// Whether a message, or the end of the connection, can be read without waiting longer than timeout_ms.
  bool readable(int timeout_ms) const;

  /// False when the peer is gone. The payload may come in two parts.
  bool send(const Header &header, std::span<const std::byte> first, std::span<const std::byte> second = {},
            std::span<const int> fds = {});

 private:
  bool read_all(std::byte *to, std::size_t bytes, std::vector<Fd> *fds, int timeout_ms);

  Fd socket_;
  std::size_t max_payload_;
};

template <class T>
std::span<const std::byte> bytes_of(const T &value) {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

/// A listening socket at `path`; a file that an earlier process left there is replaced, a path on which somebody still
/// listens is not. Throws std::runtime_error.
Fd listen_at(const char *path);
/// A connection to `path`. Throws std::runtime_error.
Fd connect_to(const char *path);

}  // namespace cx::vfio

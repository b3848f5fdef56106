// One end of a vfio-user connection: whole messages with their file descriptors over a stream socket.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
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
  /// Whether the socket has something to read within timeout_ms.
  bool more(int timeout_ms) const;
  /// One recvmsg(): bytes that came, 0 when the peer is gone. Descriptors go to fds_.
  std::size_t read_some(std::byte *to, std::size_t bytes);
  /// At least `bytes` of a message lie in buffer_.
  bool fill(std::size_t bytes, int timeout_ms);
  /// The next bytes of a message, from buffer_ and then from the socket.
  bool take(std::byte *to, std::size_t bytes, int timeout_ms);

  Fd socket_;
  std::size_t max_payload_;
  // A read takes what there is, so that a small message costs one: buffer_ holds [begin_, end_) of the stream.
  std::array<std::byte, 8192> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::uint64_t received_ = 0;                    ///< bytes of the stream that came
  std::deque<std::pair<std::uint64_t, Fd>> fds_;  ///< of no message yet, with the place in the stream
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

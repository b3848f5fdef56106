#include "hw/common/vfio_user/channel.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace cx::vfio {

void Fd::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

bool Channel::readable(int timeout_ms) const { return begin_ < end_ || more(timeout_ms); }

bool Channel::more(int timeout_ms) const {
  pollfd wait{socket_.get(), POLLIN, 0};
  for (;;) {
    const int ready = poll(&wait, 1, timeout_ms);
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0;
  }
}

std::size_t Channel::read_some(std::byte *to, std::size_t bytes) {
  iovec part{to, bytes};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t got = 0;
  do {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    got = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return 0;
  received_ += static_cast<std::uint64_t>(got);
  for (cmsghdr *entry = CMSG_FIRSTHDR(&message); entry != nullptr; entry = CMSG_NXTHDR(&message, entry)) {
    if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(entry) + i * sizeof(int), sizeof fd);
      // The system ends a read behind the bytes that descriptors came with: they belong to its last byte.
      fds_.emplace_back(received_ - 1, Fd(fd));
    }
  }
  return static_cast<std::size_t>(got);
}

bool Channel::fill(std::size_t bytes, int timeout_ms) {
  if (begin_ > 0 && begin_ + bytes > buffer_.size()) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  while (end_ - begin_ < bytes) {
    // The wait for a message's first byte is the caller's affair.
    if (end_ > begin_ && timeout_ms >= 0 && !more(timeout_ms)) return false;
    if (begin_ == end_) begin_ = end_ = 0;
    const std::size_t got = read_some(buffer_.data() + end_, buffer_.size() - end_);
    if (got == 0) return false;
    end_ += got;
  }
  return true;
}

bool Channel::take(std::byte *to, std::size_t bytes, int timeout_ms) {
  const std::size_t kept = std::min(bytes, end_ - begin_);
  if (kept > 0) std::memcpy(to, buffer_.data() + begin_, kept);
  begin_ += kept;
  for (std::size_t done = kept; done < bytes;) {
    if (timeout_ms >= 0 && !more(timeout_ms)) return false;
    const std::size_t got = read_some(to + done, bytes - done);
    if (got == 0) return false;
    done += got;
  }
  return true;
}

std::optional<Message> Channel::receive(int timeout_ms) {
  Message message;
  if (!fill(sizeof(Header), timeout_ms)) return std::nullopt;
  take(reinterpret_cast<std::byte *>(&message.header), sizeof(Header), timeout_ms);
  std::size_t rest = message.header.size < sizeof(Header) ? 0 : message.header.size - sizeof(Header);
  if (rest <= max_payload_) {
    message.payload.resize(rest);
    if (!take(message.payload.data(), rest, timeout_ms)) return std::nullopt;
  } else {
    std::vector<std::byte> sink(1 << 16);
    while (rest > 0) {
      const std::size_t part = std::min(rest, sink.size());
      if (!take(sink.data(), part, timeout_ms)) return std::nullopt;
      rest -= part;
    }
  }
  const std::uint64_t message_end = received_ - (end_ - begin_);
  while (!fds_.empty() && fds_.front().first < message_end) {
    message.fds.push_back(std::move(fds_.front().second));
    fds_.pop_front();
  }
  return message;
}

bool Channel::send(const Header &header, std::span<const std::byte> first, std::span<const std::byte> second,
                   std::span<const int> fds) {
  Header full = header;
  full.size = static_cast<std::uint32_t>(sizeof full + first.size() + second.size());
  std::array<iovec, 3> parts = {iovec{&full, sizeof full}, iovec{const_cast<std::byte *>(first.data()), first.size()},
                                iovec{const_cast<std::byte *>(second.data()), second.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (!fds.empty()) {
    if (fds.size() > kMaxFds) throw std::invalid_argument("too many file descriptors in a message");
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr *entry = CMSG_FIRSTHDR(&message);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SCM_RIGHTS;
    entry->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(entry), fds.data(), fds.size_bytes());
  }
  std::size_t left = full.size;
  while (left > 0) {
    const ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    left -= static_cast<std::size_t>(sent);
    message.msg_control = nullptr;  // descriptors go with the first byte
    message.msg_controllen = 0;
    std::size_t done = static_cast<std::size_t>(sent);
    while (message.msg_iovlen > 0 && done >= message.msg_iov->iov_len) {
      done -= message.msg_iov->iov_len;
      ++message.msg_iov;
      --message.msg_iovlen;
    }
    if (message.msg_iovlen > 0) {
      message.msg_iov->iov_base = static_cast<char *>(message.msg_iov->iov_base) + done;
      message.msg_iov->iov_len -= done;
    }
  }
  return true;
}

namespace {

sockaddr_un address_of(const char *path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) == 0 || std::strlen(path) >= sizeof address.sun_path) {
    throw std::runtime_error("socket path '" + std::string(path) + "' is empty or longer than " +
                             std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::strcpy(address.sun_path, path);
  return address;
}

Fd new_socket() {
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) throw std::runtime_error(std::string("no socket: ") + std::strerror(errno));
  return fd;
}

bool try_connect(const Fd &fd, const sockaddr_un &address) {
  int result;
  do {
    result = connect(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address);
  } while (result < 0 && errno == EINTR);
  return result == 0;
}

}  // namespace

Fd listen_at(const char *path) {
  const sockaddr_un address = address_of(path);
  if (try_connect(new_socket(), address)) {
    throw std::runtime_error(std::string(path) + ": another process listens there");
  }
  // A file that is no socket refuses connections as well, and stays.
  struct stat file {};
  if (errno == ECONNREFUSED && lstat(path, &file) == 0 && S_ISSOCK(file.st_mode)) unlink(path);
  Fd fd = new_socket();
  if (bind(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) < 0 || listen(fd.get(), 4) < 0) {
    throw std::runtime_error(std::string(path) + ": cannot listen there: " + std::strerror(errno));
  }
  return fd;
}

Fd connect_to(const char *path) {
  const sockaddr_un address = address_of(path);
  Fd fd = new_socket();
  if (!try_connect(fd, address)) {
    throw std::runtime_error(std::string(path) + ": no device listens there: " + std::strerror(errno));
  }
  return fd;
}

}  // namespace cx::vfio

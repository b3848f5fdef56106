#include "hw/vfio_user/server.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace cx::hw::vfio {

namespace {

constexpr std::uint64_t kPage = 4096;
/// A client that has begun a message has this long to go on with it.
constexpr int kMessageMs = 10'000;

std::vector<std::byte> copy_of(const void *value, std::size_t bytes) {
  const auto *begin = static_cast<const std::byte *>(value);
  return {begin, begin + bytes};
}

bool is_eventfd(int fd) {
  char target[64];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = readlink(link.c_str(), target, sizeof target);
  const std::string text(target, static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  return text == "anon_inode:[eventfd]";
}

/// Whether `bytes` from `offset` exist in the file: touching pages behind its end would kill this process.
bool file_holds(int fd, std::uint64_t offset, std::uint64_t bytes) {
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return false;
  const auto size = static_cast<std::uint64_t>(info.st_size);
  return offset <= size && bytes <= size - offset;
}

}  // namespace

// ---- the connection ----

void Server::serve(wire::Fd connection) {
  channel_.emplace(std::move(connection));
  gone_ = negotiated_ = owns_time_ = faults_ = busy_ = false;
  client_transfer_ = wire::kDefaultTransfer;
  takes_fds_ = true;
  for (std::uint32_t index = 0; index < wire::kIrqs; ++index) irqs_[index].resize(irq_count(index));
  while (!gone_) {
    if (!waiting_.empty()) {
      wire::Message message = std::move(waiting_.front());
      waiting_.pop_front();
      handle(std::move(message));
      continue;
    }
    if (busy_ && !owns_time_ && !channel_->readable(0)) {
      const Function::Wake wake = function_.advance(kSlicePs);
      if (wake == Function::Wake::idle || wake == Function::Wake::broken) busy_ = false;
      deliver_interrupts();
      if (doors_ != nullptr) doors_->serve();
      continue;
    }
    if (doors_ != nullptr && !channel_->readable(0) && doors_->serve_until(channel_->fd())) {
      busy_ = true;
      continue;
    }
    std::optional<wire::Message> message = channel_->receive(kMessageMs);
    if (!message) break;
    handle(std::move(*message));
  }
  forget_client();
  function_.power_cycle();
}

void Server::forget_client() {
  while (!mappings_.empty()) unmap(mappings_.begin());
  for (auto &kind : irqs_) kind.clear();
  waiting_.clear();
  channel_.reset();
}

void Server::handle(wire::Message message) {
  if (message.type() != wire::kTypeCommand) return;  // a reply that nobody waits for
  const Reply reply = dispatch(message);
  busy_ = true;
  if (!owns_time_) deliver_interrupts();
  if ((message.header.flags & wire::kNoReply) != 0) return;
  wire::Header header{message.header.id, message.header.command, 0, wire::kTypeReply, 0};
  if (reply.error != 0) {
    header.flags |= wire::kError;
    header.error = static_cast<std::uint32_t>(reply.error);
  }
  const std::span<const int> fds = reply.fd ? std::span(&*reply.fd, 1) : std::span<const int>();
  if (!channel_->send(header, reply.payload, {}, fds)) gone_ = true;
}

Server::Reply Server::dispatch(wire::Message &message) {
  const std::uint32_t size = message.header.size;
  if (size < sizeof(wire::Header)) return {EINVAL};
  if (size - sizeof(wire::Header) != message.payload.size()) return {EMSGSIZE};  // too large to be kept
  if ((message.header.flags & ~(wire::kTypeMask | wire::kNoReply)) != 0) return {EINVAL};
  if (!negotiated_ && message.header.command != wire::kVersion) return {EINVAL};
  switch (message.header.command) {
    case wire::kVersion:
      return version(message);
    case wire::kDmaMap:
      return dma_map(message);
    case wire::kDmaUnmap:
      return dma_unmap(message);
    case wire::kGetInfo:
      return get_info(message);
    case wire::kGetRegionInfo:
      return get_region_info(message);
    case wire::kGetIrqInfo:
      return get_irq_info(message);
    case wire::kSetIrqs:
      return set_irqs(message);
    case wire::kRegionRead:
      return region_read(message);
    case wire::kRegionWrite:
      return region_write(message);
    case wire::kRegionWriteMulti:
      return region_write_multi(message);
    case wire::kDeviceReset:
      return device_reset();
    case wire::kAdvance:
      return advance(message);
    case wire::kInject:
      return inject(message);
    case wire::kPeerTraffic:
      return peer_traffic(message);
    default:
      return {ENOTSUP};
  }
}

Server::Reply Server::version(const wire::Message &message) {
  const auto asked = message.as<wire::Version>();
  if (negotiated_ || !asked || asked->major != wire::kMajor) return {EINVAL};
  const wire::Version agreed{wire::kMajor, std::min(asked->minor, wire::kMinor)};
  std::vector<std::byte> payload = copy_of(&agreed, sizeof agreed);
  const std::size_t text_bytes = message.payload.size() - sizeof *asked;
  if (text_bytes == 0) {
    negotiated_ = true;
    return {0, std::move(payload)};
  }
  const char *text = reinterpret_cast<const char *>(message.payload.data()) + sizeof *asked;
  if (text[text_bytes - 1] != '\0' || std::strlen(text) != text_bytes - 1) return {EINVAL};
  using Json = nlohmann::json;
  const Json proposed = Json::parse(text, nullptr, false);
  if (!proposed.is_object()) return {EINVAL};
  const Json theirs = proposed.value("capabilities", Json::object());
  if (!theirs.is_object()) return {EINVAL};
  // The reply holds no capability that the client has not named.
  Json ours = Json::object();
  const auto limit = [&](const char *name, std::uint64_t value) {
    if (!theirs.contains(name)) return true;
    if (!theirs[name].is_number_unsigned()) return false;
    ours[name] = value;
    return true;
  };
  if (!limit("max_msg_fds", wire::Channel::kMaxFds) || !limit("max_data_xfer_size", kMaxTransfer) ||
      !limit("pgsizes", kPage) || !limit("max_dma_maps", kMaxMappings)) {
    return {EINVAL};
  }
  if (theirs.contains("pgsizes") && (theirs["pgsizes"].get<std::uint64_t>() & kPage) == 0) return {EINVAL};
  std::uint32_t transfer = wire::kDefaultTransfer;
  if (theirs.contains("max_data_xfer_size")) {
    const auto stated = theirs["max_data_xfer_size"].get<std::uint64_t>();
    if (stated == 0) return {EINVAL};
    transfer = static_cast<std::uint32_t>(std::min<std::uint64_t>(stated, kMaxTransfer));
  }
  bool time = false;
  for (const char *name : {"write_multiple", wire::kTimeCapability, wire::kFaultCapability}) {
    if (!theirs.contains(name)) continue;
    if (!theirs[name].is_boolean()) return {EINVAL};
    const bool refused = name == wire::kFaultCapability && !function_.allows_faults();
    if (theirs[name].get<bool>() && !refused) ours[name] = true;
    if (name == wire::kTimeCapability) time = theirs[name].get<bool>();
  }
  negotiated_ = true;
  owns_time_ = time;
  faults_ = ours.contains(wire::kFaultCapability);
  client_transfer_ = transfer;
  takes_fds_ = ours.contains("max_msg_fds") ? theirs["max_msg_fds"].get<std::uint64_t>() != 0 : true;
  const std::string reply = Json{{"capabilities", ours}}.dump();
  const std::vector<std::byte> bytes = copy_of(reply.c_str(), reply.size() + 1);
  payload.insert(payload.end(), bytes.begin(), bytes.end());
  return {0, std::move(payload)};
}

// ---- what the function is ----

/// `argsz` is what the client can take: at least the struct.
Server::Reply Server::reply_struct(const void *value, std::size_t bytes, std::uint32_t argsz) const {
  if (argsz < bytes) return {EINVAL};
  return {0, copy_of(value, bytes)};
}

Server::Reply Server::get_info(const wire::Message &message) {
  const auto asked = message.as<wire::DeviceInfo>();
  if (!asked || asked->flags != 0 || asked->regions != 0 || asked->irqs != 0) return {EINVAL};
  const wire::DeviceInfo info{sizeof info, wire::kDeviceCanReset | wire::kDevicePci, wire::kRegions, wire::kIrqs};
  return reply_struct(&info, sizeof info, asked->argsz);
}

Server::Reply Server::get_region_info(const wire::Message &message) {
  const auto asked = message.as<wire::RegionInfo>();
  if (!asked || asked->index >= wire::kRegions || asked->flags != 0 || asked->cap_offset != 0 || asked->size != 0 ||
      asked->offset != 0) {
    return {EINVAL};
  }
  wire::RegionInfo info{sizeof info, 0, asked->index, 0, function_.region_bytes(asked->index), 0};
  if (info.size != 0) info.flags = wire::kRegionReadable | wire::kRegionWriteable;
  const auto memory = function_.region_memory(asked->index);
  if (!memory || !takes_fds_) return reply_struct(&info, sizeof info, asked->argsz);
  // A client that has no room for the capability learns how much it takes and asks again.
  info.flags |= wire::kRegionMmap | wire::kRegionCaps;
  info.argsz = sizeof info + sizeof(wire::SparseMmap);
  if (asked->argsz < info.argsz) return reply_struct(&info, sizeof info, asked->argsz);
  info.cap_offset = sizeof info;
  const wire::SparseMmap area{wire::kCapSparseMmap, 1, 0, 1, 0, 0, memory->bytes};
  Reply reply{0, copy_of(&info, sizeof info), memory->file};
  const std::vector<std::byte> capability = copy_of(&area, sizeof area);
  reply.payload.insert(reply.payload.end(), capability.begin(), capability.end());
  return reply;
}

std::uint32_t Server::irq_count(std::uint32_t index) const {
  switch (index) {
    case wire::kMsix:
      return function_.vectors();
    case wire::kErr:
    case wire::kReq:
      return 1;
    default:
      return 0;  // the function has neither INTx nor MSI
  }
}

Server::Reply Server::get_irq_info(const wire::Message &message) {
  const auto asked = message.as<wire::IrqInfo>();
  if (!asked || asked->index >= wire::kIrqs || asked->flags != 0 || asked->count != 0) return {EINVAL};
  wire::IrqInfo info{sizeof info, 0, asked->index, irq_count(asked->index)};
  if (info.count != 0) info.flags = wire::kIrqEventfd;
  if (asked->index == wire::kMsix) info.flags |= wire::kIrqMaskable;
  return reply_struct(&info, sizeof info, asked->argsz);
}

// ---- interrupts ----

void Server::set_event(std::uint32_t index, std::uint32_t vector, wire::Fd event) {
  Vector &entry = irqs_[index][vector];
  entry.event = std::move(event);
  if (!entry.event) entry.pending = false;
  if (index == wire::kMsix) function_.arm(vector, static_cast<bool>(entry.event));
}

void Server::signal(std::uint32_t index, std::uint32_t vector) {
  Vector &entry = irqs_[index][vector];
  if (!entry.event) return;
  if (entry.masked) {
    entry.pending = true;
    return;
  }
  entry.pending = false;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(entry.event.get(), &one, sizeof one);
}

void Server::deliver_interrupts() {
  while (const auto vector = function_.take_interrupt()) {
    if (*vector < irqs_[wire::kMsix].size()) signal(wire::kMsix, *vector);
  }
  if (function_.take_error() && !irqs_[wire::kErr].empty()) signal(wire::kErr, 0);
}

Server::Reply Server::set_irqs(wire::Message &message) {
  const auto asked = message.as<wire::IrqSet>();
  if (!asked || asked->argsz < sizeof *asked || asked->index >= wire::kIrqs) return {EINVAL};
  const std::uint32_t data = asked->flags & wire::kDataMask, action = asked->flags & wire::kActionsMask;
  const auto one_of = [](std::uint32_t bits) { return bits != 0 && (bits & (bits - 1)) == 0; };
  if (!one_of(data) || !one_of(action) || (asked->flags & ~(wire::kDataMask | wire::kActionsMask)) != 0) {
    return {EINVAL};
  }
  std::vector<Vector> &vectors = irqs_[asked->index];
  if (asked->count == 0) {
    if (asked->start != 0 || data != wire::kDataNone || action != wire::kActionTrigger) return {EINVAL};
    for (std::uint32_t v = 0; v < vectors.size(); ++v) set_event(asked->index, v, wire::Fd());
    return {};
  }
  if (asked->start >= vectors.size() || asked->count > vectors.size() - asked->start) return {EINVAL};
  if (data == wire::kDataEventfd) {
    if (action != wire::kActionTrigger) return {ENOTSUP};
    if (!message.fds.empty() && message.fds.size() != asked->count) return {EINVAL};
    for (const wire::Fd &fd : message.fds) {
      if (!is_eventfd(fd.get())) return {EINVAL};
    }
    for (std::uint32_t i = 0; i < asked->count; ++i) {
      set_event(asked->index, asked->start + i, message.fds.empty() ? wire::Fd() : std::move(message.fds[i]));
    }
    return {};
  }
  if (action != wire::kActionTrigger && asked->index != wire::kMsix) return {ENOTSUP};
  const std::byte *chosen = nullptr;
  if (data == wire::kDataBool) {
    if (message.payload.size() - sizeof *asked < asked->count || asked->argsz - sizeof *asked < asked->count) {
      return {EINVAL};
    }
    chosen = message.payload.data() + sizeof *asked;
  }
  for (std::uint32_t i = 0; i < asked->count; ++i) {
    if (chosen != nullptr && chosen[i] == std::byte{0}) continue;
    const std::uint32_t vector = asked->start + i;
    if (action == wire::kActionTrigger) {
      signal(asked->index, vector);
    } else {
      vectors[vector].masked = action == wire::kActionMask;
      if (action == wire::kActionUnmask && vectors[vector].pending) signal(asked->index, vector);
    }
  }
  return {};
}

// ---- regions ----

int Server::check_access(std::uint32_t region, std::uint64_t offset, std::uint64_t count) const {
  if (region >= wire::kRegions || count > kMaxTransfer) return EINVAL;
  const std::uint64_t bytes = function_.region_bytes(region);
  return offset <= bytes && count <= bytes - offset && bytes != 0 ? 0 : EINVAL;
}

Server::Reply Server::region_read(const wire::Message &message) {
  const auto asked = message.as<wire::RegionAccess>();
  if (!asked) return {EINVAL};
  if (const int error = check_access(asked->region, asked->offset, asked->count)) return {error};
  std::vector<std::byte> payload(sizeof *asked + asked->count);
  std::memcpy(payload.data(), &*asked, sizeof *asked);
  if (asked->count != 0 &&
      !function_.read(asked->region, asked->offset, payload.data() + sizeof *asked, asked->count)) {
    return {EINVAL};
  }
  return {0, std::move(payload)};
}

Server::Reply Server::region_write(const wire::Message &message) {
  const auto asked = message.as<wire::RegionAccess>();
  if (!asked || message.payload.size() - sizeof *asked != asked->count) return {EINVAL};
  if (const int error = check_access(asked->region, asked->offset, asked->count)) return {error};
  if (asked->count != 0 &&
      !function_.write(asked->region, asked->offset, message.payload.data() + sizeof *asked, asked->count)) {
    return {EINVAL};
  }
  return {0, copy_of(&*asked, sizeof *asked)};
}

Server::Reply Server::region_write_multi(const wire::Message &message) {
  const auto asked = message.as<wire::WriteMulti>();
  if (!asked || (message.payload.size() - sizeof *asked) % sizeof(wire::MultiEntry) != 0 ||
      asked->count != (message.payload.size() - sizeof *asked) / sizeof(wire::MultiEntry)) {
    return {EINVAL};
  }
  std::vector<wire::MultiEntry> entries(asked->count);
  std::memcpy(entries.data(), message.payload.data() + sizeof *asked, entries.size() * sizeof(wire::MultiEntry));
  for (const wire::MultiEntry &entry : entries) {
    if (entry.count > sizeof entry.data || check_access(entry.region, entry.offset, entry.count) != 0) {
      return {EINVAL};
    }
  }
  wire::WriteMulti done{0};
  for (const wire::MultiEntry &entry : entries) {
    if (!function_.write(entry.region, entry.offset, reinterpret_cast<const std::byte *>(entry.data), entry.count)) {
      return {EINVAL};
    }
    ++done.count;
  }
  return {0, copy_of(&done, sizeof done)};
}

// ---- DMA ----

Server::Reply Server::dma_map(wire::Message &message) {
  const auto asked = message.as<wire::DmaMap>();
  constexpr std::uint32_t kAccess = wire::kDmaReadable | wire::kDmaWriteable;
  if (!asked || asked->argsz < sizeof *asked || (asked->flags & ~kAccess) != 0 || asked->flags == 0) {
    return {EINVAL};
  }
  if (asked->size == 0 || ((asked->address | asked->size | asked->offset) & (kPage - 1)) != 0 ||
      asked->address + (asked->size - 1) < asked->address || message.fds.size() > 1) {
    return {EINVAL};
  }
  if (mappings_.size() >= kMaxMappings) return {ENOSPC};
  const bool readable = (asked->flags & wire::kDmaReadable) != 0, writeable = (asked->flags & wire::kDmaWriteable) != 0;
  Mapping mapping{asked->size, nullptr, 0};
  Function::Mapped result;
  if (message.fds.empty()) {
    result = function_.map(asked->address, asked->size, *this, readable, writeable);
  } else {
    const int fd = message.fds[0].get();
    if (!file_holds(fd, asked->offset, asked->size)) return {EINVAL};
    const int protection = (readable ? PROT_READ : 0) | (writeable ? PROT_WRITE : 0);
    void *memory = mmap(nullptr, asked->size, protection, MAP_SHARED, fd, static_cast<off_t>(asked->offset));
    if (memory == MAP_FAILED) return {errno};
    mapping.memory = memory;
    mapping.mapped_bytes = asked->size;
    result = function_.map(asked->address, asked->size, static_cast<std::byte *>(memory), readable, writeable);
  }
  if (result != Function::Mapped::ok) {
    if (mapping.memory != nullptr) munmap(mapping.memory, mapping.mapped_bytes);
    return {result == Function::Mapped::overlap ? EEXIST : EINVAL};
  }
  mappings_[asked->address] = mapping;
  return {};
}

void Server::unmap(std::map<std::uint64_t, Mapping>::iterator mapping) {
  function_.unmap(mapping->first, mapping->second.bytes);
  if (mapping->second.memory != nullptr) munmap(mapping->second.memory, mapping->second.mapped_bytes);
  mappings_.erase(mapping);
}

Server::Reply Server::dma_unmap(const wire::Message &message) {
  const auto asked = message.as<wire::DmaUnmap>();
  if (!asked || asked->argsz < sizeof *asked || (asked->flags & ~wire::kUnmapAll) != 0) return {EINVAL};
  if ((asked->flags & wire::kUnmapAll) != 0) {
    if (asked->address != 0 || asked->size != 0) return {EINVAL};
    while (!mappings_.empty()) unmap(mappings_.begin());
  } else {
    const auto found = mappings_.find(asked->address);
    if (found == mappings_.end() || found->second.bytes != asked->size) return {ENOENT};
    unmap(found);
  }
  return {0, copy_of(&*asked, sizeof *asked)};
}

std::optional<wire::Message> Server::ask(std::uint16_t command, std::span<const std::byte> head,
                                         std::span<const std::byte> data) {
  if (gone_ || !channel_) return std::nullopt;
  const std::uint16_t id = next_id_++;
  if (!channel_->send({id, command, 0, wire::kTypeCommand, 0}, head, data)) {
    gone_ = true;
    return std::nullopt;
  }
  for (;;) {
    std::optional<wire::Message> message = channel_->receive(kMessageMs);
    if (!message) {
      gone_ = true;
      return std::nullopt;
    }
    if (message->type() == wire::kTypeCommand) {
      waiting_.push_back(std::move(*message));
    } else if (message->header.id == id && message->header.command == command) {
      if ((message->header.flags & wire::kError) != 0) return std::nullopt;
      return message;
    }
  }
}

bool Server::read(std::uint64_t address, std::byte *to, std::uint64_t bytes) {
  while (bytes > 0) {
    const wire::DmaAccess part{address, std::min<std::uint64_t>(bytes, client_transfer_)};
    const auto reply = ask(wire::kDmaRead, wire::bytes_of(part), {});
    if (!reply || reply->payload.size() != sizeof part + part.count) return false;
    std::memcpy(to, reply->payload.data() + sizeof part, part.count);
    address += part.count;
    to += part.count;
    bytes -= part.count;
  }
  return true;
}

bool Server::write(std::uint64_t address, const std::byte *from, std::uint64_t bytes) {
  while (bytes > 0) {
    const wire::DmaAccess part{address, std::min<std::uint64_t>(bytes, client_transfer_)};
    if (!ask(wire::kDmaWrite, wire::bytes_of(part), {from, part.count})) return false;
    address += part.count;
    from += part.count;
    bytes -= part.count;
  }
  return true;
}

// ---- reset and time ----

Server::Reply Server::device_reset() {
  function_.reset();
  std::vector<Vector> &vectors = irqs_[wire::kMsix];
  for (std::uint32_t v = 0; v < vectors.size(); ++v) {
    vectors[v].pending = false;
    if (vectors[v].event) function_.arm(v, true);
  }
  return {};
}

Server::Reply Server::inject(const wire::Message &message) {
  if (!faults_) return {ENOTSUP};
  const std::string text(reinterpret_cast<const char *>(message.payload.data()), message.payload.size());
  const std::string problem = function_.inject(text);
  return {0, copy_of(problem.data(), problem.size())};
}

Server::Reply Server::advance(const wire::Message &message) {
  if (!owns_time_) return {ENOTSUP};
  const auto asked = message.as<wire::AdvanceRequest>();
  if (!asked) return {EINVAL};
  // In slices, so that lookers-on are served while the client waits.
  Function::Wake wake = Function::Wake::limit;
  std::uint64_t done = 0;
  do {
    const std::uint64_t slice = doors_ != nullptr ? std::min(asked->limit_ps - done, kSlicePs) : asked->limit_ps;
    wake = function_.advance(slice);
    done += slice;
    if (doors_ != nullptr) doors_->serve();
  } while (wake == Function::Wake::limit && done < asked->limit_ps);
  if (wake == Function::Wake::broken) return {EIO};
  deliver_interrupts();
  const wire::AdvanceReply reply{function_.time_ps(), static_cast<std::uint32_t>(wake), 0};
  static_assert(static_cast<std::uint32_t>(Function::Wake::interrupt) == wire::kWakeInterrupt &&
                static_cast<std::uint32_t>(Function::Wake::limit) == wire::kWakeLimit &&
                static_cast<std::uint32_t>(Function::Wake::idle) == wire::kWakeIdle);
  return {0, copy_of(&reply, sizeof reply)};
}

Server::Reply Server::peer_traffic(const wire::Message &message) {
  if (!owns_time_) return {ENOTSUP};
  const auto asked = message.as<wire::PeerTraffic>();
  if (!asked || message.payload.size() != sizeof *asked || asked->write > 1 || asked->reserved != 0) return {EINVAL};
  const auto duration = function_.peer_traffic(asked->offset, asked->bytes, asked->write != 0);
  if (!duration) return {EINVAL};
  deliver_interrupts();
  const wire::PeerTrafficReply reply{*duration};
  return {0, copy_of(&reply, sizeof reply)};
}

}  // namespace cx::hw::vfio

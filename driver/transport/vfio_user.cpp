#include "driver/transport/vfio_user.hpp"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "driver/include/cx/error.hpp"
#include "driver/transport/refused_access.hpp"

namespace cx {

VfioUserTransport::VfioUserTransport(const std::string &path) : path_(path) {
  try {
    channel_ = std::make_unique<vfio::Channel>(vfio::connect_to(path.c_str()));
  } catch (const std::runtime_error &error) {
    throw InputError(error.what());
  }
  negotiate();
  const auto info = query(vfio::kGetInfo, vfio::DeviceInfo{sizeof(vfio::DeviceInfo), 0, 0, 0}, "device information");
  if ((info.flags & vfio::kDevicePci) == 0 || info.regions < vfio::kRegions || info.irqs < vfio::kIrqs) {
    throw InputError(path_ + ": the device is no PCI function of " + std::to_string(vfio::kRegions) + " regions and " +
                     std::to_string(vfio::kIrqs) + " interrupt types");
  }
  set_up_interrupts();
  fetch_memory_file();
}

VfioUserTransport::~VfioUserTransport() = default;

void VfioUserTransport::fetch_memory_file() {
  constexpr uint32_t kRoom = sizeof(vfio::RegionInfo) + sizeof(vfio::SparseMmap);
  vfio::Message reply = request(vfio::kGetRegionInfo,
                                vfio::bytes_of(vfio::RegionInfo{kRoom, 0, static_cast<uint32_t>(kMemoryBar), 0, 0, 0}));
  const auto info = reply.as<vfio::RegionInfo>();
  constexpr uint32_t kWanted = vfio::kRegionMmap | vfio::kRegionCaps;
  if ((reply.header.flags & vfio::kError) != 0 || !info || (info->flags & kWanted) != kWanted ||
      reply.fds.size() != 1 || info->cap_offset < sizeof *info ||
      info->cap_offset + sizeof(vfio::SparseMmap) > reply.payload.size()) {
    return;
  }
  vfio::SparseMmap area;
  std::memcpy(&area, reply.payload.data() + info->cap_offset, sizeof area);
  if (area.id != vfio::kCapSparseMmap || area.areas != 1 || area.offset != 0 || area.size == 0 ||
      area.size > info->size) {
    return;
  }
  memory_file_ = std::move(reply.fds[0]);
}

void VfioUserTransport::lost() const { throw DeviceLostError(path_ + ": the device's process is gone"); }

void VfioUserTransport::negotiate() {
  const nlohmann::json ours = {{"capabilities",
                                {{"max_msg_fds", vfio::Channel::kMaxFds},
                                 {"max_data_xfer_size", vfio::kDefaultTransfer},
                                 {vfio::kTimeCapability, true},
                                 {vfio::kFaultCapability, true}}}};
  const std::string text = ours.dump();
  const vfio::Version version{vfio::kMajor, vfio::kMinor};
  const vfio::Message reply =
      request(vfio::kVersion, vfio::bytes_of(version), std::as_bytes(std::span(text.c_str(), text.size() + 1)));
  const auto agreed = reply.as<vfio::Version>();
  if ((reply.header.flags & vfio::kError) != 0 || !agreed || agreed->major != vfio::kMajor) {
    throw InputError(path_ + ": the device does not speak vfio-user " + std::to_string(vfio::kMajor) + "." +
                     std::to_string(vfio::kMinor));
  }
  const std::string answer(reinterpret_cast<const char *>(reply.payload.data()) + sizeof *agreed,
                           reply.payload.size() - sizeof *agreed);
  const auto json = nlohmann::json::parse(answer.substr(0, answer.find('\0')), nullptr, false);
  const auto theirs =
      json.is_object() ? json.value("capabilities", nlohmann::json::object()) : nlohmann::json::object();
  if (!theirs.is_object() || !theirs.value(vfio::kTimeCapability, false)) {
    throw InputError(path_ + ": the device does not let its client move simulated time (capability " +
                     vfio::kTimeCapability + "); serve the card with cx device");
  }
  transfer_ = std::min(theirs.value("max_data_xfer_size", vfio::kDefaultTransfer), vfio::kDefaultTransfer);
  peer_fds_ = theirs.value("max_msg_fds", vfio::kDefaultFds);
  faults_ = theirs.value(vfio::kFaultCapability, false);
}

void VfioUserTransport::set_up_interrupts() {
  const auto info =
      query(vfio::kGetIrqInfo, vfio::IrqInfo{sizeof(vfio::IrqInfo), 0, vfio::kMsix, 0}, "interrupt information");
  for (uint32_t vector = 0; vector < info.count; ++vector) {
    events_.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!events_.back()) throw Error(std::string("eventfd: ") + std::strerror(errno));
    waits_.push_back({events_.back().get(), POLLIN, 0});
  }
  const uint32_t batch = std::max(1u, peer_fds_);
  for (uint32_t first = 0; first < info.count; first += batch) {
    std::vector<int> fds;
    for (uint32_t vector = first; vector < std::min(info.count, first + batch); ++vector) {
      fds.push_back(events_[vector].get());
    }
    send_events(vfio::kMsix, first, fds);
  }
  error_event_ = vfio::Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!error_event_) throw Error(std::string("eventfd: ") + std::strerror(errno));
  waits_.push_back({error_event_.get(), POLLIN, 0});
  send_events(vfio::kErr, 0, {error_event_.get()});
}

void VfioUserTransport::send_events(uint32_t kind, uint32_t first, const std::vector<int> &fds) {
  const vfio::IrqSet set{sizeof set, vfio::kDataEventfd | vfio::kActionTrigger, kind, first,
                         static_cast<uint32_t>(fds.size())};
  const vfio::Message reply = request(vfio::kSetIrqs, vfio::bytes_of(set), {}, fds);
  if ((reply.header.flags & vfio::kError) != 0) {
    throw InputError(path_ + ": the device refuses interrupts: " + std::strerror(static_cast<int>(reply.header.error)));
  }
}

vfio::Message VfioUserTransport::request(uint16_t command, std::span<const std::byte> head,
                                         std::span<const std::byte> data, std::span<const int> fds) {
  const uint16_t id = next_id_++;
  if (!channel_->send({id, command, 0, vfio::kTypeCommand, 0}, head, data, fds)) lost();
  for (;;) {
    std::optional<vfio::Message> message = channel_->receive();
    if (!message) lost();
    if (message->type() == vfio::kTypeCommand) {
      serve_dma(*message);
    } else if (message->header.id == id && message->header.command == command) {
      return std::move(*message);
    }
  }
}

template <class T>
T VfioUserTransport::query(uint16_t command, const T &question, const char *what) {
  const vfio::Message reply = request(command, vfio::bytes_of(question));
  const auto value = reply.as<T>();
  if ((reply.header.flags & vfio::kError) != 0 || !value) {
    throw InputError(path_ + ": the device gives no " + what);
  }
  return *value;
}

// ---- accesses ----

void VfioUserTransport::read(int bar, uint64_t offset, void *data, size_t size) {
  const uint32_t region = bar == kConfigSpace ? uint32_t{vfio::kConfig} : static_cast<uint32_t>(bar);
  time_known_ = false;
  auto *to = static_cast<std::byte *>(data);
  for (size_t done = 0; done < size;) {
    const vfio::RegionAccess access{offset + done, region,
                                    static_cast<uint32_t>(std::min<size_t>(size - done, transfer_))};
    const vfio::Message reply = request(vfio::kRegionRead, vfio::bytes_of(access));
    if ((reply.header.flags & vfio::kError) != 0 || reply.payload.size() != sizeof access + access.count) {
      refused_access("read of", bar, offset, size, "the device refuses it");
    }
    std::memcpy(to + done, reply.payload.data() + sizeof access, access.count);
    done += access.count;
  }
}

void VfioUserTransport::write(int bar, uint64_t offset, const void *data, size_t size) {
  const uint32_t region = bar == kConfigSpace ? uint32_t{vfio::kConfig} : static_cast<uint32_t>(bar);
  if (bar == kConfigSpace) time_known_ = false;  // writes to BARs are posted: no time passes
  const auto *from = static_cast<const std::byte *>(data);
  for (size_t done = 0; done < size;) {
    const vfio::RegionAccess access{offset + done, region,
                                    static_cast<uint32_t>(std::min<size_t>(size - done, transfer_))};
    const vfio::Message reply =
        request(vfio::kRegionWrite, vfio::bytes_of(access), std::span(from + done, access.count));
    if ((reply.header.flags & vfio::kError) != 0) {
      refused_access("write to", bar, offset, size, "the device refuses it");
    }
    done += access.count;
  }
}

// ---- host memory ----

std::byte *VfioUserTransport::allocate(size_t bytes) {
  vfio::Fd file(memfd_create("cx host memory", MFD_CLOEXEC));
  if (!file || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    throw OutOfMemoryError("host memory: " + std::to_string(bytes) + " bytes are not to be had");
  }
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED)
    throw OutOfMemoryError("host memory: " + std::to_string(bytes) + " bytes are not to be had");
  auto *data = static_cast<std::byte *>(memory);
  shared_[data] = std::move(file);
  return data;
}

void VfioUserTransport::release(std::byte *memory, size_t bytes) {
  munmap(memory, bytes);
  shared_.erase(memory);
}

void VfioUserTransport::dma_map(uint64_t iova, size_t size, void *memory, bool writable) {
  const vfio::DmaMap map{sizeof map, vfio::kDmaReadable | (writable ? uint32_t{vfio::kDmaWriteable} : 0), 0, iova,
                         size};
  const auto shared = shared_.find(static_cast<std::byte *>(memory));
  std::vector<int> fds;
  if (shared != shared_.end()) fds.push_back(shared->second.get());
  const vfio::Message reply = request(vfio::kDmaMap, vfio::bytes_of(map), {}, fds);
  if ((reply.header.flags & vfio::kError) != 0) {
    throw UsageError(std::string("mapping of host memory for DMA: ") +
                     std::strerror(static_cast<int>(reply.header.error)));
  }
  if (fds.empty()) mirrors_[iova] = {size, static_cast<std::byte *>(memory), writable};
}

void VfioUserTransport::dma_unmap(uint64_t iova, size_t size) {
  const vfio::DmaUnmap unmap{sizeof unmap, 0, iova, size};
  const vfio::Message reply = request(vfio::kDmaUnmap, vfio::bytes_of(unmap));
  if ((reply.header.flags & vfio::kError) != 0) {
    throw UsageError(std::string("unmapping of host memory: ") + std::strerror(static_cast<int>(reply.header.error)));
  }
  mirrors_.erase(iova);
}

bool VfioUserTransport::map_peer(uint64_t iova, size_t size, Transport &peer, uint64_t offset, bool writable) {
  auto *other = dynamic_cast<VfioUserTransport *>(&peer);
  if (other == nullptr || other == this || !other->memory_file_) return false;
  const vfio::DmaMap map{sizeof map, vfio::kDmaReadable | (writable ? uint32_t{vfio::kDmaWriteable} : 0), offset, iova,
                         size};
  const int file = other->memory_file_.get();
  const vfio::Message reply = request(vfio::kDmaMap, vfio::bytes_of(map), {}, std::span(&file, 1));
  if ((reply.header.flags & vfio::kError) != 0) {
    throw UsageError(std::string("mapping of another card's memory: ") +
                     std::strerror(static_cast<int>(reply.header.error)));
  }
  return true;
}

uint64_t VfioUserTransport::peer_traffic(uint64_t offset, uint64_t bytes, bool write) {
  const vfio::Message reply =
      request(vfio::kPeerTraffic, vfio::bytes_of(vfio::PeerTraffic{offset, bytes, write ? 1u : 0u, 0}));
  const auto answer = reply.as<vfio::PeerTrafficReply>();
  if ((reply.header.flags & vfio::kError) != 0 || !answer) {
    throw UsageError(path_ + ": the device refuses another card's access to its memory");
  }
  time_known_ = false;
  return answer->duration_ps;
}

std::byte *VfioUserTransport::mirrored(uint64_t address, uint64_t bytes, bool write) {
  const auto next = mirrors_.upper_bound(address);
  if (next == mirrors_.begin()) return nullptr;
  const auto &[first, mirror] = *std::prev(next);
  const uint64_t offset = address - first;
  if (offset > mirror.size || bytes > mirror.size - offset || (write && !mirror.writable)) return nullptr;
  return mirror.memory + offset;
}

void VfioUserTransport::serve_dma(const vfio::Message &message) {
  vfio::Header header{message.header.id, message.header.command, 0, vfio::kTypeReply, 0};
  const auto access = message.as<vfio::DmaAccess>();
  const bool write = header.command == vfio::kDmaWrite;
  std::byte *memory = nullptr;
  if (access && access->count <= vfio::kDefaultTransfer && (write || header.command == vfio::kDmaRead) &&
      message.payload.size() == sizeof *access + (write ? access->count : 0)) {
    memory = mirrored(access->address, access->count, write);
  }
  std::span<const std::byte> head, data;
  if (memory == nullptr) {
    header.flags |= vfio::kError;
    header.error = EFAULT;
  } else {
    head = vfio::bytes_of(*access);
    if (write) {
      std::memcpy(memory, message.payload.data() + sizeof *access, access->count);
    } else {
      data = {memory, access->count};
    }
  }
  if ((message.header.flags & vfio::kNoReply) != 0) return;
  if (!channel_->send(header, head, data)) lost();
}

// ---- time and interrupts ----

vfio::AdvanceReply VfioUserTransport::ask_time(uint64_t limit_ps) {
  const vfio::AdvanceRequest question{limit_ps};
  const vfio::Message reply = request(vfio::kAdvance, vfio::bytes_of(question));
  const auto answer = reply.as<vfio::AdvanceReply>();
  if ((reply.header.flags & vfio::kError) != 0 || !answer) throw Error(path_ + ": the simulation stopped");
  time_ps_ = answer->now_ps;
  time_known_ = true;
  if (answer->wake == vfio::kWakeInterrupt) collect_interrupts();
  return *answer;
}

Transport::Wake VfioUserTransport::advance(uint64_t limit_ps) {
  if (!arrived_.empty() || error_) return Wake::kInterrupt;
  switch (ask_time(limit_ps).wake) {
    case vfio::kWakeInterrupt:
      return Wake::kInterrupt;
    case vfio::kWakeIdle:
      return Wake::kIdle;
    default:
      return Wake::kLimit;
  }
}

void VfioUserTransport::collect_interrupts() {
  if (poll(waits_.data(), waits_.size(), 0) <= 0) return;
  for (size_t vector = 0; vector < waits_.size(); ++vector) {
    if ((waits_[vector].revents & POLLIN) == 0) continue;
    uint64_t count = 0;
    if (::read(waits_[vector].fd, &count, sizeof count) != sizeof count) continue;
    if (vector == events_.size()) {
      error_ = true;
      continue;
    }
    for (; count > 0; --count) arrived_.push_back(static_cast<uint32_t>(vector));
  }
}

std::optional<uint32_t> VfioUserTransport::take_interrupt() {
  if (arrived_.empty()) return std::nullopt;
  const uint32_t vector = arrived_.front();
  arrived_.pop_front();
  return vector;
}

bool VfioUserTransport::take_error() { return std::exchange(error_, false); }

void VfioUserTransport::inject(const std::string &fault) {
  if (!faults_) {
    throw InputError(path_ + ": the card does not let faults be provoked; serve it with --set faults.door=true");
  }
  const vfio::Message reply = request(vfio::kInject, std::as_bytes(std::span(fault.data(), fault.size())));
  if ((reply.header.flags & vfio::kError) != 0) throw Error(path_ + ": the device refuses faults");
  if (reply.payload.empty()) return;
  throw InputError(std::string(reinterpret_cast<const char *>(reply.payload.data()), reply.payload.size()));
}

uint64_t VfioUserTransport::time_ps() const {
  // Accesses take simulated time; the card tells how much when somebody wants to know.
  if (!time_known_) const_cast<VfioUserTransport *>(this)->ask_time(0);
  return time_ps_;
}

}  // namespace cx

// A card: found, booted, its memory and its queues.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "driver/transport/transport.hpp"
#include "driver/umd/counters.hpp"
#include "driver/umd/device_lock.hpp"
#include "driver/umd/die.hpp"
#include "driver/umd/energy.hpp"
#include "driver/umd/events.hpp"
#include "driver/umd/queue.hpp"
#include "driver/umd/range_allocator.hpp"
#include "driver/umd/target.hpp"
#include "driver/umd/transfer.hpp"

namespace cx {

/// Limits are in simulated time.
struct DeviceOptions {
  std::vector<std::string> overrides;    ///< "key=value" on top of the YAML file
  std::optional<uint32_t> point = {};    ///< operating point from power-on, of a card in this process: power.point
  uint64_t boot_limit_us = 100'000;      ///< from releasing the control processor until its firmware is ready
  uint64_t wait_limit_us = 600'000'000;  ///< of a wait that names none
  uint32_t queue_log2_packets = 8;       ///< size of the default queue, log2
  uint64_t staging_bytes = 2 << 20;      ///< host memory that copies of pageable memory go through, in two halves

  /// What the driver writes to the function's PCI Express capability; what is not set stays as the platform's firmware
  /// has left it. InputError for more than the function supports.
  struct Link {
    std::optional<uint32_t> payload_bytes;       ///< largest payload, 128 to what the function supports
    std::optional<uint32_t> read_request_bytes;  ///< largest read request, 128 to 4096
    std::optional<bool> relaxed_ordering;
    std::optional<bool> extended_tags;  ///< off: at most 32 reads under way
  } link = {};

  /// Takes the report of memory that is still allocated when the device is closed. None: with CX_LEAK_REPORT in the
  /// environment the report goes to stderr.
  std::function<void(const std::string &report)> on_leak = {};
};

/// What identifies a card.
struct DeviceInfo {
  uint16_t vendor_id = 0, device_id = 0;
  uint64_t bar0_bytes = 0, bar2_bytes = 0, bar4_bytes = 0;
  uint32_t link_generation = 0, link_width = 0;        ///< 0: the function has no PCI Express capability
  uint32_t payload_bytes = 0, read_request_bytes = 0;  ///< as programmed
  bool relaxed_ordering = false, extended_tags = false;
  uint32_t register_revision = 0;
  uint32_t msix_vectors = 0;
  uint32_t queues = 0;
  uint32_t tcm_bytes = 0;
  uint32_t firmware_version = 0;  ///< 8.8.16
  uint32_t firmware_protocol = 0;
  uint32_t firmware_packets = 0;  ///< bit n: packet type n is supported
  uint64_t boot_ps = 0;           ///< simulated time from releasing the control processor to READY
};

class Device;

/// Owns a range of device memory; move-only. Is empty in effect once the device is closed, which reports it.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer &&other) noexcept { swap(other); }
  DeviceBuffer &operator=(DeviceBuffer &&other) noexcept {
    DeviceBuffer(std::move(other)).swap(*this);
    return *this;
  }
  ~DeviceBuffer();
  uint64_t address() const { return address_; }  ///< on the NoC
  uint64_t size() const { return size_; }        ///< bytes
  explicit operator bool() const { return device_ != nullptr; }
  void swap(DeviceBuffer &other) noexcept;

 private:
  friend class Device;
  DeviceBuffer(Device *device, std::weak_ptr<const void> life, uint64_t address, uint64_t size)
      : device_(device), life_(std::move(life)), address_(address), size_(size) {}
  Device *device_ = nullptr;
  std::weak_ptr<const void> life_;  // of the device
  uint64_t address_ = 0, size_ = 0;
};

/// Page-aligned, zeroed host memory that the device reaches at iova(); move-only. Memory of a buffer that is alive when
/// the device is closed is reported and given up.
class HostBuffer {
 public:
  HostBuffer() = default;
  HostBuffer(HostBuffer &&other) noexcept { swap(other); }
  HostBuffer &operator=(HostBuffer &&other) noexcept {
    HostBuffer(std::move(other)).swap(*this);
    return *this;
  }
  ~HostBuffer();
  std::byte *data() const { return data_; }
  uint64_t size() const { return size_; }  ///< bytes, as asked for
  uint64_t iova() const { return iova_; }
  explicit operator bool() const { return device_ != nullptr; }
  void swap(HostBuffer &other) noexcept;

 private:
  friend class Device;
  HostBuffer(Device *device, std::weak_ptr<const void> life, std::byte *data, uint64_t size, uint64_t iova)
      : device_(device), life_(std::move(life)), data_(data), size_(size), iova_(iova) {}
  Device *device_ = nullptr;
  std::weak_ptr<const void> life_;  // of the device
  std::byte *data_ = nullptr;
  uint64_t size_ = 0, iova_ = 0;
};

/// Existing host memory that the device reaches at iova() for as long as this lives; move-only. The memory stays its
/// owner's, who must not free it before.
class HostRegistration {
 public:
  HostRegistration() = default;
  HostRegistration(HostRegistration &&other) noexcept { swap(other); }
  HostRegistration &operator=(HostRegistration &&other) noexcept {
    HostRegistration(std::move(other)).swap(*this);
    return *this;
  }
  /// Takes the mapping away whatever is under way: packets that still use it fail with an IOMMU fault.
  ~HostRegistration();
  /// The same, but throws UsageError and keeps the registration while the memory is in use, see Device::in_use().
  void release();
  std::byte *data() const { return data_; }
  uint64_t size() const { return size_; }  ///< bytes
  uint64_t iova() const { return iova_; }  ///< of data()[0]; the same offset into a page
  explicit operator bool() const { return device_ != nullptr; }
  void swap(HostRegistration &other) noexcept;

 private:
  friend class Device;
  HostRegistration(Device *device, std::weak_ptr<const void> life, std::byte *data, uint64_t size, uint64_t iova)
      : device_(device), life_(std::move(life)), data_(data), size_(size), iova_(iova) {}
  Device *device_ = nullptr;
  std::weak_ptr<const void> life_;  // of the device
  std::byte *data_ = nullptr;
  uint64_t size_ = 0, iova_ = 0;
};

/// How a copy between devices went.
struct PeerCopy {
  enum class Path {
    device,  ///< inside one device
    direct,  ///< the source's DMA wrote into the other card's memory
    staged   ///< through host memory
  } path = Path::staged;
  uint64_t duration_ps = 0;  ///< simulated time, both links included
};

class StreamSet;

/// Threads take turns: each call has the device for itself, waits give it to others every few microseconds of simulated
/// time. on_event() and what it calls run with the device's lock held.
class Device {
 public:
  /// The card in this process that the YAML file describes. Throws InputError for a bad configuration, DeviceFault when
  /// the function is not the expected one, its firmware does not start or speaks another protocol.
  static std::unique_ptr<Device> open(const std::filesystem::path &yaml, const DeviceOptions &options = {});
  static std::unique_ptr<Device> open(std::unique_ptr<Transport> transport, const DeviceOptions &options = {});
  /// address: inproc:FILE.yaml, a card in this process; or vfio-user:SOCKET, one that another process serves (cx
  /// device). Throws InputError for another address, a socket on which no card answers, or overrides for such a card.
  static std::unique_ptr<Device> connect(const std::string &address, const DeviceOptions &options = {});
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;
  ~Device();

  const DeviceInfo &info() const { return info_; }
  const Target &target() const { return target_; }
  const DeviceOptions &options() const { return options_; }

  // ---- memory ----

  /// Device memory, 64-byte aligned or more, contents undefined. name: for reports. Throws OutOfMemoryError, which says
  /// how large the largest free range is and what holds the rest.
  DeviceBuffer allocate(uint64_t bytes, uint64_t align = 64, std::string_view name = {});
  /// Pinned host memory for DMA. device_writes: whether the device may write to it.
  HostBuffer allocate_host(uint64_t bytes, bool device_writes = true, std::string_view name = {});
  /// Pins memory that exists: the device reaches it where it lies, over messages if the card is another process. The
  /// pages that hold it are mapped whole. UsageError: no bytes, or bytes that are pinned already.
  HostRegistration register_host(std::span<std::byte> memory, bool device_writes = true, std::string_view name = {});
  /// DMA address of host memory that lies in one pinned range; nothing: it is pageable.
  std::optional<uint64_t> pinned_address(const void *memory, uint64_t bytes) const;
  /// Whether a packet that is outstanding names addresses of this pinned memory, or a stream holds back a copy of it.
  bool in_use(std::span<const std::byte> memory) const;
  /// What holds device memory and pinned host memory, by name. Text of several lines.
  std::string memory_report() const;
  RangeAllocator::Stats memory_stats() const;
  RangeAllocator::Stats iova_stats() const;

  /// Copies and waits: pinned memory by DMA where it lies, other memory through staging memory. The device range lies
  /// in one allocation, or in scratchpad; else UsageError.
  void upload(uint64_t dst, std::span<const std::byte> src);
  void download(std::span<std::byte> dst, uint64_t src);
  /// The same without waiting; see Transfer. The host memory stays as it is until the transfer is done.
  Transfer upload_async(Queue &queue, uint64_t dst, std::span<const std::byte> src);
  Transfer download_async(Queue &queue, std::span<std::byte> dst, uint64_t src);
  /// Copies between two devices and waits: by DMA into the other card's memory where the cards reach each other, else
  /// through host memory. Ranges as for upload(); the same device: copy(). May use the devices' default queues.
  static PeerCopy copy_peer(Device &dst_device, uint64_t dst, Device &src_device, uint64_t src, uint64_t bytes);
  /// 2-D: `rows` rows of `row_bytes`; pitches in bytes from row to row.
  void upload_2d(uint64_t dst, uint64_t dst_pitch, const std::byte *src, uint64_t src_pitch, uint64_t row_bytes,
                 uint64_t rows);
  void download_2d(std::byte *dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch, uint64_t row_bytes,
                   uint64_t rows);
  void copy(uint64_t dst, uint64_t src, uint64_t bytes);  ///< inside the device
  void fill(uint64_t dst, uint64_t bytes, uint32_t pattern);

  // ---- queues ----

  Queue &queue() { return *queues_.front(); }  ///< the default queue, made by open()
  /// Throws OutOfMemoryError when the device has no ring left.
  Queue &create_queue(const QueueOptions &options = {});
  /// The queue must be drained. Not the default queue.
  void destroy_queue(Queue &queue);
  uint32_t free_queues();  ///< rings that create_queue() could still take
  StreamSet &streams();    ///< streams of work above the queues

  // ---- state ----

  Counters counters();
  /// The cost since `earlier`; the reads of the counters themselves are not part of it.
  Counters counters_since(const Counters &earlier);
  enum class EnergyMark : uint32_t { begin, end };
  /// The card captures what it has taken so far. Nothing is read yet: reading takes energy.
  void mark_energy(EnergyMark mark);
  /// What the card took between the last two marks of each kind.
  Energy energy_between_marks();
  /// Area and power that the card's configuration would have as silicon.
  Die die();
  /// What the core runs at; the nominal point unless DeviceOptions::point or the configuration chose another.
  OperatingPoint operating_point();
  uint64_t time_cycles();  ///< device time, core cycles
  uint64_t time_ps() const;
  /// The first fault that the device captured and nobody was told of by a fence; acknowledges it.
  std::optional<DeviceFault::Record> take_fault();

  // ---- events and recovery (docs/faults.md) ----

  /// Events since the last call, in the order in which the card captured them. Lets no time pass.
  std::vector<DeviceEvent> take_events();
  /// The oldest of them; nothing if there is none.
  std::optional<DeviceEvent> next_event();
  /// Readable while events that have reached the driver have not been taken; owned by the device. Events reach the
  /// driver while it lets time pass.
  int event_fd() const { return event_fd_; }
  /// Called for each event as it reaches the driver, inside of whatever call lets time pass. It must not use the
  /// device.
  void on_event(std::function<void(const DeviceEvent &)> callback) { on_event_ = std::move(callback); }
  /// Sum of event_bit(): kinds that do not interrupt the host. The card captures them all the same; they come with the
  /// next event that is not masked, or when the mask is lifted.
  void set_event_mask(uint32_t mask);
  /// Tries a reset of the queues that a wait gave up on or that are in state ERROR, then of the engines, then of the
  /// function, until the card works; throws when nothing helps. Device memory and buffers keep addresses and contents;
  /// packets of the queues that were reset end as ABORTED, after a function reset those of all queues. Waits for a link
  /// that is down, at most limit_us of simulated time (0: the boot limit).
  Recovery recover(uint64_t limit_us = 0);
  /// Whether the card has stopped as a whole (LINK_DOWN, FIRMWARE_CRASH): only recover() is of use.
  bool dead() const { return dead_.has_value(); }
  /// Lets the engines run again after a thermal trip.
  void end_thermal_trip();
  uint32_t array_split();       ///< slots of a shared array that are sparse tiles at present; 0 on other chips
  uint64_t corrected_errors();  ///< of memory, since power-on
  /// Provokes a fault: KIND[@key=value,...]. Throws InputError.
  void inject(const std::string &fault);

  uint64_t interrupts(uint32_t vector) const { return vector < interrupts_.size() ? interrupts_[vector] : 0; }

  uint32_t read_register(uint64_t offset);  ///< BAR0
  void write_register(uint64_t offset, uint32_t value);
  uint64_t read_register64(uint64_t offset_lo);  ///< two words, low first
  Transport &transport() { return *transport_; }
  /// The turn of the calling thread; recursive. Several calls under it are one for other threads.
  DeviceLock &lock() const { return lock_; }

  /// Lets simulated time pass until `done` returns true, asking after each interrupt and at least every slice_us.
  /// `what` is for the TimeoutError. limit_us 0 takes wait_limit_us.
  template <class Done>
  void wait_until(Done &&done, uint64_t limit_us, const std::string &what, uint64_t slice_us = 20);

  /// The same until a point of simulated time: false when it has come, or earlier when the device is idle.
  bool wait_until_idle(const std::function<bool()> &done, uint64_t deadline_ps);

  /// Text of a fault: status, engine, place.
  static std::string describe(const DeviceFault::Record &record);
  /// Throws LinkDownError, FirmwareCrashError or DeviceFault, by the record's status.
  [[noreturn]] static void throw_fault(const DeviceFault::Record &record, const std::string &message);

 private:
  friend class DeviceBuffer;
  friend class HostBuffer;
  friend class HostRegistration;
  friend class Queue;
  friend class Stream;
  friend class Timeline;
  friend class Transfer;
  Device(std::unique_ptr<Transport> transport, const DeviceOptions &options);
  void identify();
  void size_bars();
  void enable_msix();
  void initiate_function_reset();
  void enable_events();
  void collect_events();
  DeviceEvent read_event(uint32_t kind);
  std::vector<DeviceFault::EngineState> read_hang();
  /// The watchdog's report about a packet; empty if it was not kept.
  std::vector<DeviceFault::EngineState> hang_of(uint32_t queue, uint64_t packet);
  std::vector<DeviceFault::EngineState> engine_states();  ///< of those that are busy now
  bool link_is_down();
  bool firmware_crashed();
  /// Throws LinkDownError when the link is down.
  void check_link();
  /// A refused access on a link that is down is that, and no fault of the device.
  template <class Access>
  void access_register(Access &&access);
  /// Finds out whether the card has stopped as a whole.
  void check_health();
  void require_alive() const;
  void declare_dead(const DeviceFault::Record &record);
  template <class Say>
  bool recover_queues(Recovery &result, Say &&say);
  void reset_function(Recovery &result, uint64_t limit_us);
  void sleep_us(uint64_t us);
  /// The 64-bit value at an address of DMA memory.
  std::optional<uint64_t> host_value(uint64_t iova) const;
  void configure_link();
  void boot();
  void read_capabilities();
  void enable_queue(Queue &queue);
  void host_command(uint32_t op, uint32_t queue);
  void free_device(uint64_t address);
  void free_host(std::byte *data, uint64_t size, uint64_t iova) noexcept;
  void unregister(std::byte *data, uint64_t size, uint64_t iova) noexcept;
  HostBuffer take_staging();
  void give_staging(HostBuffer buffer) noexcept;
  void report_leaks() noexcept;
  /// DMA address of the other device's memory; 0: the cards do not reach each other.
  uint64_t peer_window(Device &peer);
  void drop_peer(Device &peer) noexcept;
  void drop_peers() noexcept;  ///< on both sides
  /// DMA address at which this device reaches a range of the other one's memory; 0: it does not.
  uint64_t peer_address(Device &peer, uint64_t address, uint64_t bytes);
  bool copy_direct(uint64_t dst, Device &dst_device, uint64_t src, uint64_t bytes);
  void check_device_range(uint64_t address, uint64_t bytes, const char *operation) const;
  Counters read_counters(bool link_last);
  std::vector<NocLinkCounters> read_noc_links();
  Energy read_energy(EnergyMark mark);
  std::optional<bool> thermal_;  // whether the card models temperature, once it was asked
  std::optional<OperatingPoint> point_;
  /// Moves a captured fault from the device's registers to faults_.
  void collect_fault();
  /// Takes the fault of one packet out of faults_.
  std::optional<DeviceFault::Record> claim_fault(uint32_t queue, uint64_t packet);
  void drain_interrupts();
  /// Lets time pass until an interrupt, the deadline, or at most slice_us. False: the device is idle.
  bool wait_step(uint64_t deadline_ps, uint64_t slice_us);
  /// What streams hold back and can do now. Whether there was something.
  bool make_progress();
  [[noreturn]] void no_answer(const std::string &what, uint64_t limit_us, bool idle);

  mutable DeviceLock lock_;
  std::unique_ptr<Transport> transport_;
  DeviceOptions options_;
  DeviceInfo info_;
  Target target_;
  std::unique_ptr<RangeAllocator> memory_;
  RangeAllocator iova_;
  std::vector<uint64_t> interrupts_;  // by vector
  std::vector<DeviceFault::Record> faults_;
  std::deque<DeviceEvent> events_;
  std::deque<DeviceEvent> hangs_;             // the last, for fences
  std::array<uint64_t, kEventKinds> seen_{};  // order of the last event of each kind
  std::function<void(const DeviceEvent &)> on_event_;
  int event_fd_ = -1;
  uint32_t event_vector_ = 0, event_mask_ = 0;
  std::optional<DeviceFault::Record> dead_;                    // why the card has stopped as a whole
  std::map<uint64_t, std::pair<std::byte *, uint64_t>> host_;  // DMA memory by address
  std::vector<std::unique_ptr<Queue>> queues_;
  std::unique_ptr<StreamSet> streams_;
  struct Pinned {
    uint64_t bytes, iova;
  };
  std::map<const std::byte *, Pinned> pinned_;
  std::vector<HostBuffer> staging_;  // free ones
  struct PeerWindow {
    uint64_t iova = 0, bytes = 0;  // 0: not reachable
  };
  std::map<Device *, PeerWindow> peers_;                        // whose memory this device reaches, or does not
  std::vector<Device *> reached_by_;                            // devices that have this one in their peers_
  std::shared_ptr<const void> life_ = std::make_shared<int>();  // destroyed first
};

template <class Done>
void Device::wait_until(Done &&done, uint64_t limit_us, const std::string &what, uint64_t slice_us) {
  const uint64_t limit = limit_us ? limit_us : options_.wait_limit_us;
  const uint64_t deadline = time_ps() + limit * 1'000'000;
  for (;;) {
    const std::lock_guard lock(lock_);
    if (done()) return;
    if (transport_->time_ps() >= deadline) no_answer(what, limit, false);
    if (!wait_step(deadline, slice_us) && !done()) no_answer(what, limit, true);
  }
}

}  // namespace cx

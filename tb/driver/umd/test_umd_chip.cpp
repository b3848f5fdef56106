// The driver on the simulated card. One kernel serves all cases: each opens the card again, which power-cycles it.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "driver/runtime/image_builder.hpp"
#include "driver/umd/device.hpp"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/perf_regs.h"
#include "hw/regs/gen/power_regs.h"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/driver/transport/served_card.hpp"
#include "tb/driver/umd/launch.hpp"

using namespace cx;
using tb::Launch;

namespace {

constexpr const char *kChip = "configs/chips/tiny.yaml";

std::unique_ptr<Device> open_card(const DeviceOptions &options = {}) { return tb::open_test_card(kChip, options); }

std::vector<std::byte> random_bytes(std::mt19937 &random, size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::byte &byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// The queue takes a packet and serves it right after whatever happened before.
void require_alive(Device &device) {
  const DeviceBuffer buffer = device.allocate(64);
  const std::vector<std::byte> data(64, std::byte{0x5a});
  device.upload(buffer.address(), data);
  std::vector<std::byte> back(64);
  device.download(back, buffer.address());
  REQUIRE(back == data);
  REQUIRE_FALSE(device.take_fault());
}

void require_fault(Device &device, const Fence &fence, uint32_t status) {
  const Completion &completion = fence.wait_status();
  REQUIRE(packets::status_name(completion.status) == packets::status_name(status));
  REQUIRE(fence.fault());
  REQUIRE(fence.fault()->status == status);
  REQUIRE(fence.fault()->queue == 0);
  REQUIRE(fence.fault()->packet == fence.index());
  REQUIRE_THROWS_AS(fence.wait(), DeviceFault);
  require_alive(device);
}

isa::Tdesc tensor(uint8_t index, uint32_t base, uint16_t elements) {
  isa::Tdesc desc;
  desc.index = index;
  desc.dtype = isa::DType::FP32;
  desc.base = base;
  desc.dims = {1, 1, 1, elements};
  desc.strides = {0, 0, 0, 4};
  return desc;
}

isa::Mdesc memory(uint8_t index, uint8_t segment, uint64_t offset) {
  isa::Mdesc desc;
  desc.index = index;
  desc.segment = segment;
  desc.offset = offset;
  desc.strides = {0, 0, 0, 4};
  return desc;
}

// An image with one stream.
std::vector<std::byte> one_stream(Device &device, isa::Engine engine, std::vector<isa::Inst> instructions) {
  ImageBuilder builder;
  instructions.push_back(isa::End{}.encode());
  builder.add_stream(static_cast<uint32_t>(engine), instructions);
  return builder.finish(device.target().arch_hash, 4);
}

}  // namespace

TEST_CASE("the card boots and tells what it is") {
  const auto device = open_card();
  const DeviceInfo &info = device->info();
  REQUIRE(info.bar0_bytes == CX_BAR0_SIZE);
  REQUIRE(info.bar2_bytes >= info.tcm_bytes);
  REQUIRE(info.firmware_protocol == CX_PACKET_PROTOCOL);
  REQUIRE((info.firmware_packets & 1u << CX_PKT_LAUNCH) != 0);
  REQUIRE(info.boot_ps > 0);
  const Target &target = device->target();
  REQUIRE(target.clock_khz == 500'000);
  REQUIRE(target.tiles == 2);
  REQUIRE(target.tile_rows == 8);
  REQUIRE(target.tile_cols == 8);
  REQUIRE(target.tile_acc_rows == 256);
  REQUIRE(target.tile_pack == 1);
  REQUIRE_FALSE(target.output_stationary);
  REQUIRE(target.vpu_lanes == 8);
  REQUIRE(target.spm_bytes == 512 << 10);
  REQUIRE(target.dram_bytes == 256ull << 20);
  REQUIRE(target.semaphores == 64);
  REQUIRE(target.arch_hash != 0);
  REQUIRE(info.queues == 4);
  REQUIRE_FALSE(device->take_fault());
}

TEST_CASE("bytes arrive in DRAM and scratchpad and come back") {
  const uint32_t seed = 11;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  DeviceOptions options;
  options.staging_bytes = 64 << 10;
  const auto device = open_card(options);
  for (const size_t size : {1u, 2u, 63u, 64u, 4097u, 32u << 10, 300'001u}) {
    const DeviceBuffer a = device->allocate(size), b = device->allocate(size);
    const auto data = random_bytes(random, size);
    device->upload(a.address(), data);
    device->copy(b.address(), a.address(), size);
    std::vector<std::byte> back(size);
    device->download(back, b.address());
    REQUIRE(back == data);
  }
  const auto data = random_bytes(random, 4096);
  device->upload(CX_MEM_SPM_BASE + 100, data);
  std::vector<std::byte> back(4096);
  device->download(back, CX_MEM_SPM_BASE + 100);
  REQUIRE(back == data);

  const DeviceBuffer buffer = device->allocate(100 * 48);
  device->fill(buffer.address(), 100 * 48, 0x01020304);
  const auto rows = random_bytes(random, 20 * 40);
  device->upload_2d(buffer.address(), 48, rows.data(), 20, 20, 40);
  std::vector<std::byte> all(100 * 48);
  device->download(all, buffer.address());
  for (size_t i = 0; i < all.size(); ++i) {
    const size_t row = i / 48, column = i % 48;
    const auto pattern = static_cast<std::byte>(0x01020304 >> 8 * (i % 4));
    REQUIRE(all[i] == (row < 40 && column < 20 ? rows[row * 20 + column] : pattern));
  }
  std::vector<std::byte> packed(20 * 40);
  device->download_2d(packed.data(), 20, buffer.address(), 48, 20, 40);
  REQUIRE(packed == rows);
}

TEST_CASE("every packet that the description refuses is refused by the device with the same words") {
  const uint32_t seed = 5;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto device = open_card();
  Queue &queue = device->queue();
  const auto try_packet = [&](packets::Bytes bytes) {
    bytes[1] &= 0x1f;
    // What the queue will patch in is checked as part of the packet.
    packets::Bytes seen = bytes;
    const uint16_t none = CX_PKT_VECTOR_NONE;
    std::memcpy(seen.data() + offsetof(cx_packet_header, vector), &none, 2);
    std::memset(seen.data() + offsetof(cx_packet_header, completion), 0, 16);
    const packets::Check expected = packets::validate(seen);
    if (expected.status == packets::Status::OK) return false;
    INFO("packet " << packets::to_string(bytes));
    const Fence fence = queue.submit_raw(bytes, true);
    const Completion &completion = fence.wait_status();
    REQUIRE(packets::status_name(completion.status) == packets::status_name(static_cast<uint32_t>(expected.status)));
    REQUIRE(completion.detail == expected.detail);
    return true;
  };
  int refused = 0;
  for (uint32_t type = 0; type < 256; type += type < 20 ? 1 : 47) {
    packets::Bytes bytes{};
    bytes[0] = static_cast<uint8_t>(type);
    refused += try_packet(bytes);
  }
  for (int round = 0; round < 150; ++round) {
    packets::Bytes bytes{};
    bytes[0] = static_cast<uint8_t>(1 + random() % 9);
    for (uint32_t changes = 1 + random() % 3; changes; --changes)
      bytes[2 + random() % 62] = static_cast<uint8_t>(random());
    refused += try_packet(bytes);
  }
  REQUIRE(refused > 60);
  require_alive(*device);
}

TEST_CASE("bad packets of each kind fault and the next packet works") {
  const auto device = open_card();
  Queue &queue = device->queue();
  const DeviceBuffer buffer = device->allocate(4096);
  const HostBuffer host = device->allocate_host(4096), sealed = device->allocate_host(4096, false);

  SECTION("unknown type") {
    Queue::RawPacket packet{};
    packet[0] = 99;
    require_fault(*device, queue.submit_raw(packet, true), CX_STATUS_BAD_TYPE);
  }
  SECTION("reserved bits") {
    Queue::RawPacket packet = packets::Nop{}.to_bytes();
    packet[40] = 1;
    const Fence fence = queue.submit_raw(packet, true);
    require_fault(*device, fence, CX_STATUS_RESERVED_BITS);
    REQUIRE(fence.wait_status().detail == 40);
  }
  SECTION("field out of range") {
    require_fault(*device, queue.copy_2d(7, buffer.address(), 0, host.iova(), 0, 64, 1), CX_STATUS_BAD_FIELD);
    require_fault(*device, queue.copy_to_device(buffer.address(), host.iova(), 0), CX_STATUS_BAD_FIELD);
    require_fault(*device, queue.barrier({0, 0, 0, 0}, true), CX_STATUS_BAD_FIELD);
  }
  SECTION("misaligned") { require_fault(*device, queue.fill(buffer.address() + 2, 64, 0), CX_STATUS_BAD_ALIGNMENT); }
  SECTION("device address not mapped") {
    const uint64_t end = CX_MEM_DRAM_BASE + device->target().dram_bytes;
    const Fence fill = queue.fill(end, 64, 0);
    require_fault(*device, fill, CX_STATUS_BAD_ADDRESS);
    REQUIRE(fill.fault()->address == end);
    require_fault(*device, queue.copy_to_device(end - 32, host.iova(), 64), CX_STATUS_BAD_ADDRESS);
    require_fault(*device, queue.copy_to_host(host.iova(), 0x10, 64), CX_STATUS_BAD_ADDRESS);
    require_fault(*device, queue.copy_on_device(buffer.address(), 0x2'0000'0000, 64), CX_STATUS_BAD_ADDRESS);
  }
  SECTION("host address not mapped") {
    const Fence read = queue.copy_to_device(buffer.address(), 0x5000, 64);
    require_fault(*device, read, CX_STATUS_IOMMU_FAULT);
    REQUIRE(read.fault()->address == 0x5000);
    // The page behind a buffer is never mapped.
    const Fence over = queue.copy_to_host(host.iova(), buffer.address(), 4097);
    require_fault(*device, over, CX_STATUS_IOMMU_FAULT);
    require_fault(*device, queue.copy_to_host(sealed.iova(), buffer.address(), 64), CX_STATUS_IOMMU_FAULT);
    require_fault(*device, queue.signal(0x5000, 1), CX_STATUS_IOMMU_FAULT);
    require_fault(*device, queue.timestamp(0x5000), CX_STATUS_IOMMU_FAULT);
    require_fault(*device, queue.wait_value(0x5000, CX_COMPARE_EQ, 1), CX_STATUS_IOMMU_FAULT);
  }
  SECTION("reserved packet types") {
    for (const uint8_t type : {CX_PKT_RECONFIG, CX_PKT_SEND, CX_PKT_RECV, CX_PKT_COLLECTIVE}) {
      Queue::RawPacket packet{};
      packet[0] = type;
      require_fault(*device, queue.submit_raw(packet, true), CX_STATUS_UNSUPPORTED);
    }
  }
  SECTION("completion record not mapped") {
    packets::Nop nop;
    nop.completion = 0x7000;
    nop.completion_value = 1;
    const Fence fence = queue.submit_raw(nop.to_bytes(), false);
    REQUIRE(fence.wait_status().status == CX_STATUS_IOMMU_FAULT);
    require_alive(*device);
  }
}

TEST_CASE("unmapped registers and odd accesses are refused, and the card goes on") {
  const auto device = open_card();
  for (const uint64_t offset :
       {uint64_t{0x200}, uint64_t{0xd0000}, uint64_t{CX_BAR0_SIZE - 4}, uint64_t{CX_BAR0_SIZE}}) {
    INFO("offset " << offset);
    REQUIRE_THROWS_AS(device->read_register(offset), DeviceFault);
  }
  REQUIRE_THROWS_AS(device->read_register(2), DeviceFault);
  uint64_t wide = 0;
  REQUIRE_THROWS_AS(device->transport().read(0, 0, &wide, 8), DeviceFault);
  REQUIRE_THROWS_AS(device->transport().read(1, 0, &wide, 4), DeviceFault);
  require_alive(*device);
}

TEST_CASE("a launch computes") {
  const auto device = open_card();
  constexpr uint32_t kElements = 200;
  const Program program = test::sample_program(device->target().arch_hash, kElements, 2.25f);
  const Launch launch(*device, program.image, kElements * 4);
  std::vector<float> x(kElements), y(kElements);
  for (uint32_t i = 0; i < kElements; ++i) x[i] = 0.5f * static_cast<float>(i) - 50.0f;
  device->upload(launch.in.address(), std::as_bytes(std::span(x)));
  const Counters before = device->counters();
  const Completion &completion = launch.submit(device->queue()).wait();
  const Counters cost = device->counters_since(before);
  device->download(std::as_writable_bytes(std::span(y)), launch.out.address());
  for (uint32_t i = 0; i < kElements; ++i) REQUIRE(y[i] == std::max(x[i] + 2.25f, 0.0f));
  REQUIRE(completion.end > completion.start);
  REQUIRE(cost.packets == 1);
  REQUIRE(cost.interrupts == 1);
  REQUIRE(cost.engines[0].instructions == 8);
  REQUIRE(cost.engines[1].instructions == 5);
  REQUIRE(cost.engines[2].instructions == 0);
  REQUIRE(cost.engines[3].instructions == 8);
  REQUIRE(cost.engines[0].ops == kElements + 16);
  REQUIRE(cost.engines[1].bytes_written == kElements * 4);
  REQUIRE(cost.engines[3].ops == 2 * kElements);
  REQUIRE(cost.firmware_instructions > 0);
  for (const EngineCounters &engine : cost.engines) REQUIRE(engine.busy_cycles <= completion.end - completion.start);
}

TEST_CASE("reading the counters is not in what they count") {
  const auto device = open_card();
  const Counters before = device->counters();
  const Counters idle = device->counters_since(before);
  // Between the two moments lie the reading of the time and the write that asks for the second.
  CHECK(idle.pcie_to_host == 8);
  CHECK(idle.pcie_to_device == 4);
  CHECK(idle.dram_read + idle.dram_written + idle.spm_read + idle.spm_written == 0);
  CHECK(idle.packets == 0);
  // An access that belongs to nothing held is counted.
  const Counters again = device->counters();
  device->array_split();
  CHECK(device->counters_since(again).pcie_to_host == 8 + 4);
}

TEST_CASE("held counters stand still until they are let go, and are captured anew by each hold") {
  const auto device = open_card();
  const auto perf = [](uint64_t offset) { return CX_MAP_PERF_OFFSET + offset; };
  // Reading a register is traffic.
  const auto running = [&] { return device->read_register64(perf(CX_PERF_PCIE_TO_HOST_LO)); };
  const uint64_t first = running();
  REQUIRE(running() > first);
  device->write_register(perf(CX_PERF_HOLD), 7);
  const uint64_t held = running();
  REQUIRE(held > first);
  REQUIRE(running() == held);
  REQUIRE(device->read_register64(perf(CX_PERF_NOC_LO)) == device->read_register64(perf(CX_PERF_NOC_LO)));
  require_alive(*device);  // the card's own transfers go on counting
  REQUIRE(running() == held);
  device->write_register(perf(CX_PERF_HOLD), 8);
  REQUIRE(running() > held);
  device->write_register(perf(CX_PERF_HOLD), 0);
  const uint64_t later = running();
  REQUIRE(running() > later);
  device->counters();
  REQUIRE(device->read_register(perf(CX_PERF_HOLD)) == 0);
}

TEST_CASE("counters that were held when a card was closed run when it is opened again") {
  constexpr uint64_t kHold = CX_MAP_PERF_OFFSET + CX_PERF_HOLD;
  open_card()->write_register(kHold, 9);
  const auto device = open_card();
  REQUIRE(device->read_register(kHold) == 0);
  const auto running = [&] { return device->read_register64(CX_MAP_PERF_OFFSET + CX_PERF_PCIE_TO_HOST_LO); };
  const uint64_t first = running();
  REQUIRE(running() > first);
}

TEST_CASE("energy can be read as it grows, and agrees with what is captured") {
  const auto device = open_card();
  const auto now = [&](uint32_t domain) {
    return device->read_register64(CX_MAP_POWER_OFFSET + CX_POWER_NOW_LO(domain));
  };
  constexpr uint32_t kPcie = 7, kLeakage = 9;
  const uint64_t pcie = now(kPcie), leakage = now(kLeakage);
  REQUIRE(now(kPcie) > pcie);  // each read goes over the link
  REQUIRE(now(kLeakage) >= leakage);
  const uint64_t before = now(kPcie);
  device->mark_energy(Device::EnergyMark::begin);
  device->mark_energy(Device::EnergyMark::end);
  const uint64_t captured = device->read_register64(CX_MAP_POWER_OFFSET + CX_POWER_ENERGY_LO(16 + kPcie));
  REQUIRE(captured > before);
  REQUIRE(now(kPcie) > captured);
  for (uint32_t domain = 10; domain < 16; ++domain) REQUIRE(now(domain) == 0);
}

TEST_CASE("programs that go wrong fault with engine and instruction") {
  const auto device = open_card();
  Queue &queue = device->queue();
  const auto fails = [&](const std::vector<std::byte> &image, uint32_t status, int engine, uint64_t pc,
                         uint32_t timeout_kcycles = 0) {
    const Launch launch(*device, image, 4096);
    const Fence fence = launch.submit(queue, timeout_kcycles);
    INFO("status " << packets::status_name(fence.wait_status().status));
    require_fault(*device, fence, status);
    REQUIRE(fence.fault()->engine == engine);
    if (engine >= 0) REQUIRE(fence.fault()->pc == pc);
    // The engines must run the next program as if nothing had been.
    const Launch good(*device, test::sample_program(device->target().arch_hash).image, 256);
    good.submit(queue).wait();
  };
  using isa::Engine;
  SECTION("damaged program") {
    auto image = test::sample_program(device->target().arch_hash).image;
    image[70] ^= std::byte{4};
    fails(image, CX_STATUS_BAD_PROGRAM, -1, 0);
  }
  SECTION("another architecture") {
    fails(test::sample_program(~device->target().arch_hash).image, CX_STATUS_WRONG_ARCH, -1, 0);
  }
  SECTION("illegal instruction") {
    isa::Inst bad{};
    bad[0] = 0xee;
    fails(one_stream(*device, Engine::VPU, {isa::Nop{}.encode(), bad}), CX_STATUS_ILLEGAL_INSTRUCTION, 3, 1);
    fails(one_stream(*device, Engine::LOAD, {isa::VUnary{}.encode()}), CX_STATUS_ILLEGAL_INSTRUCTION, 0, 0);
  }
  SECTION("segment left") {
    isa::DmaLoad load;
    fails(
        one_stream(*device, Engine::LOAD, {tensor(0, 0, 16).encode(), memory(0, 2, 4096 - 32).encode(), load.encode()}),
        CX_STATUS_SEGMENT_FAULT, 0, 2);
    fails(one_stream(*device, Engine::LOAD, {tensor(0, 0, 16).encode(), memory(0, 60, 0).encode(), load.encode()}),
          CX_STATUS_SEGMENT_FAULT, 0, 2);
  }
  SECTION("scratchpad left") {
    isa::VUnary copy;
    copy.dst = 0;
    copy.src = 0;
    fails(one_stream(*device, Engine::VPU, {tensor(0, device->target().spm_bytes - 32, 16).encode(), copy.encode()}),
          CX_STATUS_SPM_FAULT, 3, 1);
  }
  SECTION("index outside its dimension") {
    isa::Tdesc index = tensor(1, 1024, 1);
    index.dtype = isa::DType::INT32;
    isa::VUnary value;  // 0 * x - 17
    value.dst = value.src = 2;
    value.func = isa::Unary::AFFINE;
    value.imm1 = -17;
    isa::VGather gather;
    gather.dst = 2;
    gather.idx = 1;
    gather.axis = 3;
    isa::VUnary convert;
    convert.dst = 1;
    convert.src = 2;
    const auto image = one_stream(*device, Engine::VPU,
                                  {tensor(0, 0, 16).encode(), index.encode(), tensor(2, 512, 1).encode(),
                                   value.encode(), convert.encode(), gather.encode()});
    fails(image, CX_STATUS_INDEX_RANGE, 3, 5);
    const Launch launch(*device, image, 4096);
    REQUIRE_THROWS_WITH(launch.submit(queue).wait(),
                        Catch::Contains("INDEX_RANGE") && Catch::Contains("; engine vpu instruction 5; index -17"));
  }
  SECTION("semaphore that does not exist") {
    isa::SemPost post;
    post.sem = 255;
    post.count = 1;
    fails(one_stream(*device, Engine::STORE, {post.encode()}), CX_STATUS_SEM_OVERFLOW, 1, 0);
  }
  SECTION("semaphore overflow") {
    isa::SemPost post;
    post.sem = 3;
    post.count = 65535;
    isa::SemPost one = post;
    one.count = 1;
    fails(one_stream(*device, Engine::DMMU, {post.encode(), one.encode()}), CX_STATUS_SEM_OVERFLOW, 2, 1);
  }
  SECTION("no END") {
    auto image = one_stream(*device, Engine::LOAD, {isa::Nop{}.encode()});
    const ImageInfo info = parse_image(image);
    std::memset(image.data() + info.streams[0].offset + 32, 0, 32);
    fails(image, CX_STATUS_STREAM_OVERRUN, 0, 2);
  }
  SECTION("watchdog") {
    isa::SemWait wait;
    wait.sem = 9;
    wait.count = 1;
    fails(one_stream(*device, Engine::VPU, {isa::Nop{}.encode(), wait.encode()}), CX_STATUS_TIMEOUT, 3, 1, 4);
  }
}

TEST_CASE("rings wrap and fill on the device as well") {
  const auto device = open_card();
  Queue &queue = device->create_queue({1, 0});
  const HostBuffer counter = device->allocate_host(8);
  for (int i = 0; i < 40; ++i) queue.signal(counter.iova(), 1, true, {.barrier = i % 2 == 0});
  queue.drain();
  uint64_t value = 0;
  std::memcpy(&value, counter.data(), 8);
  REQUIRE(value == 40);
  REQUIRE(queue.stats().full_waits > 0);
  device->destroy_queue(queue);
  device->create_queue({3, 2}).nop().wait();
}

TEST_CASE("queues wait for each other, and a waiting queue holds up no other") {
  const auto device = open_card();
  Queue &a = device->create_queue({4, 0}), &b = device->create_queue({4, 1});
  const HostBuffer flag = device->allocate_host(64), stamps = device->allocate_host(64);
  const Fence waited = a.wait_value(flag.iova(), CX_COMPARE_GE, 5);
  const Fence after = a.timestamp(stamps.iova());
  b.nop().wait();
  REQUIRE_FALSE(waited.done());
  b.signal(flag.iova(), 3).wait();
  b.timestamp(stamps.iova() + 8).wait();
  REQUIRE_FALSE(waited.done());
  b.signal(flag.iova(), 2, true).wait();
  after.wait();
  uint64_t times[2] = {};
  std::memcpy(times, stamps.data(), sizeof times);
  REQUIRE(times[0] > times[1]);
  REQUIRE(times[1] > 0);

  const HostBuffer deps = device->allocate_host(64);
  const Fence all = a.barrier({deps.iova(), deps.iova() + 8, 0, 0}, false);
  const Fence any = b.barrier({deps.iova(), deps.iova() + 8, 0, 0}, true);
  device->queue().signal(deps.iova() + 8, 1).wait();
  any.wait();
  REQUIRE_FALSE(all.done());
  device->queue().signal(deps.iova(), 1).wait();
  all.wait();

  const Fence never = a.wait_value(flag.iova(), CX_COMPARE_EQ, 99);
  REQUIRE_THROWS_AS(never.wait(200), TimeoutError);
  device->queue().signal(flag.iova(), 99).wait();
  never.wait();
}

TEST_CASE("interrupts are raised for the vector of the queue") {
  const auto device = open_card();
  const uint64_t before = device->interrupts(1);
  for (int i = 0; i < 5; ++i) device->queue().nop({.interrupt = true}).wait();
  REQUIRE(device->interrupts(1) == before + 5);
  device->queue().nop().wait();
  REQUIRE(device->interrupts(1) == before + 5);
}

TEST_CASE("two runs take the same cycles") {
  struct Trace {
    std::vector<uint64_t> numbers;
    std::vector<float> y;
    bool operator==(const Trace &) const = default;
  };
  const auto run = [] {
    const auto device = open_card();
    const Launch launch(*device, test::sample_program(device->target().arch_hash).image, 256);
    std::vector<float> x(64, 1.0f), y(64);
    device->upload(launch.in.address(), std::as_bytes(std::span(x)));
    Trace trace;
    // Device time goes on when a card is opened again in one process.
    uint64_t origin = 0;
    for (int i = 0; i < 3; ++i) {
      const Completion completion = launch.submit(device->queue()).wait();
      if (i == 0) origin = completion.start;
      trace.numbers.insert(trace.numbers.end(), {completion.start - origin, completion.end - origin});
    }
    device->download(std::as_writable_bytes(std::span(y)), launch.out.address());
    const Counters c = device->counters();
    trace.numbers.insert(trace.numbers.end(), {device->time_ps(), device->info().boot_ps, c.cycles - origin,
                                               c.firmware_instructions, c.firmware_cycles, c.dram_read, c.dram_written,
                                               c.spm_read, c.noc, c.pcie_to_device, c.pcie_to_host, c.interrupts});
    for (const EngineCounters &engine : c.engines)
      trace.numbers.insert(trace.numbers.end(), {engine.busy_cycles, engine.stall_cycles});
    trace.y = y;
    return trace;
  };
  const Trace first = run(), second = run();
  REQUIRE(first.numbers == second.numbers);
  REQUIRE(first == second);
}

TEST_CASE("threads at two cards of one process") {
  if (std::getenv("CX_TEST_TRANSPORT") != nullptr) return;  // a served card has its process for itself
  const auto work = [](Device &device, unsigned seed) {
    std::mt19937 random(seed);
    const DeviceBuffer buffer = device.allocate(100'000);
    std::vector<std::byte> back(buffer.size());
    unsigned wrong = 0;
    for (int round = 0; round < 10; ++round) {
      const std::vector<std::byte> data = random_bytes(random, buffer.size());
      device.upload(buffer.address(), data);
      device.download(back, buffer.address());
      wrong += back != data ? 1 : 0;
    }
    return wrong;
  };
  const auto one = Device::open(kChip), two = Device::open(kChip);
  unsigned wrong_one = 1, wrong_two = 1;
  std::thread other([&] { wrong_two = work(*two, 2); });
  wrong_one = work(*one, 1);
  other.join();
  CHECK(wrong_one == 0);
  CHECK(wrong_two == 0);
}

// The chip through its connector: identification, boot, packets, faults, a launch, reset and reuse.
#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "hw/regs/gen/engine_regs.h"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/perf_regs.h"
#include "hw/regs/gen/sdma_regs.h"
#include "tb/hw/chip/card.hpp"

using namespace cx;
using namespace cx::tb;
using packets::Direction;

namespace {

constexpr uint64_t kDev = CX_MAP_DEV_OFFSET;
constexpr uint64_t kDram = CX_MEM_DRAM_BASE;

void ready(Card &card) {
  card.enable();
  card.boot();
  card.enable_queue();
}

uint32_t crc32(const uint8_t *data, size_t size, uint32_t crc = 0xffffffff) {
  for (size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320 & (0 - (crc & 1)));
  }
  return crc;
}

struct Stream {
  isa::Engine engine;
  std::vector<isa::Inst> code;
};

std::vector<uint8_t> image_of(const std::vector<Stream> &streams, uint32_t segments, uint64_t arch_hash) {
  const uint64_t table = sizeof(cx_program_header);
  const uint64_t code = (table + streams.size() * sizeof(cx_stream_entry) + 31) / 32 * 32;
  std::vector<uint8_t> image(code);
  cx_program_header header{};
  header.magic = CX_PROGRAM_MAGIC;
  header.version = CX_PROGRAM_VERSION;
  header.streams = static_cast<uint16_t>(streams.size());
  header.arch_hash = arch_hash;
  header.segment_count = segments;
  header.stream_table = static_cast<uint32_t>(table);
  for (size_t i = 0; i < streams.size(); ++i) {
    const cx_stream_entry entry{static_cast<uint32_t>(streams[i].engine), static_cast<uint32_t>(streams[i].code.size()),
                                image.size()};
    std::memcpy(&image[table + i * sizeof entry], &entry, sizeof entry);
    for (const isa::Inst &inst : streams[i].code) image.insert(image.end(), inst.begin(), inst.end());
  }
  header.image_bytes = image.size();
  std::memcpy(image.data(), &header, sizeof header);
  uint32_t crc = crc32(image.data(), sizeof header);
  crc = ~crc32(&image[table], streams.size() * sizeof(cx_stream_entry), crc);
  std::memcpy(&image[offsetof(cx_program_header, crc)], &crc, 4);
  return image;
}

// dst = a + b, `count` FP32 elements; segments 1, 2 and 3 are a, b and dst.
std::vector<Stream> add_program(uint16_t count) {
  const auto view = [&](uint8_t index, uint32_t base) {
    isa::Tdesc desc;
    desc.index = index;
    desc.base = base;
    desc.dims = {1, 1, 1, count};
    desc.strides = {0, 0, 0, 4};
    return desc.encode();
  };
  const auto memory = [&](uint8_t index, uint8_t segment) {
    isa::Mdesc desc;
    desc.index = index;
    desc.segment = segment;
    desc.strides = {0, 0, 0, 4};
    return desc.encode();
  };
  const auto sem = [](auto inst, uint8_t number, uint16_t amount) {
    inst.sem = number;
    inst.count = amount;
    return inst.encode();
  };
  const auto load = [](uint8_t index) {
    isa::DmaLoad inst;
    inst.dst = index;
    inst.src = index;
    return inst.encode();
  };
  isa::VBinary add;
  add.func = isa::Binary::ADD;
  add.dst = 2;
  add.a = 0;
  add.b = 1;
  isa::DmaStore store;
  store.src = 2;
  store.dst = 2;
  const uint32_t bytes = count * 4u;
  return {
      {isa::Engine::LOAD,
       {view(0, 0), view(1, bytes), memory(0, 1), memory(1, 2), load(0), load(1), sem(isa::SemPost{}, 0, 1),
        isa::End{}.encode()}},
      {isa::Engine::VPU,
       {view(0, 0), view(1, bytes), view(2, 2 * bytes), sem(isa::SemWait{}, 0, 1), add.encode(),
        sem(isa::SemPost{}, 1, 1), isa::End{}.encode()}},
      {isa::Engine::STORE,
       {view(2, 2 * bytes), memory(2, 3), sem(isa::SemWait{}, 1, 1), store.encode(), isa::End{}.encode()}},
  };
}

uint64_t arch_hash(Card &card) {
  return card.read(kDev + CX_DEV_ARCH_HASH_LO) | uint64_t{card.read(kDev + CX_DEV_ARCH_HASH_HI)} << 32;
}

struct AddRun {
  cx_completion completion;
  uint64_t mismatches;
};

AddRun run_add(Card &card, std::vector<uint8_t> image, uint16_t count, uint32_t timeout_kcycles = 0) {
  const uint64_t program = kDram + 0x100000, table = kDram + 0x8000, a = kDram + 0x200000, b = a + 0x10000,
                 dst = b + 0x10000;
  uint8_t *staging = &card.host()[Card::kData];
  const auto upload = [&](const void *data, size_t size, uint64_t to) {
    std::memcpy(staging, data, size);
    const auto done =
        card.run(card.copy(Direction::HOST_TO_DEVICE, Card::kHostBase + Card::kData, to, static_cast<uint32_t>(size)));
    REQUIRE(done.status == CX_STATUS_OK);
  };
  std::mt19937 random(7);
  std::uniform_real_distribution<float> values(-8, 8);
  std::vector<float> x(count), y(count), z(count);
  for (float &v : x) v = values(random);
  for (float &v : y) v = values(random);
  const uint64_t bytes = count * 4u;
  const cx_segment segments[] = {{program, image.size()}, {a, bytes}, {b, bytes}, {dst, bytes}};
  upload(image.data(), image.size(), program);
  upload(segments, sizeof segments, table);
  upload(x.data(), bytes, a);
  upload(y.data(), bytes, b);
  packets::Launch launch;
  launch.program = program;
  launch.segments = table;
  launch.segment_count = 4;
  launch.program_bytes = static_cast<uint32_t>(image.size());
  launch.timeout_kcycles = timeout_kcycles;
  AddRun result{card.run(launch), 0};
  if (result.completion.status != CX_STATUS_OK) return result;
  const auto done =
      card.run(card.copy(Direction::DEVICE_TO_HOST, dst, Card::kHostBase + Card::kData, static_cast<uint32_t>(bytes)));
  REQUIRE(done.status == CX_STATUS_OK);
  std::memcpy(z.data(), staging, bytes);
  for (unsigned i = 0; i < count; ++i) result.mismatches += z[i] != x[i] + y[i];
  return result;
}

}  // namespace

TEST_CASE("a card that is not configured refuses memory accesses and says why") {
  Card card;
  uint32_t value = 0;
  CHECK(cx_port_read(card.port(), 0, kDev + CX_DEV_MAGIC, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(value == 0xffffffff);
  CHECK(card.error().find("memory space is not enabled") != std::string::npos);
  CHECK(card.config_read(0x00, 2) == CX_PCI_VENDOR_ID);
  CHECK(card.config_read(0x02, 2) == CX_PCI_DEVICE_ID);
}

TEST_CASE("identification and capabilities") {
  Card card;
  card.enable();
  CHECK(card.read(kDev + CX_DEV_MAGIC) == CX_DEV_MAGIC_RESET);
  CHECK(card.read(kDev + CX_DEV_CLOCK_KHZ) == 500000);
  CHECK(card.read(kDev + CX_DEV_TILE_COUNT) == 2);
  CHECK(card.read(kDev + CX_DEV_TILE_SHAPE) == (8u << 16 | 8u));
  CHECK(card.read(kDev + CX_DEV_SPM_BYTES) == 512 * 1024);
  CHECK(card.read(kDev + CX_DEV_DRAM_MIB) == 256);
  CHECK(card.read(kDev + CX_DEV_FORMATS) == 0x3f);
  CHECK(arch_hash(card) != 0);
}

TEST_CASE("accesses that nothing answers are refused, counted, and leave the card alive") {
  Card card;
  card.enable();
  const uint32_t before = card.read(kDev + CX_DEV_HOST_ERRORS);
  uint64_t value = 0;
  CHECK(cx_port_read(card.port(), 0, kDev + 0xffc, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(card.error().find("no such register") != std::string::npos);
  CHECK(cx_port_read(card.port(), 0, 0xe0000, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_read(card.port(), 0, CX_BAR0_SIZE, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_read(card.port(), 0, kDev + 2, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_read(card.port(), 0, kDev, &value, 8) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_write(card.port(), 0, kDev + 0xffc, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_write(card.port(), 1, 0, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_write(card.port(), 2, 256 * 1024 - 2, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_read(card.port(), CX_PORT_CONFIG_SPACE, 3, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(cx_port_read(card.port(), CX_PORT_CONFIG_SPACE, 4096, &value, 4) == CX_PORT_BAD_ACCESS);
  CHECK(card.read(kDev + CX_DEV_HOST_ERRORS) == before + 10);
  CHECK(card.read(kDev + CX_DEV_MAGIC) == CX_DEV_MAGIC_RESET);
}

TEST_CASE("reads take a round trip, writes none") {
  Card card;
  card.enable();
  const uint64_t start = cx_port_time_ps(card.port());
  card.write(kDev + CX_DEV_SCRATCH(0), 0x1234);
  CHECK(cx_port_time_ps(card.port()) == start);
  CHECK(card.read(kDev + CX_DEV_SCRATCH(0)) == 0x1234);  // posted writes come first
  const uint64_t trip = cx_port_time_ps(card.port()) - start;
  CHECK(trip >= 2 * 400'000);
  CHECK(trip < 2 * 400'000 + 200'000);
}

TEST_CASE("firmware memory through BAR2, any size and alignment") {
  Card card;
  card.enable();
  std::vector<uint8_t> out(1000), in(1000);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(i * 7);
  REQUIRE(cx_port_write(card.port(), 2, 333, out.data(), out.size()) == CX_PORT_OK);
  REQUIRE(cx_port_read(card.port(), 2, 333, in.data(), in.size()) == CX_PORT_OK);
  CHECK(in == out);
}

TEST_CASE("boot, queue, packets") {
  Card card;
  ready(card);
  CHECK((card.read(CX_MAP_QUEUE_OFFSET + CX_QUEUE_STATE(0)) & CX_QUEUE_STATE_STATE_MASK) ==
        CX_QUEUE_STATE_STATE_ENABLED);
  CHECK((card.read(kDev + CX_DEV_FW_CAPS) >> CX_PKT_LAUNCH & 1) == 1);

  SECTION("an idle card stays idle") {
    cx_port_advance(card.port(), 10'000'000);
    card.take_interrupts();
    CHECK(cx_port_advance(card.port(), 1'000'000'000'000) == CX_PORT_ADVANCED_IDLE);
  }

  SECTION("NOP") {
    const auto done = card.run(packets::Nop{});
    CHECK(done.status == CX_STATUS_OK);
    CHECK(done.end >= done.start);
    CHECK(card.interrupts[Card::kVector] == 1);
    CHECK(card.read(CX_MAP_QUEUE_OFFSET + CX_QUEUE_READ_INDEX(0)) == 1);
  }

  SECTION("many NOPs go round the ring") {
    for (int i = 0; i < 200; ++i) REQUIRE(card.run(packets::Nop{}).status == CX_STATUS_OK);
    CHECK(card.read(kDev + CX_DEV_PACKETS) >= 200);
  }

  SECTION("copies both ways and within the device") {
    constexpr uint32_t kBytes = 300'001;
    uint8_t *data = &card.host()[Card::kData];
    for (uint32_t i = 0; i < kBytes; ++i) data[i] = static_cast<uint8_t>(i * 31 >> 3);
    const uint64_t at = Card::kHostBase + Card::kData;
    REQUIRE(card.run(card.copy(Direction::HOST_TO_DEVICE, at, kDram + 5, kBytes)).status == CX_STATUS_OK);
    REQUIRE(card.run(card.copy(Direction::DEVICE_TO_DEVICE, kDram + 5, kDram + 0x400000, kBytes)).status ==
            CX_STATUS_OK);
    const auto done = card.run(card.copy(Direction::DEVICE_TO_HOST, kDram + 0x400000, at + 0x100000, kBytes));
    REQUIRE(done.status == CX_STATUS_OK);
    CHECK(std::memcmp(data, data + 0x100000, kBytes) == 0);
    // Gen3 x4 carries 3.94 GB/s before packet overhead: 300001 bytes take more than 76 us, 38000 cycles.
    CHECK(done.end - done.start > 38000);
    CHECK(done.end - done.start < 48000);
    CHECK(card.read(CX_MAP_PERF_OFFSET + CX_PERF_PCIE_TO_HOST_LO) > kBytes);
  }

  SECTION("2-D copies") {
    uint8_t *data = &card.host()[Card::kData];
    for (unsigned i = 0; i < 4096; ++i) data[i] = static_cast<uint8_t>(i);
    std::memset(data + 0x100000, 0xee, 4096);
    packets::Copy packet = card.copy(Direction::HOST_TO_DEVICE, Card::kHostBase + Card::kData, kDram + 0x40, 24);
    packet.rows = 10;
    packet.src_pitch = 100;
    packet.dst_pitch = 64;
    REQUIRE(card.run(packet).status == CX_STATUS_OK);
    packet.direction = Direction::DEVICE_TO_HOST;
    packet.src = kDram + 0x40;
    packet.dst = Card::kHostBase + Card::kData + 0x100000;
    packet.src_pitch = 64;
    packet.dst_pitch = 32;
    REQUIRE(card.run(packet).status == CX_STATUS_OK);
    for (unsigned row = 0; row < 10; ++row) {
      for (unsigned i = 0; i < 32; ++i) {
        const uint8_t expected = i < 24 ? data[row * 100 + i] : 0xee;
        REQUIRE(data[0x100000 + row * 32 + i] == expected);
      }
    }
  }

  SECTION("fill") {
    packets::Fill fill;
    fill.dst = kDram + 0x1000;
    fill.bytes = 100'000;
    fill.pattern = 0xdeadbeef;
    REQUIRE(card.run(fill).status == CX_STATUS_OK);
    REQUIRE(
        card.run(card.copy(Direction::DEVICE_TO_HOST, kDram + 0x0ffc, Card::kHostBase + Card::kData, 100'008)).status ==
        CX_STATUS_OK);
    std::vector<uint32_t> words(100'008 / 4);
    std::memcpy(words.data(), &card.host()[Card::kData], 100'008);
    CHECK(words.front() == 0);
    CHECK(words.back() == 0);
    CHECK(std::all_of(words.begin() + 1, words.end() - 1, [](uint32_t word) { return word == 0xdeadbeef; }));
  }

  SECTION("timestamps and signals") {
    packets::Timestamp stamp;
    stamp.address = Card::kHostBase + Card::kData;
    REQUIRE(card.run(stamp).status == CX_STATUS_OK);
    packets::Signal signal;
    signal.op = packets::SignalOp::ADD;
    signal.address = Card::kHostBase + Card::kData + 8;
    signal.value = 5;
    REQUIRE(card.run(signal).status == CX_STATUS_OK);
    REQUIRE(card.run(signal).status == CX_STATUS_OK);
    uint64_t values[2];
    std::memcpy(values, &card.host()[Card::kData], sizeof values);
    CHECK(values[0] > 0);
    CHECK(values[1] == 10);
  }

  SECTION("a queue goes on after each bad packet") {
    struct Bad {
      packets::Bytes bytes;
      uint32_t status;
    };
    packets::Copy unmapped = card.copy(Direction::HOST_TO_DEVICE, Card::kHostBase + card.host().size() - 16, kDram, 64);
    packets::Copy nowhere = card.copy(Direction::HOST_TO_DEVICE, Card::kHostBase, 0x2'0000'0000, 64);
    packets::Copy empty = card.copy(Direction::HOST_TO_DEVICE, Card::kHostBase, kDram, 64);
    empty.rows = 0;
    packets::Fill crooked;
    crooked.dst = kDram + 2;
    packets::Bytes unknown = packets::Nop{}.to_bytes();
    unknown[0] = 0x77;
    packets::Bytes reserved = packets::Nop{}.to_bytes();
    reserved[40] = 1;
    packets::Bytes rdma = packets::Nop{}.to_bytes();
    rdma[0] = CX_PKT_SEND;
    const std::vector<Bad> all = {{unmapped.to_bytes(), CX_STATUS_IOMMU_FAULT},
                                  {nowhere.to_bytes(), CX_STATUS_BAD_ADDRESS},
                                  {empty.to_bytes(), CX_STATUS_BAD_FIELD},
                                  {crooked.to_bytes(), CX_STATUS_BAD_ALIGNMENT},
                                  {unknown, CX_STATUS_BAD_TYPE},
                                  {reserved, CX_STATUS_RESERVED_BITS},
                                  {rdma, CX_STATUS_UNSUPPORTED}};
    for (const Bad &bad : all) {
      const unsigned errors = card.interrupts[Card::kErrorVector];
      card.submit_bytes(bad.bytes);
      CHECK(card.run(packets::Nop{}).status == CX_STATUS_OK);
      CHECK(card.interrupts[Card::kErrorVector] == errors + 1);
      CHECK(card.read(kDev + CX_DEV_FAULT_CODE) == bad.status);
      CHECK(card.read(kDev + CX_DEV_FAULT_COUNT) == 1);
      card.write(kDev + CX_DEV_FAULT_ACK, 1);
      CHECK(card.read(kDev + CX_DEV_FAULT_CODE) == 0);
    }
  }

  SECTION("a launch adds two vectors on load, vpu and store") {
    const auto image = image_of(add_program(1000), 4, arch_hash(card));
    const auto run = run_add(card, image, 1000);
    CHECK(run.completion.status == CX_STATUS_OK);
    CHECK(run.mismatches == 0);
    CHECK(card.read(CX_MAP_VPU_OFFSET + CX_ENGINE_OPS_LO) == 1000);
    CHECK(card.read(CX_MAP_LOAD_OFFSET + CX_ENGINE_WR_LO) + card.read(CX_MAP_LOAD_OFFSET + CX_ENGINE_RD_LO) > 0);
    // The counters go on, results stay the same.
    const auto again = run_add(card, image, 1000);
    CHECK(again.mismatches == 0);
  }

  SECTION("programs that must not run") {
    auto image = image_of(add_program(64), 4, arch_hash(card) + 1);
    CHECK(run_add(card, image, 64).completion.status == CX_STATUS_WRONG_ARCH);
    image = image_of(add_program(64), 4, arch_hash(card));
    image[0] ^= 1;
    CHECK(run_add(card, image, 64).completion.status == CX_STATUS_BAD_PROGRAM);
    auto streams = add_program(64);
    streams[1].code[4][31] = 1;
    image = image_of(streams, 4, arch_hash(card));
    const auto fault = run_add(card, image, 64);
    CHECK(fault.completion.status == CX_STATUS_ILLEGAL_INSTRUCTION);
    CHECK(fault.completion.detail == 4);
    // The engines are usable again.
    card.write(kDev + CX_DEV_FAULT_ACK, 1);
    image = image_of(add_program(64), 4, arch_hash(card));
    CHECK(run_add(card, image, 64).mismatches == 0);
  }

  SECTION("a launch that waits for ever is stopped by the watchdog") {
    auto streams = add_program(64);
    streams[0].code[6] = isa::Nop{}.encode();  // nobody posts semaphore 0
    const auto image = image_of(streams, 4, arch_hash(card));
    CHECK(run_add(card, image, 64, 100).completion.status == CX_STATUS_TIMEOUT);
  }
}

TEST_CASE("masked vectors stay pending") {
  Card card;
  ready(card);
  card.write(CX_MAP_MSIX_OFFSET + CX_MSIX_CONTROL(Card::kVector), 1);
  const uint64_t record = card.submit(packets::Nop{});
  CHECK(cx_port_advance(card.port(), 1'000'000'000) != CX_PORT_ADVANCED_INTERRUPT);
  CHECK(card.record(record).value == 1);
  CHECK((card.read(CX_MAP_MSIX_OFFSET + CX_MSIX_PBA(0)) >> Card::kVector & 1) == 1);
  card.write(CX_MAP_MSIX_OFFSET + CX_MSIX_CONTROL(Card::kVector), 0);
  CHECK(cx_port_advance(card.port(), 1'000'000'000) == CX_PORT_ADVANCED_INTERRUPT);
  uint32_t vector = 0;
  REQUIRE(cx_port_take_interrupt(card.port(), &vector) == 1);
  CHECK(vector == Card::kVector);
  CHECK(card.read(CX_MAP_MSIX_OFFSET + CX_MSIX_PBA(0)) == 0);
}

TEST_CASE("soft reset and function-level reset leave a card that boots again") {
  Card card;
  ready(card);
  REQUIRE(card.run(packets::Nop{}).status == CX_STATUS_OK);
  card.write(kDev + CX_DEV_RESET_CTRL, CX_DEV_RESET_CTRL_SOFT_RESET_MASK);
  CHECK(card.read(kDev + CX_DEV_RESET_CTRL) == CX_DEV_RESET_CTRL_CP_RESET_MASK);
  CHECK(card.read(kDev + CX_DEV_FW_STATUS) == 0);
  CHECK(card.read(CX_MAP_QUEUE_OFFSET + CX_QUEUE_STATE(0)) == 0);
  card.boot();
  card.enable_queue();
  CHECK(card.run(packets::Nop{}).status == CX_STATUS_OK);

  const unsigned express = card.capability(0x10);
  card.config_write(express + 8, card.config_read(express + 8, 2) | 1u << 15, 2);
  CHECK(card.config_read(0x04, 2) == 0);  // the command register is as after power-on
  card.config_write(0x04, 0x0406, 2);
  CHECK(card.read(kDev + CX_DEV_FW_STATUS) == 0);
  CHECK(card.read(CX_MAP_MSIX_OFFSET + CX_MSIX_CONTROL(0)) == 1);
}

TEST_CASE("a core that locks up is reported and can be booted again") {
  Card card;
  card.enable();
  card.write(kDev + CX_DEV_RESET_CTRL, 0);  // empty firmware memory: an illegal instruction, no handler
  card.poll(kDev + CX_DEV_FW_STATUS,
            [](uint32_t value) { return (value & CX_DEV_FW_STATUS_STATE_MASK) == CX_DEV_FW_STATUS_STATE_CRASHED; });
  CHECK(card.read(kDev + CX_DEV_FAULT_COUNT) == 1);
  CHECK(card.read(kDev + CX_DEV_FAULT_CODE) == CX_STATUS_FIRMWARE_CRASH);
  CHECK(card.read(kDev + CX_DEV_FAULT_SOURCE) == 0xffff);
  // A fatal error is reported to the host, in configuration space as well.
  CHECK(cx_port_take_error(card.port()) == 1);
  CHECK(cx_port_take_error(card.port()) == 0);
  CHECK(card.config_read(0x104) == 1u << 22);
  CHECK(cx_port_advance(card.port(), 1'000'000'000'000) == CX_PORT_ADVANCED_IDLE);
  card.write(kDev + CX_DEV_RESET_CTRL, CX_DEV_RESET_CTRL_CP_RESET_MASK);
  card.boot();
  card.enable_queue();
  CHECK(card.run(packets::Nop{}).status == CX_STATUS_OK);
}

TEST_CASE("DMA mappings") {
  Card card;
  std::vector<uint8_t> memory(8192);
  cx_port *port = card.port();
  CHECK(cx_port_dma_map(port, 0x1000, 4096, memory.data(), CX_PORT_DMA_READ | CX_PORT_DMA_WRITE) == CX_PORT_OK);
  CHECK(cx_port_dma_map(port, 0x1fff, 10, memory.data(), 1) == CX_PORT_OVERLAP);
  CHECK(cx_port_dma_map(port, 0x2000, 4096, memory.data() + 4096, CX_PORT_DMA_READ) == CX_PORT_OK);
  CHECK(cx_port_dma_map(port, 0x9000, 0, memory.data(), 0) == CX_PORT_BAD_ARGUMENT);
  CHECK(cx_port_dma_map(port, ~uint64_t{0} - 10, 100, memory.data(), 0) == CX_PORT_BAD_ARGUMENT);
  CHECK(cx_port_dma_unmap(port, 0x1000, 100) == CX_PORT_BAD_ARGUMENT);
  CHECK(cx_port_dma_unmap(port, 0x1000, 8192) == CX_PORT_OK);
  CHECK(cx_port_dma_unmap(port, 0x1000, 4096) == CX_PORT_BAD_ARGUMENT);
}

TEST_CASE("cards of one process do not disturb each other") {
  const auto session = [](Card &card) {
    ready(card);
    const auto done = card.run(packets::Nop{});
    const auto image = image_of(add_program(256), 4, arch_hash(card));
    const auto run = run_add(card, image, 256);
    REQUIRE(run.mismatches == 0);
    return std::vector<uint64_t>{done.end - done.start, run.completion.end - run.completion.start,
                                 cx_port_time_ps(card.port())};
  };
  const auto alone = [&](const std::vector<const char *> &sets) {
    Card card(sets);
    return session(card);
  };
  const auto first = alone({});
  CHECK(alone({}) == first);  // reused
  const auto other = alone({"dmmu.tiles=4", "pcie.latency_ns=600"});
  CHECK(other != first);
  {
    Card one, two, three({"dmmu.tiles=4", "pcie.latency_ns=600"});
    CHECK(session(two) == first);
    CHECK(session(three).front() == other.front());
    // Time is one for all: what one card's host waits for passes at the others as well.
    CHECK(cx_port_time_ps(one.port()) == cx_port_time_ps(two.port()));
    CHECK(cx_port_time_ps(two.port()) >= cx_port_time_ps(three.port()));
    ready(one);
    CHECK(one.run(packets::Nop{}).status == CX_STATUS_OK);
    CHECK(cx_port_time_ps(one.port()) == cx_port_time_ps(two.port()));
  }
  CHECK(alone({}) == first);
  const char *set = "dmmu.tile.row=4";
  CHECK(cx_port_open("configs/chips/tiny.yaml", &set, 1) == nullptr);
  CHECK(std::string(cx_port_error(nullptr)).find("dmmu.tile.rows") != std::string::npos);
}

TEST_CASE("cards work at the same time") {
  Card one, two;
  ready(one);
  ready(two);
  const auto elapsed = [&](auto work) {
    const uint64_t start = cx_port_time_ps(one.port());
    work();
    return cx_port_time_ps(one.port()) - start;
  };
  const auto copy =
      one.copy(packets::Direction::HOST_TO_DEVICE, Card::kHostBase + Card::kData, CX_MEM_DRAM_BASE, 1 << 20);
  const uint64_t alone = elapsed([&] { REQUIRE(one.run(copy).status == CX_STATUS_OK); });
  const uint64_t together = elapsed([&] {
    const uint64_t first = one.submit(copy), second = two.submit(copy);
    const auto a = one.wait(first), b = two.wait(second);
    CHECK(a.status == CX_STATUS_OK);
    CHECK(b.status == CX_STATUS_OK);
    CHECK(a.end - a.start == b.end - b.start);
  });
  CHECK(together < alone + alone / 10);
}

TEST_CASE("configuration services") {
  char *text = nullptr;
  CHECK(cx_config_show("configs/chips/cx3210.yaml", nullptr, 0, 1, &text) == CX_PORT_OK);
  CHECK(std::string(text).find("\"tiles\": 16") != std::string::npos);
  std::free(text);
  CHECK(cx_config_show("configs/chips/nothing.yaml", nullptr, 0, 0, &text) == CX_PORT_BAD_CONFIG);
  CHECK(std::string(text).find("nothing.yaml") != std::string::npos);
  std::free(text);
  CHECK(cx_config_help("dmmu.tiles", &text) == CX_PORT_OK);
  CHECK(std::string(text).find("MAC tiles") != std::string::npos);
  std::free(text);
  CHECK(cx_config_help("dmmu.tyles", &text) == CX_PORT_BAD_CONFIG);
  CHECK(std::string(text).find("'dmmu.tiles'") != std::string::npos);
  std::free(text);
}

TEST_CASE("a chip with a network of routers computes the same, takes longer, and its links tell where the bytes went") {
  const auto run = [](const std::vector<const char *> &sets, uint64_t &cycles, uint64_t &store_link, uint64_t &noc) {
    Card card(sets);
    ready(card);
    const uint16_t count = 4000;
    const AddRun result = run_add(card, image_of(add_program(count), 4, arch_hash(card)), count);
    CHECK(result.completion.status == CX_STATUS_OK);
    CHECK(result.mismatches == 0);
    cycles = result.completion.end - result.completion.start;
    const auto perf = [&](uint64_t offset) { return card.read(CX_MAP_PERF_OFFSET + offset); };
    const uint32_t links = perf(CX_PERF_NOC_LINKS);
    store_link = 0;
    for (uint32_t link = 0; link < links; ++link) {
      card.write(CX_MAP_PERF_OFFSET + CX_PERF_NOC_LINK, link);
      const uint64_t bytes = perf(CX_PERF_NOC_BYTES_LO) | uint64_t{perf(CX_PERF_NOC_BYTES_HI)} << 32;
      const uint64_t busy = perf(CX_PERF_NOC_BUSY_LO) | uint64_t{perf(CX_PERF_NOC_BUSY_HI)} << 32;
      CHECK(busy >= bytes / 32);  // a flit of 32 bytes a cycle
      const uint32_t ends = perf(CX_PERF_NOC_ENDS);
      if ((ends & CX_PERF_NOC_ENDS_FROM_MASK) == CX_PERF_NOC_ENDS_FROM_STORE) store_link += bytes;
    }
    card.write(CX_MAP_PERF_OFFSET + CX_PERF_NOC_LINK, links);
    CHECK(perf(CX_PERF_NOC_ENDS) == 0);
    CHECK(perf(CX_PERF_NOC_BUSY_LO) == 0);
    noc = perf(CX_PERF_NOC_LO);
    const uint32_t shape = perf(CX_PERF_NOC_SHAPE);
    CHECK((links == 0) == (shape == CX_PERF_NOC_SHAPE_KIND_CROSSBAR));
  };
  uint64_t crossbar = 0, mesh = 0, ring = 0, stored = 0, noc = 0;
  run({}, crossbar, stored, noc);
  CHECK(stored == 0);
  run({"noc.topology=mesh"}, mesh, stored, noc);
  CHECK(stored >= 16000);  // the engine's results, and reads of its registers
  CHECK(stored < 16100);
  CHECK(noc > 3 * 16000);
  run({"noc.topology=ring", "noc.columns=12", "noc.rows=1"}, ring, stored, noc);
  CHECK(stored >= 16000);
  CHECK(stored < 16100);
  // Channels and pseudo channels of a part have their places, too.
  uint64_t part = 0;
  run({"noc.topology=mesh", "dram.preset=hbm2e_3200", "dram.channels=4"}, part, stored, noc);
  CHECK(part > 0);
  CHECK(stored >= 16000);
  INFO("cycles of the launch: crossbar " << crossbar << ", mesh " << mesh << ", ring " << ring);
  CHECK(mesh > crossbar);
  CHECK(ring > crossbar);
  CHECK(mesh < 2 * crossbar);
  CHECK(ring < 2 * crossbar);
}

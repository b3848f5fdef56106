// Every fault, provoked on the simulated card: the events that follow, the error of the packet that met it, that other
// queues go on, and the way back.
#include <poll.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "driver/umd/device.hpp"
#include "driver/umd/stream.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/queue_regs.h"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/driver/transport/served_card.hpp"

using namespace cx;

namespace {

constexpr const char *kChip = "configs/chips/tiny.yaml";
constexpr int kLoad = 0, kStore = 1, kVpu = 3;
// Where the instructions of the sample program are.
constexpr uint64_t kFirstLoad = 4, kVpuAdd = 4;
constexpr uint32_t kShortLaunch = 16;  // kcycles

std::unique_ptr<Device> open_card() {
  DeviceOptions options;
  options.overrides = {"faults.door=true"};
  options.boot_limit_us = 10'000;
  return tb::open_test_card(kChip, options);
}

// A card with a program on it and a second queue that has nothing to do with it.
struct Bench {
  static constexpr uint32_t kElements = 96;

  Bench() : device(open_card()), other(device->create_queue({4, 1})) {
    const std::vector<std::byte> bytes = test::sample_program(device->target().arch_hash, kElements, 2.25f).image;
    image = device->allocate(bytes.size(), ImageBuilder::kMaxAlign);
    in = device->allocate(kElements * 4);
    out = device->allocate(kElements * 4);
    table = device->allocate(4 * sizeof(cx_segment));
    scratch = device->allocate(4096);
    host = device->allocate_host(4096);
    device->upload(image.address(), bytes);
    const cx_segment segments[4] = {
        {image.address(), image.size()}, {0, 0}, {in.address(), in.size()}, {out.address(), out.size()}};
    device->upload(table.address(), std::as_bytes(std::span(segments)));
    x.resize(kElements);
    for (uint32_t i = 0; i < kElements; ++i) x[i] = 0.5f * static_cast<float>(i) - 20.0f;
    device->upload(in.address(), std::as_bytes(std::span(x)));
    REQUIRE(device->take_events().empty());
  }

  Fence launch(uint32_t timeout_kcycles = kShortLaunch) {
    return device->queue().launch(image.address(), static_cast<uint32_t>(image.size()), table.address(), 4,
                                  timeout_kcycles, {.interrupt = true});
  }

  // A later inference is exact, and nothing is left of the fault.
  void require_works() {
    device->fill(out.address(), out.size(), 0xffffffff);
    launch().wait();
    std::vector<float> y(kElements);
    device->download(std::as_writable_bytes(std::span(y)), out.address());
    for (uint32_t i = 0; i < kElements; ++i) REQUIRE(y[i] == std::max(x[i] + 2.25f, 0.0f));
    require_other_works();
    REQUIRE(device->take_events().empty());
    REQUIRE_FALSE(device->dead());
  }

  void require_other_works() {
    other.copy_to_device(scratch.address(), host.iova(), 4096, {.interrupt = true}).wait();
    other.copy_to_host(host.iova(), scratch.address(), 4096).wait();
  }

  // The fence fails with the status, and exactly one event follows.
  DeviceEvent require_event(const Fence &fence, uint32_t status, EventKind kind) {
    INFO(packets::status_name(fence.wait_status().status));
    REQUIRE(fence.wait_status().status == status);
    REQUIRE(fence.fault());
    REQUIRE(fence.fault()->status == status);
    const std::vector<DeviceEvent> events = device->take_events();
    REQUIRE(events.size() == 1);
    INFO(describe(events[0]));
    REQUIRE(events[0].kind == kind);
    REQUIRE(events[0].status == status);
    REQUIRE(events[0].queue == 0);
    REQUIRE(events[0].packet == fence.index());
    REQUIRE(events[0].engine == fence.fault()->engine);
    REQUIRE(events[0].pc == fence.fault()->pc);
    REQUIRE(events[0].address == fence.fault()->address);
    REQUIRE(events[0].count == 1);
    REQUIRE(events[0].time_cycles > 0);
    return events[0];
  }

  std::unique_ptr<Device> device;
  Queue &other;
  DeviceBuffer image, in, out, table, scratch;
  HostBuffer host;
  std::vector<float> x;
};

std::vector<EventKind> kinds(const std::vector<DeviceEvent> &events) {
  std::vector<EventKind> out;
  for (const DeviceEvent &event : events) out.push_back(event.kind);
  return out;
}

const DeviceFault::EngineState &state_of(const std::vector<DeviceFault::EngineState> &engines, int engine) {
  for (const auto &state : engines) {
    if (state.engine == engine) return state;
  }
  throw std::runtime_error("the report lacks engine " + std::to_string(engine));
}

using State = DeviceFault::EngineState::State;

}  // namespace

TEST_CASE("IOMMU fault: the transfer that meets it fails, and no other") {
  Bench bench;
  bench.device->inject("iommu");
  const Fence fence = bench.device->queue().copy_to_device(bench.scratch.address(), bench.host.iova() + 64, 64);
  bench.require_event(fence, CX_STATUS_IOMMU_FAULT, EventKind::kIommu);
  REQUIRE(fence.fault()->address == bench.host.iova() + 64);
  bench.require_works();
}

TEST_CASE("illegal packet: it is refused, the next one is served") {
  Bench bench;
  bench.device->inject("illegal_packet");
  bench.require_event(bench.device->queue().nop({.interrupt = true}), CX_STATUS_BAD_TYPE, EventKind::kPacket);
  bench.require_works();
}

TEST_CASE("illegal instruction: the launch fails with engine and place") {
  Bench bench;
  bench.device->inject("illegal_instruction@engine=vpu");
  bench.require_event(bench.launch(), CX_STATUS_ILLEGAL_INSTRUCTION, EventKind::kInstruction);
  bench.require_works();
}

TEST_CASE("bad address in a program: the launch fails with engine, instruction and address") {
  Bench bench;
  bench.device->inject("bad_address@engine=load,after_launches=1");
  bench.launch().wait();
  const Fence fence = bench.launch();
  const DeviceEvent event = bench.require_event(fence, CX_STATUS_SEGMENT_FAULT, EventKind::kProgram);
  REQUIRE(event.engine == kLoad);
  REQUIRE(event.pc == kFirstLoad);
  REQUIRE(event.address == bench.in.address() + (uint64_t{1} << 40));
  bench.require_works();
}

TEST_CASE("a packet that failed before the link went down keeps its outcome") {
  Bench bench;
  const Fence fence = bench.device->queue().copy_on_device(uint64_t{1} << 46, bench.scratch.address(), 64);
  bench.other.nop({.interrupt = true}).wait();
  bench.other.nop({.interrupt = true}).wait();
  bench.device->inject("link_down@duration_us=300");
  bench.device->transport().advance(10'000'000);  // the driver has not noticed yet
  CHECK_NOTHROW(fence.done());
  REQUIRE(fence.done());
  REQUIRE(fence.wait_status().status == CX_STATUS_BAD_ADDRESS);
  REQUIRE(fence.fault()->status == CX_STATUS_BAD_ADDRESS);
  bench.device->recover();
  REQUIRE(kinds(bench.device->take_events()) == std::vector<EventKind>{EventKind::kPacket, EventKind::kLinkDown});
  bench.require_works();
}

TEST_CASE("a corrected memory error gives right data, an event and no error") {
  Bench bench;
  const uint64_t word = bench.in.address() + 16;
  const auto inject = [&] { bench.device->inject("ecc_corrected@bit=9,address=" + std::to_string(word + 3)); };
  const auto require_one = [&](uint64_t total) {
    const auto events = bench.device->take_events();
    REQUIRE(kinds(events) == std::vector<EventKind>{EventKind::kEccCorrected});
    REQUIRE(events[0].status == CX_STATUS_OK);
    REQUIRE(events[0].queue == -1);
    REQUIRE(events[0].address == word);
    REQUIRE(events[0].bit == 9);
    REQUIRE(events[0].syndrome == (9 | 0x80));
    REQUIRE(bench.device->corrected_errors() == total);
    REQUIRE_FALSE(bench.device->take_fault());
  };
  inject();
  bench.launch().wait();
  require_one(1);
  inject();
  std::vector<float> back(Bench::kElements);
  bench.device->download(std::as_writable_bytes(std::span(back)), bench.in.address());
  REQUIRE(back == bench.x);
  require_one(2);
  uint32_t correctable = 0;  // of advanced error reporting
  bench.device->transport().read(Transport::kConfigSpace, 0x110, &correctable, sizeof correctable);
  REQUIRE(correctable == 1u << 14);
  bench.require_works();
}

TEST_CASE("an uncorrectable memory error is met by who reads the word, until it is written") {
  Bench bench;
  Device &device = *bench.device;
  const auto inject = [&](uint64_t address) {
    device.inject("ecc_uncorrected@bit=5,second_bit=40,address=" + std::to_string(address));
    device.queue().nop({.interrupt = true}).wait();  // a fault strikes in the course of time
  };
  const uint64_t word = bench.in.address() + 128;
  SECTION("an engine's data") {
    inject(word);
    const DeviceEvent event =
        bench.require_event(bench.launch(), CX_STATUS_ECC_UNCORRECTED, EventKind::kEccUncorrected);
    REQUIRE(event.engine == kLoad);
    REQUIRE(event.pc == kFirstLoad);
    REQUIRE(event.address == word);
    REQUIRE(event.syndrome == (5 ^ 40));
    REQUIRE(event.bit == -1);
    REQUIRE(device.corrected_errors() == 0);
    device.upload(bench.in.address(), std::as_bytes(std::span(bench.x)));
  }
  SECTION("an engine's instructions") {
    std::vector<std::byte> image(bench.image.size());
    device.download(image, bench.image.address());
    const uint64_t stream = bench.image.address() + parse_image(image).streams[0].offset;
    inject(stream);
    const DeviceEvent event =
        bench.require_event(bench.launch(), CX_STATUS_ECC_UNCORRECTED, EventKind::kEccUncorrected);
    REQUIRE(event.address == stream);
    device.upload(bench.image.address(), image);
  }
  SECTION("a copy to the host") {
    inject(word);
    Queue &queue = device.queue();
    const Fence fence = queue.copy_to_host(bench.host.iova(), bench.in.address(), bench.in.size());
    const DeviceEvent event = bench.require_event(fence, CX_STATUS_ECC_UNCORRECTED, EventKind::kEccUncorrected);
    REQUIRE(event.address == word);
    REQUIRE(event.engine == -1);
    // Its neighbours are good, and so are rows beside it.
    queue.copy_to_host(bench.host.iova(), word - 64, 64).wait();
    queue.copy_to_host(bench.host.iova(), word + 8, 64).wait();
    queue.copy_2d(CX_DIRECTION_DEVICE_TO_HOST, bench.host.iova(), 8, word - 8, 16, 8, 2).wait();
    // Writing a part of the word does not make it good, writing all of it does.
    queue.fill(word + 4, 4, 0).wait();
    REQUIRE(queue.copy_to_host(bench.host.iova(), word, 4).wait_status().status == CX_STATUS_ECC_UNCORRECTED);
    REQUIRE(kinds(device.take_events()) == std::vector<EventKind>{EventKind::kEccUncorrected});
    queue.copy_to_device(word, bench.host.iova(), 8).wait();
    queue.copy_to_host(bench.host.iova(), word, 8).wait();
    device.upload(bench.in.address(), std::as_bytes(std::span(bench.x)));
  }
  bench.require_works();
}

TEST_CASE("engine hang: the watchdog says who stands where and waits for whom, while another queue goes on") {
  Bench bench;
  bench.device->inject("engine_hang@engine=vpu");
  const Fence fence = bench.launch();
  bench.require_other_works();
  REQUIRE_FALSE(fence.done());
  const DeviceEvent event = bench.require_event(fence, CX_STATUS_ENGINE_HANG, EventKind::kHang);
  REQUIRE(event.engine == kVpu);
  const auto engines = fence.fault()->engines;
  REQUIRE(engines.size() == 3);
  REQUIRE(event.engines.size() == 3);
  REQUIRE(state_of(engines, kLoad).state == State::kFinished);
  REQUIRE(state_of(engines, kVpu).state == State::kHung);
  REQUIRE(state_of(engines, kVpu).pc == kVpuAdd);
  const auto &store = state_of(engines, kStore);
  REQUIRE(store.state == State::kWaiting);
  REQUIRE(store.semaphore == 1);
  REQUIRE(store.value == 0);
  REQUIRE(store.need == 1);
  REQUIRE(store.poster == kVpu);
  REQUIRE(store.poster_pc > kVpuAdd);
  REQUIRE_THROWS_WITH(fence.wait(), Catch::Contains("ENGINE_HANG") && Catch::Contains("queue 0 packet") &&
                                        Catch::Contains("engine vpu hangs at instruction 4") &&
                                        Catch::Contains("engine store waits at instruction") &&
                                        Catch::Contains("for semaphore 1 (is 0, needs 1), which engine vpu posts"));
  // The watchdog's reset was enough.
  REQUIRE(bench.device->recover().level == Recovery::Level::kNone);
  bench.require_works();
}

TEST_CASE("a program that waits for a semaphore that nobody posts gives the same report") {
  Bench bench;
  isa::SemWait wait;
  wait.sem = 9;
  wait.count = 2;
  ImageBuilder builder;
  const std::vector<isa::Inst> stream{isa::Nop{}.encode(), wait.encode(), isa::End{}.encode()};
  builder.add_stream(static_cast<uint32_t>(isa::Engine::DMMU), stream);
  const auto bytes = builder.finish(bench.device->target().arch_hash, 1);
  bench.device->upload(bench.scratch.address(), bytes);
  const Fence fence = bench.device->queue().launch(bench.scratch.address(), static_cast<uint32_t>(bytes.size()),
                                                   bench.table.address(), 1, kShortLaunch, {.interrupt = true});
  bench.require_event(fence, CX_STATUS_TIMEOUT, EventKind::kHang);
  const auto engines = fence.fault()->engines;
  REQUIRE(engines.size() == 1);
  const DeviceFault::EngineState &dmmu = engines[0];
  REQUIRE(dmmu.state == State::kWaiting);
  REQUIRE(dmmu.pc == 1);
  REQUIRE(dmmu.semaphore == 9);
  REQUIRE(dmmu.need == 2);
  REQUIRE(dmmu.poster == -1);
  REQUIRE_THROWS_WITH(fence.wait(), Catch::Contains("which no unfinished engine posts"));
  bench.require_works();
}

TEST_CASE("a hang that the host notices first: queue reset, then engine reset, then function reset") {
  Bench bench;
  Device &device = *bench.device;
  const HostBuffer flag = device.allocate_host(64);
  const auto hang_and_recover = [&](const char *fault) {
    device.inject(fault);
    const Fence hung = bench.launch(0), behind = bench.launch(0);
    const Fence waiting = bench.other.wait_value(flag.iova(), CX_COMPARE_EQ, 1);
    REQUIRE_THROWS_WITH(hung.wait(300), Catch::Contains("no answer within 300 us") &&
                                            Catch::Contains("queue 0 stands at packet") &&
                                            Catch::Contains("engine vpu works at instruction 4"));
    const Recovery recovery = device.recover();
    INFO(recovery.text);
    REQUIRE(hung.done());
    REQUIRE(hung.wait_status().status == CX_STATUS_ABORTED);
    REQUIRE(behind.wait_status().status == CX_STATUS_ABORTED);
    if (recovery.level != Recovery::Level::kFunctionReset) {
      REQUIRE(recovery.queues == std::vector<uint32_t>{0});
      REQUIRE_FALSE(waiting.done());
      device.queue().signal(flag.iova(), 1).wait();
      waiting.wait();  // the packet of the other queue is not lost
      device.queue().signal(flag.iova(), 0).wait();
    } else {
      REQUIRE(recovery.queues == std::vector<uint32_t>{0, 1});
      REQUIRE(waiting.wait_status().status == CX_STATUS_ABORTED);
    }
    REQUIRE(device.take_events().empty());
    bench.require_works();
    return recovery.level;
  };
  REQUIRE(hang_and_recover("engine_hang@engine=vpu") == Recovery::Level::kQueueReset);
  REQUIRE(hang_and_recover("engine_hang@engine=vpu,cure=engine_reset") == Recovery::Level::kEngineReset);
  REQUIRE(hang_and_recover("engine_hang@engine=vpu,cure=function_reset") == Recovery::Level::kFunctionReset);
}

TEST_CASE("what waits for a packet of a queue that is reset ends at once, as ABORTED") {
  Bench bench;
  Device &device = *bench.device;
  for (int round = 0; round < 3; ++round) {
    device.inject("engine_hang@engine=vpu");
    const Fence hung = bench.launch(0), behind = bench.launch(0);
    const Fence waiting = bench.other.wait_for(behind), next = bench.other.nop();
    REQUIRE_THROWS_AS(hung.wait(300), TimeoutError);
    const Recovery recovery = device.recover();
    REQUIRE(recovery.level == Recovery::Level::kQueueReset);
    REQUIRE(recovery.queues == std::vector<uint32_t>{0});
    REQUIRE(waiting.wait_status(1000).status == CX_STATUS_ABORTED);
    REQUIRE(waiting.fault()->status == CX_STATUS_ABORTED);
    REQUIRE(waiting.fault()->queue == static_cast<int>(bench.other.id()));
    REQUIRE(waiting.fault()->packet == waiting.index());
    REQUIRE_THROWS_AS(waiting.wait(), DeviceFault);
    REQUIRE(next.wait_status(1000).status == CX_STATUS_OK);
    // One that comes later as well; of packets after the reset it is as ever.
    REQUIRE(bench.other.wait_for(hung).wait_status(1000).status == CX_STATUS_ABORTED);
    for (int i = 0; i < 3; ++i) bench.other.wait_for(bench.launch()).wait(1000);
  }
  // However else a packet ends, who waits for it goes on.
  bench.other.wait_for(device.queue().signal(0x5000, 1)).wait(1000);
  REQUIRE(device.take_events().size() == 1);
  bench.require_works();
}

TEST_CASE("a stream's queue that is reset: its signals come all the same, who waits for its events is told") {
  Bench bench;
  Device &device = *bench.device;
  const Timeline timeline(device);
  const auto hung = device.streams().create(), first = device.streams().create();
  Event event;
  device.inject("engine_hang@engine=vpu");
  hung->enqueue([&](Queue &queue) {
    return queue.launch(bench.image.address(), static_cast<uint32_t>(bench.image.size()), bench.table.address(), 4);
  });
  hung->signal(timeline, 3);
  hung->record(event);
  first->wait(event);
  REQUIRE_THROWS_WITH(hung->synchronize(300), Catch::Contains("engine vpu works at instruction 4"));
  const Recovery recovery = device.recover();
  REQUIRE(recovery.level == Recovery::Level::kQueueReset);
  REQUIRE(recovery.queues == std::vector<uint32_t>{hung->queue_id()});
  const auto status_of = [](Stream &stream) {
    try {
      stream.synchronize(1000);
    } catch (const DeviceFault &fault) {
      return fault.record().status;
    }
    return uint32_t{CX_STATUS_OK};
  };
  REQUIRE(status_of(*first) == CX_STATUS_ABORTED);
  REQUIRE(status_of(*hung) == CX_STATUS_ABORTED);
  timeline.wait(3, 1000);
  // One that waits for the event only now; and nothing of it stays.
  first->clear_error();
  first->wait(event);
  REQUIRE(status_of(*first) == CX_STATUS_ABORTED);
  for (Stream *stream : {hung.get(), first.get()}) {
    stream->clear_error();
    stream->record(event);
    stream->synchronize(1000);
  }
  first->wait(event);
  first->synchronize(1000);
  bench.require_works();
}

TEST_CASE("signals that a function reset has swallowed come when the queues are made again") {
  Bench bench;
  Device &device = *bench.device;
  Timeline timeline(device);
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 2; ++i) streams.push_back(device.streams().create());
  for (uint64_t round = 1; round <= 3; ++round) {
    device.inject("firmware_crash");
    for (const auto &stream : streams) {
      stream->enqueue([](Queue &queue) { return queue.nop(); });
      stream->signal(timeline, 2 * round);
    }
    REQUIRE_THROWS_AS(streams[0]->synchronize(1000), FirmwareCrashError);
    REQUIRE(device.recover().level == Recovery::Level::kFunctionReset);
    timeline.wait(2 * round, 1000);
    for (const auto &stream : streams) {
      REQUIRE_THROWS_AS(stream->synchronize(1000), FirmwareCrashError);
      REQUIRE(stream->done());
      stream->clear_error();
      stream->signal(timeline, 2 * round + 1);
      stream->synchronize(1000);
    }
    REQUIRE(timeline.value() == 2 * round + 1);
    device.take_events();
  }
  bench.require_works();
}

TEST_CASE("an engine that its reset does not bring back fails launches until it is recovered") {
  Bench bench;
  bench.device->inject("engine_hang@engine=store,cure=engine_reset");
  bench.require_event(bench.launch(), CX_STATUS_ENGINE_HANG, EventKind::kHang);
  const DeviceEvent again = bench.require_event(bench.launch(), CX_STATUS_ENGINE_HANG, EventKind::kHang);
  REQUIRE(again.engine == kStore);
  bench.require_other_works();
  REQUIRE(bench.device->recover().level == Recovery::Level::kEngineReset);
  bench.require_works();
}

TEST_CASE("firmware crash: every outstanding packet ends, and a function reset boots the card again") {
  const bool lockup = GENERATE(false, true);
  Bench bench;
  Device &device = *bench.device;
  const HostBuffer flag = device.allocate_host(64);
  const Fence waiting = bench.other.wait_value(flag.iova(), CX_COMPARE_EQ, 1);
  device.inject(lockup ? "firmware_crash@lockup=1" : "firmware_crash");
  const Fence first = device.queue().nop({.interrupt = true}), second = device.queue().nop();
  REQUIRE_THROWS_AS(first.wait(), FirmwareCrashError);
  for (const Fence &fence : {first, second, waiting}) {
    REQUIRE(fence.done());
    REQUIRE(fence.wait_status().status == CX_STATUS_FIRMWARE_CRASH);
  }
  REQUIRE(waiting.fault()->queue == 1);
  REQUIRE(device.dead());
  REQUIRE_THROWS_AS(device.queue().nop(), FirmwareCrashError);
  const auto events = device.take_events();
  REQUIRE(kinds(events) == std::vector<EventKind>{EventKind::kFirmwareCrash});
  REQUIRE(events[0].status == CX_STATUS_FIRMWARE_CRASH);
  REQUIRE(events[0].cause == 2);  // illegal instruction
  REQUIRE(events[0].pc >= CX_MEM_TCM_BASE);
  REQUIRE(events[0].pc < CX_MEM_TCM_BASE + device.info().tcm_bytes);
  const Recovery recovery = device.recover();
  REQUIRE(recovery.level == Recovery::Level::kFunctionReset);
  bench.require_works();
}

TEST_CASE("firmware that loops for ever: the wait runs out, and only a function reset helps") {
  Bench bench;
  Device &device = *bench.device;
  const std::vector<uint32_t> loops(4096, 0x0000006f);  // j .
  device.transport().write(2, 0, loops.data(), loops.size() * sizeof loops[0]);
  const Fence fence = device.queue().nop({.interrupt = true});
  REQUIRE_THROWS_AS(fence.wait(500), TimeoutError);
  const Recovery recovery = device.recover();
  REQUIRE(recovery.level == Recovery::Level::kFunctionReset);
  REQUIRE(recovery.packets_lost == 1);
  REQUIRE(fence.wait_status().status == CX_STATUS_ABORTED);
  bench.require_works();
}

TEST_CASE("link down: all fences end at once, and the function is reset when the link is up again") {
  Bench bench;
  Device &device = *bench.device;
  device.inject("link_down@duration_us=500");
  const uint64_t start = device.time_ps();
  const Fence lost = device.queue().copy_to_host(bench.host.iova(), bench.scratch.address(), 4096);
  const Fence also = bench.other.nop({.interrupt = true});
  REQUIRE_THROWS_AS(also.wait(), LinkDownError);
  REQUIRE(device.time_ps() - start < 100'000'000);  // 100 us
  REQUIRE_THROWS_AS(lost.wait(), LinkDownError);
  REQUIRE_THROWS_AS(device.queue().nop(), LinkDownError);
  REQUIRE_THROWS_AS(device.read_register(0), LinkDownError);
  uint32_t word = 0;
  device.transport().read(0, 0, &word, sizeof word);
  REQUIRE(word == 0xffffffff);
  const Recovery recovery = device.recover();
  REQUIRE(recovery.level == Recovery::Level::kFunctionReset);
  REQUIRE(device.time_ps() - start >= 500'000'000);
  const auto events = device.take_events();
  REQUIRE(kinds(events) == std::vector<EventKind>{EventKind::kLinkDown});
  REQUIRE(events[0].status == CX_STATUS_LINK_DOWN);
  bench.require_works();
}

TEST_CASE("a link that went down and came up again unseen is told when the driver comes to the card") {
  Bench bench;
  bench.device->inject("link_down@duration_us=100");
  Transport &transport = bench.device->transport();
  const uint64_t end = transport.time_ps() + 1'000'000'000;
  while (transport.time_ps() < end && transport.advance(end - transport.time_ps()) != Transport::Wake::kIdle) {
    while (transport.take_interrupt()) {
    }
    transport.take_error();
  }
  REQUIRE_THROWS_AS(bench.launch(), LinkDownError);
  REQUIRE(bench.device->dead());
  REQUIRE(bench.device->recover().level == Recovery::Level::kFunctionReset);
  bench.device->take_events();
  bench.require_works();
}

TEST_CASE("a link that stays down is told by recover() within its limit") {
  Bench bench;
  bench.device->inject("link_down@duration_us=0");
  REQUIRE_THROWS_AS(bench.device->queue().nop({.interrupt = true}).wait(), LinkDownError);
  const uint64_t start = bench.device->time_ps();
  REQUIRE_THROWS_AS(bench.device->recover(5000), LinkDownError);
  REQUIRE(bench.device->time_ps() - start <= 6'000'000'000);
}

TEST_CASE("thermal trip: launches end, copies go on, and launches work after the host or time has ended it") {
  Bench bench;
  Device &device = *bench.device;
  SECTION("during a launch; the host ends it") {
    device.inject("engine_hang@engine=vpu");  // so that the launch still runs when the trip comes
    const Fence fence = bench.launch(0);
    bench.require_other_works();
    REQUIRE_FALSE(fence.done());
    device.inject("thermal_trip@celsius=104");
    REQUIRE(fence.wait_status().status == CX_STATUS_THERMAL_TRIP);
    REQUIRE(bench.launch().wait_status().status == CX_STATUS_THERMAL_TRIP);
    bench.require_other_works();
    const auto events = device.take_events();
    REQUIRE(kinds(events) == std::vector<EventKind>{EventKind::kThermal});
    REQUIRE(events[0].status == CX_STATUS_THERMAL_TRIP);
    REQUIRE(events[0].celsius == 104);
    device.end_thermal_trip();
  }
  SECTION("it cools down by itself") {
    device.inject("thermal_trip@duration_us=200");
    REQUIRE(bench.launch().wait_status().status == CX_STATUS_THERMAL_TRIP);
    REQUIRE(kinds(device.take_events()) == std::vector<EventKind>{EventKind::kThermal});
    const uint64_t end = device.time_ps() + 300'000'000;
    while (device.time_ps() < end) bench.require_other_works();
  }
  bench.require_works();
}

TEST_CASE("events: descriptor, callback and mask") {
  Bench bench;
  Device &device = *bench.device;
  std::vector<EventKind> called;
  device.on_event([&](const DeviceEvent &event) { called.push_back(event.kind); });
  const auto readable = [&] {
    pollfd wait{device.event_fd(), POLLIN, 0};
    return poll(&wait, 1, 0) == 1;
  };
  const auto bad_packet = [&] {
    device.inject("illegal_packet");
    REQUIRE(device.queue().nop({.interrupt = true}).wait_status().status == CX_STATUS_BAD_TYPE);
  };
  REQUIRE_FALSE(readable());
  bad_packet();
  REQUIRE(readable());
  REQUIRE(called == std::vector<EventKind>{EventKind::kPacket});
  REQUIRE(device.take_events().size() == 1);
  REQUIRE_FALSE(readable());

  device.set_event_mask(event_bit(EventKind::kPacket));
  bad_packet();
  bad_packet();
  REQUIRE_FALSE(readable());
  REQUIRE(device.take_events().empty());
  device.set_event_mask(0);
  device.queue().nop({.interrupt = true}).wait();
  REQUIRE(readable());
  const auto events = device.take_events();
  REQUIRE(kinds(events) == std::vector<EventKind>{EventKind::kPacket});
  REQUIRE(events[0].count == 2);
  REQUIRE(called.size() == 2);
  device.on_event(nullptr);
  bench.require_works();
}

TEST_CASE("several events come in the order in which they happened") {
  Bench bench;
  Device &device = *bench.device;
  device.set_event_mask(~0u);
  device.inject("illegal_instruction@engine=vpu");
  REQUIRE(bench.launch().wait_status().status == CX_STATUS_ILLEGAL_INSTRUCTION);
  device.inject("iommu");
  REQUIRE(device.queue().copy_to_device(bench.scratch.address(), bench.host.iova(), 64).wait_status().status ==
          CX_STATUS_IOMMU_FAULT);
  device.inject("ecc_corrected@address=" + std::to_string(bench.in.address()));
  bench.launch().wait();
  device.inject("illegal_packet");
  REQUIRE(device.queue().nop({.interrupt = true}).wait_status().status == CX_STATUS_BAD_TYPE);
  device.inject("bad_address@engine=store");
  REQUIRE(bench.launch().wait_status().status == CX_STATUS_SEGMENT_FAULT);
  REQUIRE(device.take_events().empty());
  device.set_event_mask(0);
  device.queue().nop({.interrupt = true}).wait();
  const auto events = device.take_events();
  REQUIRE(kinds(events) == std::vector<EventKind>{EventKind::kInstruction, EventKind::kIommu, EventKind::kEccCorrected,
                                                  EventKind::kPacket, EventKind::kProgram});
  for (size_t i = 1; i < events.size(); ++i) {
    REQUIRE(events[i].order == events[i - 1].order + 1);
    REQUIRE(events[i].time_cycles > events[i - 1].time_cycles);
  }
  bench.require_works();
}

TEST_CASE("a wait that runs out of time tells what the queue waits for") {
  Bench bench;
  Device &device = *bench.device;
  const HostBuffer flag = device.allocate_host(64);
  const uint64_t three = 3;
  std::memcpy(flag.data(), &three, sizeof three);
  const auto holds = [](const char *value) { return Catch::Contains(std::string(" holds ") + value); };
  Queue &small = device.create_queue({1, 1});
  small.wait_value(flag.iova(), CX_COMPARE_EQ, 5);
  REQUIRE_THROWS_WITH(small.nop().wait(100), Catch::Contains("queue 2 stands at packet 0 (WAIT") && holds("3"));
  REQUIRE(small.suspect());
  device.queue().signal(flag.iova(), 5).wait();
  small.drain();
  REQUIRE_FALSE(small.suspect());
  bench.other.barrier({flag.iova() + 8, flag.iova() + 16, 0, 0}, false);
  REQUIRE_THROWS_WITH(bench.other.drain(100), Catch::Contains("BARRIER_AND") && holds("0"));
  device.queue().signal(flag.iova() + 8, 1).wait();
  device.queue().signal(flag.iova() + 16, 1).wait();
  bench.other.drain();
  bench.require_works();
}

TEST_CASE("a full ring that does not move tells what it waits for") {
  DeviceOptions options;
  options.overrides = {"faults.door=true"};
  options.wait_limit_us = 200;
  const auto device = tb::open_test_card(kChip, options);
  const HostBuffer flag = device->allocate_host(64);
  Queue &small = device->create_queue({1, 1});
  small.wait_value(flag.iova(), CX_COMPARE_NE, 0);
  small.nop();
  REQUIRE_THROWS_WITH(small.nop(), Catch::Contains("ring of 2 packets is full") && Catch::Contains(" holds 0"));
  device->queue().signal(flag.iova(), 1).wait();
  small.drain();
}

TEST_CASE("a ring that cannot be read puts its queue into state ERROR; a queue reset brings it back") {
  Bench bench;
  Device &device = *bench.device;
  // A doorbell more than a ring ahead.
  device.write_register(CX_MAP_QUEUE_OFFSET + CX_QUEUE_DOORBELL(1), 999);
  device.queue().nop({.interrupt = true}).wait();
  device.queue().nop({.interrupt = true}).wait();
  const auto events = device.take_events();
  REQUIRE(kinds(events) == std::vector<EventKind>{EventKind::kPacket});
  REQUIRE(events[0].status == CX_STATUS_BAD_FIELD);
  REQUIRE(events[0].queue == 1);
  const Fence lost = bench.other.nop();
  const Recovery recovery = device.recover();
  REQUIRE(recovery.level == Recovery::Level::kQueueReset);
  REQUIRE(recovery.queues == std::vector<uint32_t>{1});
  REQUIRE(recovery.packets_lost == 1);
  REQUIRE(lost.wait_status().status == CX_STATUS_ABORTED);
  device.take_fault();
  bench.require_works();
}

TEST_CASE("faults at random come at the same times in every run with the same seed") {
  const auto run = [](const char *seed) {
    Bench bench;
    const uint64_t start = bench.device->time_cycles();
    std::vector<uint64_t> times;
    bench.device->inject(std::string("illegal_packet@rate_hz=20000,count=5,seed=") + seed);
    while (times.size() < 5) {
      bench.device->queue().nop({.interrupt = true}).wait_status();
      for (const auto &event : bench.device->take_events()) times.push_back(event.time_cycles - start);
    }
    return times;
  };
  const auto first = run("7");
  REQUIRE(first == run("7"));
  REQUIRE(first != run("8"));
}

TEST_CASE("texts that describe no fault are refused with what was expected") {
  const auto device = open_card();
  REQUIRE_THROWS_WITH(device->inject("gremlin"), Catch::Contains("kind: expected one of iommu"));
  REQUIRE_THROWS_WITH(device->inject("ecc_corrected@address=0x10"), Catch::Contains("expected a range of DRAM"));
  REQUIRE_THROWS_AS(device->inject("engine_hang@engine=cpu"), InputError);
}

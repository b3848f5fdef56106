// Packets as a host could write them, on two queues of a whole card: each stream ends with every packet completed or
// failed with a status, in bounded simulated time, and the card goes on.
//
// Input: a byte of options, then packets of 64 bytes; they go to the two queues in turn when option bit 0 is set. What
// follows an EXECUTE packet is its list, as far as its count goes, where its address is one of lists. A WAIT or BARRIER
// that nothing satisfies is ended by the host. The watchdog of a LAUNCH is 1 to 4095 units: in the two seconds of the
// firmware's default, a WAIT on the other queue would be polled ten thousands of times.
#include "hw/regs/gen/map.h"
#include "tb/fuzz/card.hpp"
#include "tb/fuzz/fuzz.hpp"

using namespace cx;
using namespace cx::fuzz;

namespace {

constexpr std::size_t kPacketBytes = 64, kMaxPackets = 24;

struct Input {
  uint8_t options = 0;
  std::vector<packets::Bytes> list;
};

Input parse(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  Input input;
  input.options = reader.get<uint8_t>();
  while (!reader.empty() && input.list.size() < kMaxPackets) input.list.push_back(reader.get<packets::Bytes>());
  return input;
}

Bytes to_bytes(const Input &input) {
  Bytes bytes = {input.options};
  for (const packets::Bytes &packet : input.list) bytes.insert(bytes.end(), packet.begin(), packet.end());
  return bytes;
}

void bound_watchdog(packets::Bytes &packet) {
  if (packet[0] != CX_PKT_LAUNCH) return;
  cx_packet_launch launch;
  std::memcpy(&launch, packet.data(), sizeof launch);
  launch.timeout_kcycles = std::max(launch.timeout_kcycles & 0xfff, 1U);
  std::memcpy(packet.data(), &launch, sizeof launch);
}

uint64_t around(Choice &choice, uint64_t base, uint64_t bytes) {
  switch (choice.below(8)) {
    case 0:
      return base + bytes - 8 * choice.below(4);
    case 1:
      return base + choice.below(bytes);
    case 2:
      return base - 8 * choice.below(4);
    default:
      return base + 64 * choice.below(bytes / 64);
  }
}

uint64_t host_address(Choice &choice) {
  const Card &card = Card::instance();
  if (choice.one_in(12)) return choice.one_in(2) ? 0 : around(choice, card.rings(), 4096);
  return around(choice, card.arena(), Card::kArenaBytes);
}

uint64_t device_address(Choice &choice) {
  const Card &card = Card::instance();
  switch (choice.below(10)) {
    case 0:
      return around(choice, CX_MEM_SPM_BASE, 64 << 10);
    case 1:
      return around(choice, card.programs(), Card::kPrograms * Card::kProgramBytes);
    case 2:
      return around(choice, CX_MEM_DRAM_BASE, 16 << 20);
    case 3:
      return around(choice, uint64_t{CX_MEM_TCM_BASE}, 64 << 10);
    default:
      return around(choice, card.data(), Card::kDataBytes);
  }
}

template <class Packet>
packets::Bytes with_header(Packet packet, Choice &choice) {
  packet.barrier = choice.one_in(2);
  packet.acquire = static_cast<packets::Scope>(choice.below(3));
  packet.release = static_cast<packets::Scope>(choice.below(3));
  packet.vector = choice.one_in(3) ? static_cast<uint16_t>(choice.below(34)) : CX_PKT_VECTOR_NONE;
  packet.completion = choice.one_in(2) ? host_address(choice) & ~uint64_t{7} : 0;
  packet.completion_value = choice.below(3);
  return packet.to_bytes();
}

uint32_t small(Choice &choice) {
  return static_cast<uint32_t>(choice.one_in(8) ? choice.below(70000) : 1 + choice.below(256));
}

packets::Bytes launch(unsigned program, Choice &choice) {
  const uint64_t at = Card::instance().programs() + program * Card::kProgramBytes;
  packets::Launch packet;
  packet.program = at;
  packet.segments = at + Card::kProgramBytes - 64;
  packet.segment_count = choice.one_in(10) ? static_cast<uint32_t>(choice.below(66)) : 4;
  packet.program_bytes = choice.one_in(10) ? small(choice) : Card::kProgramBytes - 64;
  packet.timeout_kcycles = static_cast<uint32_t>(1 + choice.below(40));
  return with_header(packet, choice);
}

packets::Bytes random_packet(Choice &choice) {
  switch (choice.below(11)) {
    case 0: {
      packets::Fill packet;
      packet.dst = device_address(choice) & ~uint64_t{3};
      packet.bytes = small(choice) * 4;
      packet.pattern = static_cast<uint32_t>(choice.bits());
      return with_header(packet, choice);
    }
    case 1:
    case 2:
    case 3: {
      packets::Copy packet;
      packet.direction = static_cast<packets::Direction>(choice.below(3));
      packet.src =
          packet.direction == packets::Direction::HOST_TO_DEVICE ? host_address(choice) : device_address(choice);
      packet.dst =
          packet.direction == packets::Direction::DEVICE_TO_HOST ? host_address(choice) : device_address(choice);
      packet.row_bytes = small(choice);
      packet.rows = choice.one_in(2) ? 1 : static_cast<uint32_t>(1 + choice.below(20));
      packet.src_pitch = small(choice);
      packet.dst_pitch = packet.row_bytes + static_cast<uint32_t>(choice.below(16));
      return with_header(packet, choice);
    }
    case 4:
      return launch(choice.one_in(2) ? 0 : static_cast<unsigned>(choice.below(Card::kPrograms)), choice);
    case 5: {
      packets::Signal packet;
      packet.op = static_cast<packets::SignalOp>(choice.below(3));
      packet.address = host_address(choice) & ~uint64_t{7};
      packet.value = choice.below(3);
      return with_header(packet, choice);
    }
    case 6: {
      packets::Wait packet;
      packet.compare = static_cast<packets::Compare>(choice.below(4));
      packet.address = host_address(choice) & ~uint64_t{7};
      packet.value = choice.below(3);
      return with_header(packet, choice);
    }
    case 7: {
      packets::BarrierAnd packet;
      for (uint64_t &dep : packet.deps) dep = choice.one_in(2) ? 0 : host_address(choice) & ~uint64_t{7};
      packets::Bytes bytes = with_header(packet, choice);
      if (choice.one_in(2)) bytes[0] = CX_PKT_BARRIER_OR;
      return bytes;
    }
    case 8: {
      packets::Timestamp packet;
      packet.address = host_address(choice) & ~uint64_t{7};
      return with_header(packet, choice);
    }
    case 9: {
      packets::Execute packet;
      packet.list = choice.one_in(6) ? host_address(choice) & ~uint64_t{63}
                                     : around(choice, Card::instance().lists(), Card::kListsBytes) & ~uint64_t{63};
      packet.count = static_cast<uint32_t>(1 + choice.below(choice.one_in(8) ? 70000 : 6));
      return with_header(packet, choice);
    }
    default:
      return with_header(packets::Nop{}, choice);
  }
}

/// Puts the list of an EXECUTE packet where it says; returns how many packets that took.
std::size_t put_list(const packets::Bytes &packet, std::span<const packets::Bytes> rest) {
  cx_packet_execute execute;
  std::memcpy(&execute, packet.data(), sizeof execute);
  Card &card = Card::instance();
  const auto list = rest.first(std::min({rest.size(), std::size_t{execute.count}, card.room(execute.list)}));
  if (!list.empty()) card.put(execute.list, list);
  return list.size();
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Input input = parse({data, size});
  if (input.list.empty()) return 0;
  Card &card = Card::instance();
  card.restore();
  std::array<Card::Stream, 2> streams;
  for (std::size_t i = 0; i < 2; ++i) {
    streams[i].log2_ring = 1 + (input.options >> 1 & 3);
    streams[i].each = (input.options >> 3 & 1) != 0;
    streams[i].priority = input.options >> (4 + 2 * i) & 3;
  }
  for (packets::Bytes &packet : input.list) bound_watchdog(packet);
  for (std::size_t i = 0; i < input.list.size(); ++i) {
    const packets::Bytes &packet = input.list[i];
    streams[(input.options & 1) != 0 ? i % 2 : 0].packets.push_back(packet);
    if (packet[0] == CX_PKT_EXECUTE) i += put_list(packet, std::span(input.list).subspan(i + 1));
  }
  card.run(streams);
  card.require_alive();
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  Choice choice(seed);
  Input input = parse({data, size});
  const auto any = [&] { return choice.below(input.list.size()); };
  const uint64_t what = input.list.empty() ? 0 : choice.below(8);
  if (what <= 2) {
    const auto place = input.list.begin() + static_cast<std::ptrdiff_t>(choice.below(input.list.size() + 1));
    input.list.insert(place, random_packet(choice));
  } else if (what == 3) {
    input.list[any()] = random_packet(choice);
  } else if (what == 4) {
    input.list.erase(input.list.begin() + static_cast<std::ptrdiff_t>(any()));
  } else if (what == 5) {
    std::swap(input.list[any()], input.list[any()]);
    input.options = static_cast<uint8_t>(choice.bits());
  } else {
    packets::Bytes &packet = input.list[any()];
    LLVMFuzzerMutate(packet.data(), packet.size(), packet.size());
  }
  if (input.list.size() > kMaxPackets) input.list.resize(kMaxPackets);
  return give(to_bytes(input), data, max_size / kPacketBytes * kPacketBytes);
}

std::vector<Bytes> fuzz::seeds() {
  std::vector<Bytes> seeds;
  for (unsigned seed = 0; seed < 24; ++seed) {
    Choice choice(seed);
    Input input;
    input.options = static_cast<uint8_t>(choice.bits());
    const uint64_t count = 1 + choice.below(10);
    for (uint64_t i = 0; i < count; ++i) input.list.push_back(random_packet(choice));
    if (seed < Card::kPrograms) input.list.push_back(launch(seed, choice));
    seeds.push_back(to_bytes(input));
  }
  return seeds;
}

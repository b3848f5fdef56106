// Programs whose frame is right and whose instructions are anything: a launch completes or fails with a status before
// its watchdog's time is over, and the card goes on.
//
// Input: records of 33 bytes, an engine and an instruction; each engine's instructions become its stream, ended by END.
#include "driver/runtime/image_builder.hpp"
#include "hw/regs/gen/isa.hpp"
#include "tb/fuzz/card.hpp"
#include "tb/fuzz/fuzz.hpp"

using namespace cx;
using namespace cx::fuzz;

namespace {

constexpr std::size_t kMaxInstructions = 64;
constexpr uint32_t kTimeoutKcycles = 64;

struct Record {
  uint8_t engine = 0;
  isa::Inst inst{};
};

std::vector<Record> parse(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  std::vector<Record> records;
  while (!reader.empty() && records.size() < kMaxInstructions) {
    Record record;
    record.engine = reader.get<uint8_t>() % isa::kEngineCount;
    record.inst = reader.get<isa::Inst>();
    records.push_back(record);
  }
  return records;
}

Bytes to_bytes(const std::vector<Record> &records) {
  Bytes bytes;
  for (const Record &record : records) {
    bytes.push_back(record.engine);
    bytes.insert(bytes.end(), record.inst.begin(), record.inst.end());
  }
  return bytes;
}

uint64_t value_of(const isa::FieldInfo &field, Choice &choice) {
  if (field.is_float) {
    const float values[] = {0, 1, -1, 0.5F, 1e30F, -1e-30F};
    uint32_t bits = 0;
    std::memcpy(&bits, &values[choice.below(6)], sizeof bits);
    return choice.one_in(8) ? static_cast<uint32_t>(choice.bits()) : bits;
  }
  const uint64_t span = field.max - field.min;
  if (field.none >= 0 && choice.one_in(4)) return static_cast<uint64_t>(field.none);
  if (choice.one_in(10)) return span == UINT64_MAX ? choice.bits() : field.min + choice.bits() % (span + 1);
  const uint64_t small = choice.one_in(2) ? choice.below(4) : 4 * choice.below(64);
  return field.min + std::min(small, span);
}

isa::Inst instruction(const isa::InstInfo &info, Choice &choice) {
  isa::Inst inst{};
  inst[0] = static_cast<uint8_t>(info.opcode);
  for (unsigned f = 0; f < info.field_count; ++f) {
    const isa::FieldInfo &field = info.fields[f];
    for (unsigned i = 0; i < field.count; ++i) {
      const uint64_t value = value_of(field, choice);
      std::memcpy(inst.data() + field.at + i * field.bytes, &value, field.bytes);
    }
  }
  return inst;
}

/// An instruction that the engine has; descriptors often, since without them nothing else does anything.
Record random_record(Choice &choice) {
  Record record;
  record.engine = static_cast<uint8_t>(choice.below(isa::kEngineCount));
  for (;;) {
    const isa::InstInfo &info = isa::kInstructions[choice.below(isa::kInstructions.size())];
    if ((isa::engines_of(info.opcode) >> record.engine & 1) == 0 || info.opcode == isa::Opcode::END) continue;
    record.inst = instruction(info, choice);
    return record;
  }
}

/// Descriptors of matrices in the scratchpad and in segments, then instructions.
std::vector<Record> random_program(Choice &choice) {
  std::vector<Record> records;
  for (uint8_t engine = 0; engine < isa::kEngineCount; ++engine) {
    for (uint8_t index = 0; index < 4; ++index) {
      isa::Tdesc place;
      place.index = index;
      place.dtype = static_cast<isa::DType>(choice.below(isa::kDTypeCount));
      place.base = 4096u * index;
      const auto n = static_cast<uint16_t>(1 + choice.below(16)), m = static_cast<uint16_t>(1 + choice.below(16));
      place.dims = {1, 1, m, n};
      const auto width = static_cast<int32_t>(isa::bytes_of(place.dtype));
      place.strides = {4096, 4096, width * n, width};
      records.push_back({engine, place.encode()});
      if (engine > 1) continue;
      isa::Mdesc memory;
      memory.index = index;
      memory.segment = static_cast<uint8_t>(1 + choice.below(3));
      memory.strides = place.strides;
      records.push_back({engine, memory.encode()});
    }
  }
  for (uint64_t count = 4 + choice.below(16); count != 0; --count) records.push_back(random_record(choice));
  return records;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::vector<Record> records = parse({data, size});
  if (records.empty()) return 0;
  Card &card = Card::instance();
  ImageBuilder builder;
  for (uint8_t engine = 0; engine < isa::kEngineCount; ++engine) {
    std::vector<isa::Inst> stream;
    for (const Record &record : records) {
      if (record.engine == engine) stream.push_back(record.inst);
    }
    if (stream.empty()) continue;
    stream.push_back(isa::End{}.encode());
    for (const isa::Inst &inst : stream) isa::disassemble(inst);
    builder.add_stream(engine, stream);
  }
  try {
    card.launch(builder.finish(card.device().target().arch_hash, 4), kTimeoutKcycles);
  } catch (const Error &error) {
    fail(error.what());
  }
  card.require_alive();
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  Choice choice(seed);
  std::vector<Record> records = parse({data, size});
  const auto any = [&] { return choice.below(records.size()); };
  const uint64_t what = records.empty() ? 0 : choice.below(10);
  if (what == 0) {
    records = random_program(choice);
  } else if (what <= 3) {
    records.insert(records.begin() + static_cast<std::ptrdiff_t>(choice.below(records.size() + 1)),
                   random_record(choice));
  } else if (what == 4) {
    records.erase(records.begin() + static_cast<std::ptrdiff_t>(any()));
  } else if (what == 5) {
    std::swap(records[any()], records[any()]);
  } else if (what <= 7) {
    // Another value of one field.
    Record &record = records[any()];
    for (const isa::InstInfo &info : isa::kInstructions) {
      if (static_cast<uint8_t>(info.opcode) != record.inst[0] || info.field_count == 0) continue;
      const isa::FieldInfo &field = info.fields[choice.below(info.field_count)];
      const uint64_t value = value_of(field, choice);
      std::memcpy(record.inst.data() + field.at + choice.below(field.count) * field.bytes, &value, field.bytes);
    }
  } else {
    isa::Inst &inst = records[any()].inst;
    LLVMFuzzerMutate(inst.data(), inst.size(), inst.size());
  }
  if (records.size() > kMaxInstructions) records.resize(kMaxInstructions);
  return give(to_bytes(records), data, max_size);
}

std::vector<Bytes> fuzz::seeds() {
  std::vector<Bytes> seeds;
  for (unsigned seed = 0; seed < 24; ++seed) {
    Choice choice(seed);
    seeds.push_back(to_bytes(random_program(choice)));
  }
  return seeds;
}

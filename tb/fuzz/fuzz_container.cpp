// Program files: each is refused with InputError or becomes a program that is written and then read and
// written again without a difference.
#include <cstring>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/program.hpp"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/fuzz/fuzz.hpp"

using namespace cx;
using namespace cx::fuzz;

namespace {

// Of docs/driver.md.
constexpr std::size_t kHeaderBytes = 64, kSections = 4, kSectionBytes = 32, kHeaderSum = 60, kSectionSum = 24;

uint32_t sum_of(const Bytes &bytes, std::size_t at, std::size_t count) {
  return crc32(std::as_bytes(std::span(bytes)).subspan(at, count));
}

template <class T>
T get(const Bytes &bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

void put(Bytes &bytes, std::size_t at, uint32_t value) { std::memcpy(bytes.data() + at, &value, sizeof value); }

/// Makes the checksums right, so that what was changed gets past them.
void mend(Bytes &bytes) {
  constexpr std::size_t table_end = kHeaderBytes + kSections * kSectionBytes;
  if (bytes.size() < table_end) return;
  for (std::size_t i = 0; i < kSections; ++i) {
    const std::size_t entry = kHeaderBytes + i * kSectionBytes;
    const auto offset = get<uint64_t>(bytes, entry + 8), count = get<uint64_t>(bytes, entry + 16);
    if (offset > bytes.size() || count > bytes.size() - offset) continue;
    put(bytes, entry + kSectionSum, sum_of(bytes, offset, count));
  }
  put(bytes, kHeaderSum, 0);
  put(bytes, kHeaderSum, sum_of(bytes, 0, table_end));
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const Program program = parse_container(bytes, "input");
    disassemble(program);
    // Names of nodes may come in another order than save() gives them: what is written settles it.
    const std::vector<std::byte> written = to_container(program);
    require(to_container(parse_container(written, "written")) == written, "a program is not read as it was written");
  } catch (const InputError &) {
  }
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  Choice choice(seed);
  Bytes bytes(data, data + LLVMFuzzerMutate(data, size, max_size));
  if (bytes.size() >= 16 && choice.one_in(2)) {
    const uint64_t file_bytes = bytes.size();
    std::memcpy(bytes.data() + 8, &file_bytes, sizeof file_bytes);
  }
  if (!choice.one_in(8)) mend(bytes);
  return give(bytes, data, max_size);
}

std::vector<Bytes> fuzz::seeds() {
  std::vector<Bytes> seeds;
  for (const bool in_place : {false, true}) {
    const auto bytes = to_container(test::sample_program(0x1234, 64, 1.5F, in_place));
    const auto *first = reinterpret_cast<const uint8_t *>(bytes.data());
    seeds.emplace_back(first, first + bytes.size());
  }
  return seeds;
}

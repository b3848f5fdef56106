// Bare-metal programs on the core through the ELF runner, and files that are no programs.
#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "hw/common/port/cx_port.h"
#include "hw/cp/elf.hpp"
#include "hw/cp/rv32_core.hpp"

namespace {

using cx::hw::ElfError;
using cx::hw::ElfImage;
using cx::hw::ElfRun;
using Kind = ElfError::Kind;

std::string path_of(const std::string &program) { return std::string(CX_PROGRAM_DIR "/") + program + ".elf"; }

std::vector<uint8_t> bytes_of(const std::string &program) {
  std::ifstream file(path_of(program), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

ElfRun run(const std::string &program, uint64_t limit = 100'000) {
  return cx::hw::run_elf(cx::hw::load_elf(path_of(program)), limit);
}

template <class T>
void put(std::vector<uint8_t> &file, size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}

template <class T>
T get(const std::vector<uint8_t> &file, size_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

// The kind of error, or nothing.
std::optional<Kind> error_of(const std::vector<uint8_t> &file) {
  try {
    cx::hw::parse_elf(file);
    return std::nullopt;
  } catch (const ElfError &error) {
    CHECK(std::string(error.what()).size() > 5);
    return error.kind();
  }
}

}  // namespace

TEST_CASE("Directed programs pass") {
  for (const char *program : {"alu", "muldiv", "memory", "branches", "traps", "csr", "interrupts"}) {
    INFO(program);
    const ElfRun result = run(program);
    CHECK(result.reason == ElfRun::Reason::kToHost);
    CHECK(result.exit == 0);
    CHECK(result.instructions > 50);
    CHECK(result.cycles >= result.instructions);
  }
}

TEST_CASE("A program with a wrong check fails with its number") {
  const ElfRun result = run("must_fail");
  CHECK(result.reason == ElfRun::Reason::kToHost);
  CHECK(result.exit == 3);
}

TEST_CASE("Programs that do not end by themselves") {
  CHECK(run("must_crash").reason == ElfRun::Reason::kCrashed);
  CHECK(run("must_idle").reason == ElfRun::Reason::kIdle);
  const ElfRun endless = run("must_loop", 12'345);
  CHECK(endless.reason == ElfRun::Reason::kInstructionLimit);
  CHECK(endless.instructions == 12'345);
  CHECK(run("alu", 0).instructions == 0);
  CHECK(run("alu", 10).reason == ElfRun::Reason::kInstructionLimit);
}

TEST_CASE("The C interface gives JSON or an error text") {
  char *text = nullptr;
  CHECK(cx_firmware_run_elf(path_of("must_fail").c_str(), 1000, &text) == CX_PORT_OK);
  REQUIRE(text != nullptr);
  CHECK(std::string(text).find("{\"exit\": 3, \"reason\": \"tohost\", \"instructions\": ") == 0);
  std::free(text);
  CHECK(cx_firmware_run_elf("/no/such/file", 1000, &text) == CX_PORT_BAD_ARGUMENT);
  REQUIRE(text != nullptr);
  CHECK(std::string(text) == "/no/such/file: cannot open");
  std::free(text);
  CHECK(cx_firmware_run_elf(nullptr, 1000, &text) == CX_PORT_BAD_ARGUMENT);
  std::free(text);
  CHECK(cx_firmware_run_elf(path_of("alu").c_str(), 1000, nullptr) == CX_PORT_BAD_ARGUMENT);
  CHECK(cx_firmware_run_elf(CX_PROGRAM_DIR, 1000, &text) == CX_PORT_BAD_ARGUMENT);
  std::free(text);
}

TEST_CASE("Files that are no RV32 programs") {
  const std::vector<uint8_t> good = bytes_of("alu");
  REQUIRE(error_of(good) == std::nullopt);
  const auto with = [&](size_t at, auto value) {
    std::vector<uint8_t> file = good;
    put(file, at, value);
    return error_of(file);
  };
  CHECK(error_of({}) == Kind::kNotElf);
  CHECK(error_of({0x7f, 'E', 'L'}) == Kind::kNotElf);
  CHECK(error_of({0x7f, 'E', 'L', 'F'}) == Kind::kTruncated);
  CHECK(with(0, uint8_t{0}) == Kind::kNotElf);
  CHECK(with(4, uint8_t{2}) == Kind::kNotRv32);    // ELF64
  CHECK(with(5, uint8_t{2}) == Kind::kNotRv32);    // big endian
  CHECK(with(18, uint16_t{3}) == Kind::kNotRv32);  // x86
  CHECK(with(16, uint16_t{1}) == Kind::kNotExecutable);
  CHECK(with(16, uint16_t{3}) == Kind::kNotExecutable);
  CHECK(with(44, uint16_t{0}) == Kind::kNotExecutable);  // no program headers
  CHECK(with(24, uint32_t{0x80000002}) == Kind::kDamaged);
  CHECK(with(42, uint16_t{31}) == Kind::kDamaged);
  CHECK(with(28, uint32_t{0xfffffff0}) == Kind::kTruncated);
  CHECK(with(32, uint32_t{0xfffffff0}) == Kind::kTruncated);
  CHECK(with(46, uint16_t{41}) == Kind::kDamaged);
  CHECK(with(48, uint16_t{0xffff}) == Kind::kTruncated);

  // The first loadable segment.
  size_t segment = get<uint32_t>(good, 28);
  while (get<uint32_t>(good, segment) != 1) segment += 32;
  CHECK(with(segment + 4, uint32_t{0xffffff00}) == Kind::kTruncated);  // offset
  CHECK(with(segment + 16, uint32_t{0x00ffffff}) == Kind::kDamaged);   // larger in the file than in memory
  CHECK(with(segment + 20, uint32_t{0x90000000}) == Kind::kDamaged);   // leaves the address space
  std::vector<uint8_t> huge = good;
  put(huge, segment + 20, uint32_t{0x70000000});
  const ElfImage image = cx::hw::parse_elf(huge);
  try {
    cx::hw::run_elf(image, 10);
    FAIL("1.8 GB of memory were provided");
  } catch (const ElfError &error) {
    CHECK(error.kind() == Kind::kTooLarge);
  }
}

TEST_CASE("Truncated and damaged files never crash the loader") {
  const std::vector<uint8_t> good = bytes_of("alu");
  // Whatever the headers speak of is missing in every prefix.
  for (size_t size = 0; size < good.size(); size += size < 256 ? 1 : 37) {
    const auto error = error_of({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
    INFO("first " << size << " bytes");
    CHECK((error == Kind::kTruncated || error == Kind::kNotElf));
  }
  const unsigned seed = Catch::rngSeed() != 0 ? Catch::rngSeed() : 7;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  unsigned refused = 0;
  const size_t headers = get<uint32_t>(good, 28) + 32 * get<uint16_t>(good, 44);
  const size_t sections = get<uint32_t>(good, 32);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> file = good;
    for (unsigned i = 0; i < 1 + random() % 4; ++i) {
      const bool front = random() % 2;
      const size_t at = front ? random() % headers : sections + random() % (file.size() - sections);
      file[at] = static_cast<uint8_t>(random());
    }
    try {
      cx::hw::run_elf(cx::hw::parse_elf(file), 2000);
    } catch (const ElfError &) {
      ++refused;
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("Code outside the fast window, and without a tohost symbol") {
  // Entry in one region, a routine in another, 1 GiB apart.
  ElfImage image;
  image.entry = 0x20000000;
  const uint32_t first[] = {0x600002b7,    // lui t0, 0x60000
                            0x000280e7,    // jalr ra, t0
                            0x0000006f};   // j .
  const uint32_t second[] = {0x02a00513,   // li a0, 42
                             0x00a2a223,   // sw a0, 4(t0)
                             0x0042a583,   // lw a1, 4(t0)
                             0x00008067};  // ret
  const auto segment = [](uint32_t address, const auto &words) {
    const auto *data = reinterpret_cast<const uint8_t *>(words);
    return ElfImage::Segment{address, 0x1000, {data, data + sizeof words}};
  };
  image.segments = {segment(0x20000000, first), segment(0x60000000, second)};
  const ElfRun result = cx::hw::run_elf(image, 1000);
  CHECK(result.reason == ElfRun::Reason::kInstructionLimit);
  CHECK(result.pc == 0x20000008);
}

TEST_CASE("Speed of the interpreter") {
  // addi, xor, add, sw, lw, bne in a loop.
  const uint32_t loop[] = {0x00130313, 0x0063c3b3, 0x007e0e33, 0x0070a023, 0x0000a403, 0xfe0316e3};
  std::vector<uint8_t> memory(4096);
  std::memcpy(memory.data(), loop, sizeof loop);
  struct NoBus : cx::hw::Rv32Bus {
    bool load(uint32_t, unsigned, uint32_t &) override { return false; }
    bool store(uint32_t, unsigned, uint32_t) override { return false; }
    uint64_t time() override { return 0; }
  } bus;
  cx::hw::Rv32Core core({0x80000000, 4096, memory.data()}, bus);
  core.reset(0x80000000);
  core.set_reg(1, 0x80000800);
  core.run(9'000'000);
  // alu 3 x 1, store 1, load 2, taken branch 3: nine cycles for six instructions.
  CHECK(core.instructions() == 6'000'000);
  CHECK(core.cycles() == 9'000'000);
}

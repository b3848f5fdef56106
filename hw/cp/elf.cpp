#include "hw/cp/elf.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "hw/common/port/cx_port.h"
#include "hw/cp/rv32_core.hpp"

namespace cx::hw {

namespace {

using Kind = ElfError::Kind;

// ---- file format ----

struct FileHeader {
  uint8_t ident[16];
  uint16_t type, machine;
  uint32_t version, entry, program_offset, section_offset, flags;
  uint16_t header_bytes, program_entry_bytes, program_count, section_entry_bytes, section_count, names_index;
};
static_assert(sizeof(FileHeader) == 52);

struct ProgramHeader {
  uint32_t type, offset, virtual_address, physical_address, file_bytes, memory_bytes, flags, align;
};
static_assert(sizeof(ProgramHeader) == 32);

struct SectionHeader {
  uint32_t name, type, flags, address, offset, bytes, link, info, align, entry_bytes;
};
static_assert(sizeof(SectionHeader) == 40);

struct Symbol {
  uint32_t name, value, bytes;
  uint8_t info, other;
  uint16_t section;
};
static_assert(sizeof(Symbol) == 16);

constexpr uint8_t kClass32 = 1, kLittleEndian = 1;
constexpr uint16_t kTypeExecutable = 2, kMachineRiscv = 243;
constexpr uint32_t kSegmentLoad = 1, kSectionSymbols = 2, kSectionStrings = 3;

class File {
 public:
  explicit File(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  std::span<const uint8_t> range(uint64_t offset, uint64_t size, const char *what) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) {
      throw ElfError(Kind::kTruncated, std::string(what) + " at offset " + std::to_string(offset) + " of " +
                                           std::to_string(size) + " bytes: the file has " +
                                           std::to_string(bytes_.size()));
    }
    return bytes_.subspan(offset, size);
  }

  template <class T>
  T read(uint64_t offset, const char *what) const {
    T value;
    std::memcpy(&value, range(offset, sizeof value, what).data(), sizeof value);
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
};

std::optional<uint32_t> find_symbol(const File &file, const FileHeader &header, const std::string &name) {
  if (header.section_offset == 0 || header.section_count == 0) return std::nullopt;
  if (header.section_entry_bytes != sizeof(SectionHeader)) {
    throw ElfError(Kind::kDamaged, "section headers of " + std::to_string(header.section_entry_bytes) + " bytes");
  }
  file.range(header.section_offset, uint64_t{header.section_count} * sizeof(SectionHeader), "section headers");
  const auto section = [&](uint32_t index) {
    return file.read<SectionHeader>(uint64_t{header.section_offset} + index * sizeof(SectionHeader), "section header");
  };
  for (uint32_t i = 0; i < header.section_count; ++i) {
    const SectionHeader symbols = section(i);
    if (symbols.type != kSectionSymbols) continue;
    if (symbols.link >= header.section_count) throw ElfError(Kind::kDamaged, "symbol table names no string table");
    const SectionHeader strings = section(symbols.link);
    if (strings.type != kSectionStrings) throw ElfError(Kind::kDamaged, "symbol table names no string table");
    const auto text = file.range(strings.offset, strings.bytes, "string table");
    file.range(symbols.offset, symbols.bytes, "symbol table");
    for (uint64_t at = 0; at + sizeof(Symbol) <= symbols.bytes; at += sizeof(Symbol)) {
      const auto symbol = file.read<Symbol>(symbols.offset + at, "symbol");
      if (symbol.name >= text.size()) {
        if (symbol.name == 0) continue;
        throw ElfError(Kind::kDamaged, "symbol name beyond its string table");
      }
      const auto *start = reinterpret_cast<const char *>(text.data()) + symbol.name;
      if (std::string_view(start, strnlen(start, text.size() - symbol.name)) == name) return symbol.value;
    }
  }
  return std::nullopt;
}

// ---- machine ----

constexpr uint32_t kDefaultRamBase = 0x80000000;
constexpr uint64_t kDefaultRamBytes = 16u << 20;
constexpr uint64_t kMostRamBytes = 256u << 20;
constexpr uint64_t kPageBytes = 4096;

struct FreeDeleter {
  void operator()(uint8_t *memory) const { std::free(memory); }
};

struct Region {
  uint64_t base = 0;
  uint64_t bytes = 0;
  std::unique_ptr<uint8_t, FreeDeleter> data;

  bool contains(uint64_t address) const { return address >= base && address - base < bytes; }
};

// Whole pages; overlapping and adjacent pieces joined.
std::vector<Region> layout(const ElfImage &image) {
  uint64_t lowest = ~uint64_t{0};
  for (const auto &segment : image.segments) lowest = std::min<uint64_t>(lowest, segment.address);
  std::vector<std::pair<uint64_t, uint64_t>> pieces = {{lowest, lowest + kDefaultRamBytes},
                                                       {kDefaultRamBase, kDefaultRamBase + kDefaultRamBytes}};
  for (const auto &segment : image.segments) {
    pieces.emplace_back(segment.address, uint64_t{segment.address} + segment.memory_bytes);
  }
  std::vector<Region> regions;
  std::sort(pieces.begin(), pieces.end());
  uint64_t total = 0;
  for (auto [first, end] : pieces) {
    first = first / kPageBytes * kPageBytes;
    end = std::min((end + kPageBytes - 1) / kPageBytes * kPageBytes, uint64_t{1} << 32);
    if (!regions.empty() && first <= regions.back().base + regions.back().bytes) {
      const uint64_t known = regions.back().base + regions.back().bytes;
      if (end <= known) continue;
      total += end - known;
      regions.back().bytes = end - regions.back().base;
    } else {
      total += end - first;
      regions.push_back({first, end - first, nullptr});
    }
  }
  if (total > kMostRamBytes) {
    throw ElfError(Kind::kTooLarge, "the program needs " + std::to_string(total >> 20) + " MiB of memory, at most " +
                                        std::to_string(kMostRamBytes >> 20) + " are provided");
  }
  for (Region &region : regions) {
    // Pages that the program never touches cost nothing.
    region.data.reset(static_cast<uint8_t *>(std::calloc(region.bytes, 1)));
    if (!region.data) throw ElfError(Kind::kTooLarge, "no memory for " + std::to_string(region.bytes) + " bytes");
  }
  return regions;
}

class Machine : public Rv32Bus {
 public:
  explicit Machine(const ElfImage &image) : regions_(layout(image)) {
    for (const auto &segment : image.segments) {
      if (!segment.data.empty()) std::memcpy(at(segment.address), segment.data.data(), segment.data.size());
    }
    auto home = std::find_if(regions_.begin(), regions_.end(), [&](auto &r) { return r.contains(image.entry); });
    if (home == regions_.end()) home = regions_.begin();
    core_ = std::make_unique<Rv32Core>(
        Rv32Core::Ram{static_cast<uint32_t>(home->base), static_cast<uint32_t>(home->bytes), home->data.get()}, *this);
    core_->reset(image.entry);
    if (image.tohost) core_->watch_stores(*image.tohost);
  }

  ElfRun run(const ElfImage &image, uint64_t max_instructions) {
    ElfRun result;
    for (;;) {
      const uint64_t left = max_instructions - core_->instructions();
      if (core_->instructions() >= max_instructions) break;
      core_->set_interrupt(Rv32Interrupt::kTimer, time() >= compare_);
      uint64_t limit = core_->cycles() + std::min<uint64_t>(left, uint64_t{1} << 32);
      if (compare_ > time()) limit = std::min(limit, compare_);
      const Rv32Stop stop = core_->run(limit);
      if (stop == Rv32Stop::kLocked) {
        result.reason = ElfRun::Reason::kCrashed;
        break;
      }
      if (stop == Rv32Stop::kSleep && !wake()) {
        result.reason = ElfRun::Reason::kIdle;
        break;
      }
      uint32_t value = 0;
      if (stop == Rv32Stop::kWatch && load(*image.tohost, 4, value) && value != 0) {
        const bool result_written = (value & 1) != 0;
        result.reason = result_written ? ElfRun::Reason::kToHost : ElfRun::Reason::kUnsupportedRequest;
        if (result_written) result.exit = value >> 1;
        break;
      }
    }
    result.instructions = core_->instructions();
    result.cycles = core_->cycles();
    result.pc = core_->pc();
    return result;
  }

  bool load(uint32_t address, unsigned size, uint32_t &value) override {
    value = 0;
    if (const uint8_t *memory = at(address)) {
      std::memcpy(&value, memory, size);
      return true;
    }
    if (size != 4) return false;
    switch (address) {
      case kClint:
        value = software_interrupt_;
        return true;
      case kClint + kCompare:
        value = static_cast<uint32_t>(compare_);
        return true;
      case kClint + kCompare + 4:
        value = static_cast<uint32_t>(compare_ >> 32);
        return true;
      case kClint + kTime:
        value = static_cast<uint32_t>(time());
        return true;
      case kClint + kTime + 4:
        value = static_cast<uint32_t>(time() >> 32);
        return true;
      default:
        return false;
    }
  }

  bool store(uint32_t address, unsigned size, uint32_t value) override {
    if (uint8_t *memory = at(address)) {
      std::memcpy(memory, &value, size);
      return true;
    }
    if (size != 4) return false;
    switch (address) {
      case kClint:
        software_interrupt_ = value & 1;
        core_->set_interrupt(Rv32Interrupt::kSoftware, software_interrupt_ != 0);
        return true;
      case kClint + kCompare:
        set_compare((compare_ & ~uint64_t{0xffffffff}) | value);
        return true;
      case kClint + kCompare + 4:
        set_compare((uint64_t{value} << 32) | static_cast<uint32_t>(compare_));
        return true;
      default:
        return false;
    }
  }

  bool fetch(uint32_t address, uint32_t &word) override { return at(address) != nullptr && load(address, 4, word); }
  uint64_t time() override { return core_->cycles(); }

 private:
  static constexpr uint32_t kClint = 0x02000000, kCompare = 0x4000, kTime = 0xbff8;

  // Regions are whole pages: an aligned access does not leave one.
  uint8_t *at(uint32_t address) {
    for (Region &region : regions_) {
      if (region.contains(address)) return region.data.get() + (address - region.base);
    }
    return nullptr;
  }

  void set_compare(uint64_t value) {
    compare_ = value;
    core_->set_interrupt(Rv32Interrupt::kTimer, time() >= compare_);
    core_->shorten_run(compare_);
  }

  // Lets time pass to the timer's deadline if that ends the sleep.
  bool wake() {
    constexpr uint32_t kMie = 0x304;
    uint32_t enabled = 0;
    core_->read_csr(kMie, enabled);
    const bool timer_enabled = (enabled & (1u << static_cast<uint32_t>(Rv32Interrupt::kTimer))) != 0;
    if (!timer_enabled || compare_ == ~uint64_t{0}) return false;
    if (compare_ > time()) core_->add_cycles(compare_ - time());
    return true;
  }

  std::vector<Region> regions_;
  std::unique_ptr<Rv32Core> core_;
  uint32_t software_interrupt_ = 0;
  uint64_t compare_ = ~uint64_t{0};
};

}  // namespace

ElfImage parse_elf(std::span<const uint8_t> bytes) {
  const File file(bytes);
  static constexpr uint8_t kMagic[4] = {0x7f, 'E', 'L', 'F'};
  if (bytes.size() < sizeof kMagic || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    throw ElfError(Kind::kNotElf, "not an ELF file");
  }
  const auto header = file.read<FileHeader>(0, "file header");
  if (header.ident[4] != kClass32) throw ElfError(Kind::kNotRv32, "not a 32-bit ELF file");
  if (header.ident[5] != kLittleEndian) throw ElfError(Kind::kNotRv32, "not a little-endian ELF file");
  if (header.machine != kMachineRiscv) {
    throw ElfError(Kind::kNotRv32, "for machine " + std::to_string(header.machine) + ", expected 243 (RISC-V)");
  }
  if (header.type != kTypeExecutable) {
    throw ElfError(Kind::kNotExecutable, "ELF type " + std::to_string(header.type) + ", expected 2 (executable)");
  }
  if (header.program_count != 0 && header.program_entry_bytes != sizeof(ProgramHeader)) {
    throw ElfError(Kind::kDamaged, "program headers of " + std::to_string(header.program_entry_bytes) + " bytes");
  }

  ElfImage image;
  image.entry = header.entry;
  if (image.entry % 4 != 0) throw ElfError(Kind::kDamaged, "the entry point is not a multiple of 4");
  for (uint32_t i = 0; i < header.program_count; ++i) {
    const auto program =
        file.read<ProgramHeader>(uint64_t{header.program_offset} + i * sizeof(ProgramHeader), "program header");
    if (program.type != kSegmentLoad || program.memory_bytes == 0) continue;
    if (program.file_bytes > program.memory_bytes) {
      throw ElfError(Kind::kDamaged, "segment " + std::to_string(i) + " is larger in the file than in memory");
    }
    if (uint64_t{program.physical_address} + program.memory_bytes > uint64_t{1} << 32) {
      throw ElfError(Kind::kDamaged, "segment " + std::to_string(i) + " goes beyond the address space");
    }
    const auto data = file.range(program.offset, program.file_bytes, "segment");
    image.segments.push_back({program.physical_address, program.memory_bytes, {data.begin(), data.end()}});
  }
  if (image.segments.empty()) throw ElfError(Kind::kNotExecutable, "no segment to load");
  image.tohost = find_symbol(file, header, "tohost");
  if (image.tohost && *image.tohost % 4 != 0) throw ElfError(Kind::kDamaged, "tohost is not a multiple of 4");
  return image;
}

ElfImage load_elf(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw ElfError(Kind::kUnreadable, path + ": cannot open");
  std::vector<uint8_t> bytes;
  try {
    bytes.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  } catch (const std::ios_base::failure &) {  // a directory, for one
    throw ElfError(Kind::kUnreadable, path + ": cannot read");
  }
  try {
    return parse_elf(bytes);
  } catch (const ElfError &error) {
    throw ElfError(error.kind(), path + ": " + error.what());
  }
}

const char *to_string(ElfRun::Reason reason) {
  switch (reason) {
    case ElfRun::Reason::kToHost:
      return "tohost";
    case ElfRun::Reason::kInstructionLimit:
      return "instruction_limit";
    case ElfRun::Reason::kCrashed:
      return "crashed";
    case ElfRun::Reason::kIdle:
      return "idle";
    case ElfRun::Reason::kUnsupportedRequest:
      return "unsupported_request";
  }
  return "?";
}

ElfRun run_elf(const ElfImage &image, uint64_t max_instructions) {
  if (image.segments.empty()) throw ElfError(Kind::kNotExecutable, "no segment to load");
  return Machine(image).run(image, max_instructions);
}

}  // namespace cx::hw

namespace {

int give(char **text, const std::string &message, int result) {
  *text = strdup(message.c_str());
  return *text != nullptr ? result : CX_PORT_INTERNAL;
}

}  // namespace

extern "C" int cx_firmware_run_elf(const char *elf_path, uint64_t max_instructions, char **json_text) {
  if (json_text == nullptr) return CX_PORT_BAD_ARGUMENT;
  *json_text = nullptr;
  if (elf_path == nullptr) return give(json_text, "no file is named", CX_PORT_BAD_ARGUMENT);
  try {
    const cx::hw::ElfRun run = cx::hw::run_elf(cx::hw::load_elf(elf_path), max_instructions);
    return give(json_text,
                "{\"exit\": " + std::to_string(run.exit) + ", \"reason\": \"" + to_string(run.reason) +
                    "\", \"instructions\": " + std::to_string(run.instructions) +
                    ", \"cycles\": " + std::to_string(run.cycles) + ", \"pc\": " + std::to_string(run.pc) + "}",
                CX_PORT_OK);
  } catch (const cx::hw::ElfError &error) {
    return give(json_text, error.what(), CX_PORT_BAD_ARGUMENT);
  } catch (const std::exception &error) {
    return give(json_text, error.what(), CX_PORT_INTERNAL);
  }
}

// Bare-metal RV32 programs: loading an ELF file and running it on the core alone.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace cx::hw {

/// Why a file is not a program for this core.
class ElfError : public std::runtime_error {
 public:
  enum class Kind {
    kUnreadable,     ///< the file cannot be opened or read
    kNotElf,         ///< no ELF magic
    kNotRv32,        ///< another machine, class, byte order or ABI
    kNotExecutable,  ///< an object file, a shared object, or nothing to load
    kTruncated,      ///< a header, segment, section or string lies beyond the file's end
    kDamaged,        ///< fields that contradict each other
    kTooLarge,       ///< needs more memory than a run provides (256 MiB)
  };
  ElfError(Kind kind, const std::string &message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

struct ElfImage {
  struct Segment {
    uint32_t address = 0;       ///< physical
    uint32_t memory_bytes = 0;  ///< at least data.size(); the rest is zero
    std::vector<uint8_t> data;
  };
  uint32_t entry = 0;
  std::vector<Segment> segments;   ///< in file order
  std::optional<uint32_t> tohost;  ///< address of the symbol `tohost`
};

/// Throws ElfError.
ElfImage parse_elf(std::span<const uint8_t> file);
ElfImage load_elf(const std::string &path);

struct ElfRun {
  enum class Reason {
    kToHost,  ///< the program wrote its result to `tohost`
    kInstructionLimit,
    kCrashed,            ///< an exception on the first instruction of the exception handler
    kIdle,               ///< wfi with nothing that could wake it
    kUnsupportedRequest  ///< an even value in `tohost`: a request to a host that is not there
  };
  Reason reason = Reason::kInstructionLimit;
  int64_t exit = -1;  ///< kToHost: 0 passed, else the number of the failed test; -1 otherwise
  uint64_t instructions = 0;
  uint64_t cycles = 0;
  uint32_t pc = 0;
};
const char *to_string(ElfRun::Reason reason);

/// RAM: where the segments lie, 16 MiB from the lowest segment, 16 MiB at 0x80000000. A core-local interruptor at
/// 0x02000000 (msip, mtimecmp +0x4000, mtime +0xbff8, which counts cycles) unless RAM lies there. Throws ElfError.
ElfRun run_elf(const ElfImage &image, uint64_t max_instructions);

}  // namespace cx::hw

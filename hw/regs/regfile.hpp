// Runtime of the generated register files: one 32-bit word store that applies each side's access rules.
#ifndef HW_REGS_REGFILE_HPP
#define HW_REGS_REGFILE_HPP

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace cx::regs {

// Who accesses: the host through BAR0, or the control processor over the NoC.
enum class Side : uint8_t { host = 0, firmware = 1 };

// rw: plain. ro: writes have no effect. wo: reads as 0. w1c: writing 1 clears. rc: reading clears.
enum class Access : uint8_t { rw, ro, wo, w1c, rc };

enum class Result : uint8_t { ok, unmapped, misaligned };

struct FieldDesc {
  const char *name;
  uint8_t lsb;
  uint8_t width;
  Access host;
  Access firmware;
};

struct RegDesc {
  const char *name;
  uint32_t offset;  // of element 0, bytes
  uint32_t count;   // elements; 1 for a plain register
  uint32_t stride;  // bytes between elements
  uint32_t reset;
  Access host;
  Access firmware;
  std::span<const FieldDesc> fields;  // empty: all 32 bits follow the register's access

  // Bits that exist. Others read as 0 and ignore writes.
  uint32_t implemented() const;
  // Bits of this access kind for a side.
  uint32_t mask(Side side, Access kind) const;
};

// A register as id (index in the table) for generic code; TypedRegFile takes the generated enumeration instead.
class RegFile {
 public:
  // After the value was stored: element, value before, word as written, value now.
  using WriteHook = std::function<void(unsigned index, uint32_t old, uint32_t written, uint32_t now)>;
  // Supplies the value of a read; it is stored before access rules (wo, rc) apply.
  using ReadHook = std::function<uint32_t(unsigned index)>;

  RegFile(std::span<const RegDesc> table, uint32_t size_bytes);
  RegFile(const RegFile &) = delete;
  RegFile &operator=(const RegFile &) = delete;

  // An access by software: aligned 32-bit words at byte offsets. Hooks run. `value` is unchanged unless ok.
  Result read(Side side, uint32_t offset, uint32_t &value);
  Result write(Side side, uint32_t offset, uint32_t value);

  // Every register to its reset value; no hooks run.
  void reset();

  std::span<const RegDesc> table() const { return table_; }
  uint32_t size_bytes() const { return size_bytes_; }

  // The model's own view: no access rules, no hooks. Throws std::out_of_range for an element that does not exist.
  uint32_t raw_get(unsigned reg, unsigned index = 0) const { return values_[slot(reg, index)]; }
  void raw_set(unsigned reg, unsigned index, uint32_t value) { values_[slot(reg, index)] = value; }

  void hook_write(unsigned reg, WriteHook hook) { write_hooks_.at(reg) = std::move(hook); }
  void hook_read(unsigned reg, ReadHook hook) { read_hooks_.at(reg) = std::move(hook); }

 private:
  struct Masks {
    uint32_t rw, w1c, rc, wo;
  };
  struct Word {
    uint16_t reg;
    uint16_t index;
  };
  static constexpr uint16_t kNone = 0xffff;

  unsigned slot(unsigned reg, unsigned index) const;

  std::span<const RegDesc> table_;
  uint32_t size_bytes_;
  std::vector<Word> words_;      // by offset / 4
  std::vector<unsigned> first_;  // first value of each register, one past the end last
  std::vector<uint32_t> values_;
  std::vector<Masks> masks_[2];  // by side, register
  std::vector<WriteHook> write_hooks_;
  std::vector<ReadHook> read_hooks_;
};

// A field of a register, for typed access.
template <class Reg>
struct Field {
  Reg reg;
  uint8_t lsb;
  uint8_t width;
  constexpr uint32_t mask() const { return (width == 32 ? ~0u : (1u << width) - 1u) << lsb; }
};

template <class RegEnum>
class TypedRegFile : public RegFile {
 public:
  using Reg = RegEnum;
  using RegFile::RegFile;

  uint32_t get(Reg reg, unsigned index = 0) const { return raw_get(static_cast<unsigned>(reg), index); }
  void set(Reg reg, uint32_t value, unsigned index = 0) { raw_set(static_cast<unsigned>(reg), index, value); }

  uint32_t get(Field<Reg> field, unsigned index = 0) const {
    return (get(field.reg, index) & field.mask()) >> field.lsb;
  }
  void set(Field<Reg> field, uint32_t value, unsigned index = 0) {
    set(field.reg, (get(field.reg, index) & ~field.mask()) | ((value << field.lsb) & field.mask()), index);
  }

  // A pair X_LO, X_HI (the generator checks that HI follows LO), named by its low word.
  uint64_t get64(Reg lo, unsigned index = 0) const {
    const auto id = static_cast<unsigned>(lo);
    return raw_get(id, index) | (static_cast<uint64_t>(raw_get(id + 1, index)) << 32);
  }
  void set64(Reg lo, uint64_t value, unsigned index = 0) {
    const auto id = static_cast<unsigned>(lo);
    raw_set(id, index, static_cast<uint32_t>(value));
    raw_set(id + 1, index, static_cast<uint32_t>(value >> 32));
  }

  void on_write(Reg reg, WriteHook hook) { hook_write(static_cast<unsigned>(reg), std::move(hook)); }
  void on_read(Reg reg, ReadHook hook) { hook_read(static_cast<unsigned>(reg), std::move(hook)); }
};

}  // namespace cx::regs

#endif

#include "hw/regs/regfile.hpp"

#include <stdexcept>
#include <string>

namespace cx::regs {

namespace {

uint32_t field_mask(const FieldDesc &field) {
  return (field.width == 32 ? ~0u : (1u << field.width) - 1u) << field.lsb;
}

Access access_of(const FieldDesc &field, Side side) { return side == Side::host ? field.host : field.firmware; }

}  // namespace

uint32_t RegDesc::implemented() const {
  if (fields.empty()) return ~0u;
  uint32_t mask = 0;
  for (const FieldDesc &field : fields) mask |= field_mask(field);
  return mask;
}

uint32_t RegDesc::mask(Side side, Access kind) const {
  if (fields.empty()) return (side == Side::host ? host : firmware) == kind ? ~0u : 0u;
  uint32_t mask = 0;
  for (const FieldDesc &field : fields) {
    if (access_of(field, side) == kind) mask |= field_mask(field);
  }
  return mask;
}

RegFile::RegFile(std::span<const RegDesc> table, uint32_t size_bytes)
    : table_(table),
      size_bytes_(size_bytes),
      words_(size_bytes / 4, Word{kNone, 0}),
      write_hooks_(table.size()),
      read_hooks_(table.size()) {
  unsigned next = 0;
  for (unsigned reg = 0; reg < table.size(); ++reg) {
    const RegDesc &desc = table[reg];
    first_.push_back(next);
    next += desc.count;
    for (unsigned index = 0; index < desc.count; ++index) {
      words_.at((desc.offset + index * desc.stride) / 4) = {static_cast<uint16_t>(reg), static_cast<uint16_t>(index)};
    }
    for (Side side : {Side::host, Side::firmware}) {
      masks_[static_cast<int>(side)].push_back({desc.mask(side, Access::rw), desc.mask(side, Access::w1c),
                                                desc.mask(side, Access::rc), desc.mask(side, Access::wo)});
    }
  }
  first_.push_back(next);
  values_.resize(next);
  reset();
}

unsigned RegFile::slot(unsigned reg, unsigned index) const {
  if (reg >= table_.size() || index >= table_[reg].count) {
    throw std::out_of_range("register " + std::to_string(reg) + " element " + std::to_string(index));
  }
  return first_[reg] + index;
}

Result RegFile::read(Side side, uint32_t offset, uint32_t &value) {
  if (offset % 4 != 0) return Result::misaligned;
  if (offset >= size_bytes_ || words_[offset / 4].reg == kNone) return Result::unmapped;
  const Word word = words_[offset / 4];
  uint32_t &stored = values_[first_[word.reg] + word.index];
  if (read_hooks_[word.reg]) stored = read_hooks_[word.reg](word.index);
  const Masks &masks = masks_[static_cast<int>(side)][word.reg];
  value = stored & ~masks.wo;
  stored &= ~masks.rc;
  return Result::ok;
}

Result RegFile::write(Side side, uint32_t offset, uint32_t value) {
  if (offset % 4 != 0) return Result::misaligned;
  if (offset >= size_bytes_ || words_[offset / 4].reg == kNone) return Result::unmapped;
  const Word word = words_[offset / 4];
  uint32_t &stored = values_[first_[word.reg] + word.index];
  const Masks &masks = masks_[static_cast<int>(side)][word.reg];
  const uint32_t writable = masks.rw | masks.wo;
  if ((writable | masks.w1c) == 0) return Result::ok;  // read-only for this side: no effect and no side effect
  const uint32_t old = stored;
  stored = ((old & ~writable) | (value & writable)) & ~(value & masks.w1c);
  const uint32_t now = stored;
  if (write_hooks_[word.reg]) write_hooks_[word.reg](word.index, old, value, now);
  return Result::ok;
}

void RegFile::reset() {
  for (unsigned reg = 0; reg < table_.size(); ++reg) {
    for (unsigned index = 0; index < table_[reg].count; ++index) values_[first_[reg] + index] = table_[reg].reset;
  }
}

}  // namespace cx::regs

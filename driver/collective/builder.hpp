// Command lists of all ranks, phase by phase.
#pragma once

#include <memory>

#include "driver/collective/plan.hpp"

namespace cx::collective {

class Builder {
 public:
  /// memory_bytes: of every rank, taken by the caller; scratch begins behind it.
  Builder(uint32_t ranks, uint64_t memory_bytes, ElementType type);

  /// The commands since the last call.
  std::vector<std::vector<cx_comm_command>> take();
  const std::vector<uint64_t> &memory_bytes() const { return schedule_.memory_bytes; }

  /// All phases for a range of elements that every rank holds.
  void chunk(const std::vector<Phase> &phases, uint64_t begin, uint64_t count, uint8_t channel);

  // ---- single commands and phases ----
  /// A command after two others of the rank, or CX_COMM_NONE; returns its number.
  uint32_t add(uint32_t rank, cx_comm_command command, uint32_t first, uint32_t second);
  /// One command that is complete when both are.
  uint32_t joined(uint32_t rank, uint32_t first, uint32_t second);
  uint64_t scratch_bytes(uint32_t rank, uint64_t bytes);
  /// The range that the next phase works on, and the command that has to come before.
  void hold(uint32_t rank, uint64_t begin, uint64_t count, uint32_t ready);
  /// Part `position` of k of a range that a gather will restore.
  void hold_part(uint32_t rank, uint64_t begin, uint64_t count, uint32_t position, uint32_t k, uint32_t ready);
  /// After it the rank's range is complete.
  uint32_t ready(uint32_t rank) const { return held_[rank].ready; }
  uint64_t held_begin(uint32_t rank) const { return held_[rank].begin; }
  uint64_t held_count(uint32_t rank) const { return held_[rank].count; }
  void run(const Phase &phase, const std::vector<uint32_t> &group);
  /// Elements of REDUCE from now on, of the size of the builder's type.
  void reduce_as(ElementType type) { reduce_type_ = static_cast<uint8_t>(1 + static_cast<int>(type)); }

 private:
  /// A range of elements. Its parts are those of a Split, or of blocks of any size (after a sort).
  struct Span {
    uint64_t begin = 0, count = 0;
    std::shared_ptr<const std::vector<uint64_t>> cuts;  ///< of the blocks, in elements from `base`
    uint64_t base = 0;
    uint32_t first = 0, blocks = 0;  ///< blocks of the range
    /// Parts from..to - 1 of k.
    Span sub(uint32_t from, uint32_t to, uint32_t k) const;
    Span part(uint32_t i, uint32_t k) const { return sub(i, i + 1, k); }
    Span half(uint32_t parts, bool upper) const {
      return upper ? sub(parts / 2, parts, parts) : sub(0, parts / 2, parts);
    }
  };
  /// What a rank works on, and the last commands that concern it.
  struct Held : Span {
    uint32_t ready = CX_COMM_NONE;  ///< has to be complete before the range may be read
    std::vector<Span> outer;        ///< ranges that gathers will restore, innermost last
    bool active = true;             ///< false: stands aside since a fold
    uint64_t natural = 0;           ///< where the range was before a sort
    uint64_t results = 0;           ///< of the last all-to-all
    bool more_exchanges = false;    ///< another all-to-all follows
    void become(const Span &span) { static_cast<Span &>(*this) = span; }
  };

  uint32_t send(uint32_t rank, uint32_t peer, uint64_t begin, uint64_t count, uint32_t after);
  uint32_t receive(uint32_t rank, uint32_t peer, uint64_t offset, uint64_t count, uint32_t after,
                   uint32_t second = CX_COMM_NONE);
  uint32_t reduce(uint32_t rank, uint64_t begin, uint64_t scratch, uint64_t count, uint32_t after, uint32_t second);
  uint64_t scratch(uint32_t rank, uint64_t count);
  void narrow(uint32_t rank, uint32_t position, uint32_t k);
  Span widen(uint32_t rank);

  void ring_scatter(const std::vector<uint32_t> &group);
  void ring_gather(const std::vector<uint32_t> &group);
  void direct_scatter(const std::vector<uint32_t> &group);
  void direct_gather(const std::vector<uint32_t> &group);
  /// The bit of the position by which the members of a step pair up.
  static std::vector<uint32_t> bits(uint32_t members, bool in_order);
  void halve(const std::vector<uint32_t> &group, bool in_order);
  void unhalve(const std::vector<uint32_t> &group, bool in_order);
  void double_up(const std::vector<uint32_t> &group);
  void tree_reduce(const std::vector<uint32_t> &group, uint32_t root);
  void tree_broadcast(const std::vector<uint32_t> &group, uint32_t root, bool serial);
  void chain_broadcast(const std::vector<uint32_t> &group, uint32_t root);
  void fold(const std::vector<uint32_t> &group);
  void unfold(const std::vector<uint32_t> &group);
  void all_to_all(const std::vector<uint32_t> &group);
  void scatter(const std::vector<uint32_t> &group, uint32_t root, bool has_data);
  void sort(const std::vector<uint32_t> &group, const std::vector<uint32_t> &levels, bool part_only);
  void unsort(const std::vector<uint32_t> &group, const std::vector<uint32_t> &levels, bool part_only);

  uint64_t size_;
  uint8_t channel_ = 0, reduce_type_ = 0;
  Schedule schedule_;
  std::vector<Held> held_;
};

}  // namespace cx::collective

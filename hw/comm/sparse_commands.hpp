// Commands on sparse vectors, as the engine executes them on a card's memory. Rule: hw/common/port/cx_cluster.h.
#ifndef HW_COMM_SPARSE_COMMANDS_HPP
#define HW_COMM_SPARSE_COMMANDS_HPP

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "hw/common/port/cx_cluster.h"

namespace cx::hw::net {

constexpr std::uint64_t kPairBytes = 8;  // u32 index, f32 value

// Data that a command cannot take: an index out of range, pairs that do not rise, a selection that is none.
class CommDataError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// k from 1 to count.
void select_largest(const float *source, float *residual, std::size_t count, std::size_t k, std::byte *pairs);
void scatter_add(const std::byte *pairs, std::size_t count, float *target, std::uint64_t elements);
void count_indices(const std::byte *pairs, std::size_t count, std::uint64_t elements, std::uint32_t bins,
                   std::uint32_t *counts);
// `block`: a cx_comm_selection and its cuts.
void cut_index_space(const std::uint32_t *counts, std::size_t bins, std::uint64_t elements, std::uint32_t parts,
                     std::byte *block);
// `offset`: of the list in memory, for the extents.
std::vector<cx_comm_extent> partition(const std::byte *pairs, std::size_t count, std::uint64_t offset,
                                      const std::byte *block, std::uint64_t room, std::uint32_t parts);
void count_magnitudes(const float *vector, std::uint64_t elements, const std::byte *block, std::uint64_t room,
                      std::uint32_t part, std::uint32_t *counts);
void narrow_selection(const std::uint32_t *counts, std::byte *block, std::uint64_t room, std::uint32_t part,
                      std::uint64_t wanted);
// Returns how many pairs were written; at most `most`.
std::size_t take_selected(float *vector, std::uint64_t elements, const std::byte *block, std::uint64_t room,
                          std::uint32_t part, std::byte *pairs, std::size_t most);
void retain(const std::byte *pairs, std::size_t count, const float *result, float *residual, std::uint64_t elements);

// type: CX_COMM_LIST(). `list` has cx_comm_list_bytes().
void encode_list(std::uint8_t type, const std::byte *pairs, std::size_t count, std::uint64_t elements, float *residual,
                 std::byte *list);
void decode_add(std::uint8_t type, const std::byte *list, std::size_t count, std::uint64_t elements, float *target);

// Elements of a part, for the time that a command on it takes.
std::uint64_t part_elements(const std::byte *block, std::uint64_t room, std::uint32_t part);

}  // namespace cx::hw::net

#endif

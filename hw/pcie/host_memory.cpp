#include "hw/pcie/host_memory.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <stdexcept>

namespace cx::hw {

HostMemory::Result HostMemory::map(std::uint64_t iova, std::uint64_t bytes, std::byte *memory, Access access) {
  if (memory == nullptr) return Result::bad_argument;
  return map(iova, bytes, Mapping{0, memory, nullptr, access});
}

HostMemory::Result HostMemory::map(std::uint64_t iova, std::uint64_t bytes, HostWindow &window, Access access) {
  return map(iova, bytes, Mapping{0, nullptr, &window, access});
}

HostMemory::Result HostMemory::map(std::uint64_t iova, std::uint64_t bytes, std::byte *memory, PeerMemory &peer,
                                   Access access) {
  if (memory == nullptr) return Result::bad_argument;
  return map(iova, bytes, Mapping{0, memory, nullptr, access, &peer});
}

void HostMemory::unmap(const PeerMemory &peer) {
  std::erase_if(mappings_, [&](const auto &item) { return item.second.peer == &peer; });
}

PeerMemory *HostMemory::peer(std::uint64_t iova) const {
  const auto next = mappings_.upper_bound(iova);
  if (next == mappings_.begin()) return nullptr;
  const Mapping &mapping = std::prev(next)->second;
  return iova <= mapping.last ? mapping.peer : nullptr;
}

HostMemory::Result HostMemory::map(std::uint64_t iova, std::uint64_t bytes, const Mapping &mapping) {
  if (bytes == 0 || iova + (bytes - 1) < iova) return Result::bad_argument;
  const std::uint64_t last = iova + (bytes - 1);
  const auto next = mappings_.upper_bound(last);
  if (next != mappings_.begin() && std::prev(next)->second.last >= iova) return Result::overlap;
  mappings_.emplace(iova, mapping).first->second.last = last;
  return Result::ok;
}

HostMemory::Result HostMemory::unmap(std::uint64_t iova, std::uint64_t bytes) {
  if (bytes == 0 || iova + (bytes - 1) < iova) return Result::bad_argument;
  const std::uint64_t last = iova + (bytes - 1);
  const auto first = mappings_.find(iova);
  auto end = first;
  std::uint64_t expected = iova;
  while (end != mappings_.end() && end->first == expected && end->second.last <= last) {
    const std::uint64_t mapped_to = end->second.last;
    ++end;
    if (mapped_to == last) {
      mappings_.erase(first, end);
      return Result::ok;
    }
    expected = mapped_to + 1;
  }
  return Result::not_mapped;
}

HostMemory::Piece HostMemory::translate(std::uint64_t iova, std::uint64_t bytes, bool write) const {
  const auto next = mappings_.upper_bound(iova);
  if (next == mappings_.begin()) return {};
  const auto &[first, mapping] = *std::prev(next);
  if (mapping.peer != nullptr && !mapping.peer->reachable()) return {};
  if (iova > mapping.last || !(write ? mapping.access.write : mapping.access.read)) return {};
  const std::uint64_t room = mapping.last - iova;  // bytes after the first
  std::byte *memory = mapping.memory == nullptr ? nullptr : mapping.memory + (iova - first);
  return {memory, mapping.window, bytes - 1 <= room ? bytes : room + 1};
}

bool HostMemory::check(std::uint64_t iova, std::uint64_t bytes, bool write, std::uint64_t *fault) const {
  while (bytes > 0) {
    const Piece piece = translate(iova, bytes, write);
    if (piece.bytes == 0) {
      *fault = iova;
      return false;
    }
    iova += piece.bytes;
    bytes -= piece.bytes;
  }
  return true;
}

bool HostMemory::read(std::uint64_t iova, std::byte *to, std::uint64_t bytes) const {
  while (bytes > 0) {
    const Piece piece = translate(iova, bytes, false);
    if (piece.bytes == 0) throw std::out_of_range("host memory is not mapped for reading");
    if (piece.memory != nullptr) {
      std::memcpy(to, piece.memory, piece.bytes);
    } else if (!piece.window->read(iova, to, piece.bytes)) {
      return false;
    }
    iova += piece.bytes;
    to += piece.bytes;
    bytes -= piece.bytes;
  }
  return true;
}

bool HostMemory::write(std::uint64_t iova, const std::byte *from, std::uint64_t bytes) {
  while (bytes > 0) {
    const Piece piece = translate(iova, bytes, true);
    if (piece.bytes == 0) throw std::out_of_range("host memory is not mapped for writing");
    if (piece.memory != nullptr) {
      std::memcpy(piece.memory, from, piece.bytes);
    } else if (!piece.window->write(iova, from, piece.bytes)) {
      return false;
    }
    iova += piece.bytes;
    from += piece.bytes;
    bytes -= piece.bytes;
  }
  return true;
}

}  // namespace cx::hw

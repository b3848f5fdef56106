// A compiled program: what the compiler emits, the container stores and the runtime loads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "driver/runtime/shared_constants.hpp"
#include "driver/umd/target.hpp"

namespace cx {

/// One tensor that the host binds at run time. Row-major elements of the ONNX type, in a segment of its own.
struct Binding {
  std::string name;
  std::string type;  ///< "float32", "int64", ... as NumPy names it
  std::vector<int64_t> shape;
  uint32_t segment = 0;
  uint64_t bytes = 0;
};

/// Maps a range of instructions of one stream back to the graph node it came from.
struct DebugEntry {
  uint32_t engine = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  std::string node;
};

/// Segments of the device: 0 the image (header, streams, constants), 1 the workspace, then one for each binding, then
/// that of the shared constants if there are any. An output in the segment of an input, whose type and shape it has, is
/// that input updated in place.
struct Program {
  std::string name;
  std::string precision;
  uint64_t arch_hash = 0;
  std::vector<std::byte> image;  ///< as the firmware reads it, see docs/reference/packets.md
  uint64_t workspace_bytes = 0;
  std::vector<Binding> inputs;
  std::vector<Binding> outputs;
  std::vector<DebugEntry> debug;
  uint64_t macs = 0;  ///< multiply-accumulates of the model's convolutions and matrix products, without padding

  /// Constants outside the image, in segment constants_segment, their first constants_bytes; null: all are in the
  /// image. Such a program belongs to the process that compiled it and is not written to a file.
  std::shared_ptr<const SharedConstants> constants;
  uint32_t constants_segment = 0;
  uint64_t constants_bytes = 0;
};

/// Whether products are of an 8-bit format, of which the DMMU may multiply several for each element and cycle.
bool multiplies_8_bit(const Program &program);

/// Why the time of the program depends on data: the first instruction that it depends on, and the node it belongs to;
/// empty if it does not. Then a timing-only launch takes the same cycles as any other.
std::string timing_dependence(const Program &program);

/// Container file (.cxb). load() throws cx::Error with the offset and what was expected when a field is damaged.
void save(const Program &program, const std::filesystem::path &path);
Program load_program(const std::filesystem::path &path);

/// The same in memory; `name` stands for the file in messages.
std::vector<std::byte> to_container(const Program &program);
Program parse_container(std::span<const std::byte> bytes, const std::string &name);

/// Throws InputError when image, bindings, segments or debug map contradict each other.
void validate(const Program &program);

/// All streams as text, one instruction a line, with the node each belongs to.
std::string disassemble(const Program &program);

}  // namespace cx

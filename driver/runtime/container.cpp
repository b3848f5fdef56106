// The container file (.cxb), little endian:
//   0  u32 magic 'CXB1'         4  u16 version          6  u16 header bytes (64)
//   8  u64 file bytes          16  u64 arch hash       24  u64 macs            32  u64 workspace bytes
//  40  u32 sections            44  u32 bytes of a section entry (32)
//  48  u32 version of the instruction set              52  u64 reserved, zero
//  60  u32 CRC-32 of header (this field 0) and section table
// Section entry: u32 kind, u32 reserved, u64 offset, u64 bytes, u32 CRC-32 of its bytes, u32 reserved.
// Sections follow the table in ascending kind, each at the next multiple of 64; the bytes between are zero.
#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/program.hpp"
#include "driver/runtime/tensor.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx {

namespace {

constexpr uint32_t kMagic = 0x31425843;  // 'CXB1'
constexpr uint16_t kVersion = 1;
constexpr uint64_t kHeaderBytes = 64, kEntryBytes = 32, kSectionAlign = 64;
constexpr uint64_t kCrcAt = 60;
constexpr uint32_t kMaxRank = 64;
constexpr uint32_t kFirstBindingSegment = 2;

enum Kind : uint32_t { kImage = 1, kNames = 2, kBindings = 3, kDebug = 4 };
constexpr std::array<const char *, 5> kKindNames{"", "image", "names", "bindings", "debug"};
constexpr uint32_t kSections = 4;

uint64_t align_up(uint64_t value) { return (value + kSectionAlign - 1) & ~(kSectionAlign - 1); }

std::string hex(uint64_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

class Writer {
 public:
  template <class T>
  void put(T value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void text(const std::string &value) {
    put(static_cast<uint32_t>(value.size()));
    const auto bytes = std::as_bytes(std::span(value));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

// Reads with the file's offset in every complaint.
class Reader {
 public:
  Reader(const std::string &file, std::span<const std::byte> bytes, uint64_t base)
      : file_(file), bytes_(bytes), base_(base) {}

  template <class T>
  T get(const char *field) {
    need(sizeof(T), field);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string text(const char *field) {
    const uint32_t size = get<uint32_t>(field);
    need(size, field);
    std::string value(reinterpret_cast<const char *>(bytes_.data() + at_), size);
    at_ += size;
    return value;
  }
  // A count of records of at least `record` bytes each: refused before memory is set aside for it.
  uint32_t count(const char *field, uint64_t record) {
    const uint32_t value = get<uint32_t>(field);
    if (value > (bytes_.size() - at_) / record)
      fail(at_ - sizeof value, std::string(field) + " is " + std::to_string(value) + ", expected at most " +
                                   std::to_string((bytes_.size() - at_) / record));
    return value;
  }
  void expect(bool good, uint64_t back, const std::string &message) const {
    if (!good) fail(at_ - back, message);
  }
  void end() const {
    if (at_ != bytes_.size())
      fail(at_, std::to_string(bytes_.size() - at_) + " bytes are left over, expected the section's end");
  }
  [[noreturn]] void fail(uint64_t at, const std::string &message) const {
    throw InputError(file_ + ": offset " + hex(base_ + at) + ": " + message);
  }

 private:
  void need(uint64_t size, const char *field) const {
    if (size > bytes_.size() - at_) {
      fail(at_, std::string("ends inside ") + field + ", expected " + std::to_string(size) + " bytes, found " +
                    std::to_string(bytes_.size() - at_));
    }
  }

  const std::string &file_;
  std::span<const std::byte> bytes_;
  uint64_t base_;
  uint64_t at_ = 0;
};

std::vector<std::byte> write_bindings(const Program &program) {
  Writer out;
  out.put(static_cast<uint32_t>(program.inputs.size()));
  out.put(static_cast<uint32_t>(program.outputs.size()));
  for (const auto *list : {&program.inputs, &program.outputs}) {
    for (const Binding &binding : *list) {
      out.text(binding.name);
      out.text(binding.type);
      out.put(static_cast<uint32_t>(binding.shape.size()));
      for (const int64_t dim : binding.shape) out.put(dim);
      out.put(binding.segment);
      out.put(binding.bytes);
    }
  }
  return out.take();
}

void read_bindings(Reader in, Program &program) {
  constexpr uint64_t kSmallest = 4 + 4 + 4 + 4 + 8;
  const uint32_t inputs = in.count("number of inputs", kSmallest);
  const uint32_t outputs = in.count("number of outputs", kSmallest);
  for (uint64_t i = 0; i < uint64_t{inputs} + outputs; ++i) {
    Binding binding;
    binding.name = in.text("name of a tensor");
    binding.type = in.text("type of a tensor");
    const uint32_t rank = in.get<uint32_t>("rank");
    in.expect(rank <= kMaxRank, 4,
              "rank is " + std::to_string(rank) + ", expected at most " + std::to_string(kMaxRank));
    for (uint32_t d = 0; d < rank; ++d) binding.shape.push_back(in.get<int64_t>("dimension"));
    binding.segment = in.get<uint32_t>("segment");
    binding.bytes = in.get<uint64_t>("bytes of a tensor");
    (i < inputs ? program.inputs : program.outputs).push_back(std::move(binding));
  }
  in.end();
}

std::vector<std::byte> write_debug(const Program &program) {
  // Node names repeat in all streams: each is stored once.
  std::map<std::string, uint32_t> index;
  std::vector<const std::string *> nodes;
  for (const DebugEntry &entry : program.debug) {
    if (index.emplace(entry.node, static_cast<uint32_t>(nodes.size())).second) nodes.push_back(&entry.node);
  }
  Writer out;
  out.put(static_cast<uint32_t>(nodes.size()));
  out.put(static_cast<uint32_t>(program.debug.size()));
  for (const std::string *node : nodes) out.text(*node);
  for (const DebugEntry &entry : program.debug) {
    out.put(entry.engine);
    out.put(entry.first);
    out.put(entry.count);
    out.put(index.at(entry.node));
  }
  return out.take();
}

void read_debug(Reader in, Program &program) {
  const uint32_t node_count = in.count("number of nodes", 4);
  const uint32_t entry_count = in.count("number of debug entries", 16);
  std::vector<std::string> nodes;
  for (uint32_t i = 0; i < node_count; ++i) nodes.push_back(in.text("name of a node"));
  for (uint32_t i = 0; i < entry_count; ++i) {
    DebugEntry entry;
    entry.engine = in.get<uint32_t>("engine");
    entry.first = in.get<uint32_t>("first instruction");
    entry.count = in.get<uint32_t>("number of instructions");
    const uint32_t node = in.get<uint32_t>("node");
    in.expect(node < nodes.size(), 4,
              "node is " + std::to_string(node) + ", expected below " + std::to_string(nodes.size()));
    entry.node = nodes[node];
    program.debug.push_back(std::move(entry));
  }
  in.end();
}

}  // namespace

void validate(const Program &program) {
  const ImageInfo image = parse_image(program.image);
  if (image.arch_hash != program.arch_hash) {
    throw InputError("architecture hash is " + hex(program.arch_hash) + ", expected that of the image, " +
                     hex(image.arch_hash));
  }
  std::set<uint32_t> segments, updated;
  for (const auto *list : {&program.inputs, &program.outputs}) {
    std::set<std::string> names;
    for (const Binding &binding : *list) {
      const std::string what = std::string(list == &program.inputs ? "input '" : "output '") + binding.name + "'";
      if (!names.insert(binding.name).second) throw InputError(what + " exists twice");
      uint64_t bytes = 0;
      try {
        if (__builtin_mul_overflow(element_count(binding.shape), element_bytes(binding.type), &bytes)) {
          throw InputError("shape " + shape_text(binding.shape) + " is too large");
        }
      } catch (const InputError &error) {
        throw InputError(what + ": " + error.what());
      }
      if (binding.bytes != bytes) {
        throw InputError(what + " has " + std::to_string(binding.bytes) + " bytes, expected " + std::to_string(bytes) +
                         " of " + binding.type + " " + shape_text(binding.shape));
      }
      if (binding.segment < kFirstBindingSegment || binding.segment >= image.segment_count) {
        throw InputError(what + " lies in segment " + std::to_string(binding.segment) + ", expected " +
                         std::to_string(kFirstBindingSegment) + " to " + std::to_string(image.segment_count - 1));
      }
      if (segments.insert(binding.segment).second) continue;
      const auto input = std::find_if(program.inputs.begin(), program.inputs.end(), [&](const Binding &other) {
        return other.segment == binding.segment && other.type == binding.type && other.shape == binding.shape;
      });
      // An output may update one input of its type and shape; no two outputs may update the same.
      if (list == &program.inputs || input == program.inputs.end() || !updated.insert(binding.segment).second) {
        throw InputError(what + " shares segment " + std::to_string(binding.segment) + " with another tensor");
      }
    }
  }
  if (program.constants) {
    if (program.constants_segment < kFirstBindingSegment || program.constants_segment >= image.segment_count ||
        segments.count(program.constants_segment)) {
      throw InputError("the shared constants lie in segment " + std::to_string(program.constants_segment) +
                       ", expected one of its own up to " + std::to_string(image.segment_count - 1));
    }
    if (program.constants_bytes > program.constants->bytes().size()) {
      throw InputError("the program uses " + std::to_string(program.constants_bytes) +
                       " bytes of shared constants, there are " + std::to_string(program.constants->bytes().size()));
    }
  }
  std::array<uint32_t, isa::kEngineCount> counts{};
  for (const ImageInfo::Stream &stream : image.streams) counts[stream.engine] = stream.count;
  for (const DebugEntry &entry : program.debug) {
    if (entry.engine >= counts.size() || entry.first > counts[entry.engine] ||
        entry.count > counts[entry.engine] - entry.first) {
      throw InputError("debug entry of node '" + entry.node + "' names instructions " + std::to_string(entry.first) +
                       " + " + std::to_string(entry.count) + " of engine " + std::to_string(entry.engine) +
                       ", which do not exist");
    }
  }
}

std::vector<std::byte> to_container(const Program &program) {
  validate(program);
  if (program.constants) throw UsageError("program '" + program.name + "' shares its constants and cannot be stored");
  Writer names;
  names.text(program.name);
  names.text(program.precision);
  const std::array<std::vector<std::byte>, kSections> own{std::vector<std::byte>{}, names.take(),
                                                          write_bindings(program), write_debug(program)};
  const std::array<std::span<const std::byte>, kSections> sections{program.image, own[1], own[2], own[3]};

  uint64_t offset = align_up(kHeaderBytes + kSections * kEntryBytes);
  Writer table;
  for (uint32_t i = 0; i < kSections; ++i) {
    table.put(uint32_t{kImage + i});
    table.put(uint32_t{0});
    table.put(offset);
    table.put(uint64_t{sections[i].size()});
    table.put(crc32(sections[i]));
    table.put(uint32_t{0});
    offset = i + 1 < kSections ? align_up(offset + sections[i].size()) : offset + sections[i].size();
  }
  Writer out;
  out.put(kMagic);
  out.put(kVersion);
  out.put(static_cast<uint16_t>(kHeaderBytes));
  out.put(offset);
  out.put(program.arch_hash);
  out.put(program.macs);
  out.put(program.workspace_bytes);
  out.put(kSections);
  out.put(static_cast<uint32_t>(kEntryBytes));
  out.put(isa::kVersion);
  out.put(uint64_t{0});
  out.put(uint32_t{0});
  std::vector<std::byte> result = out.take();
  const std::vector<std::byte> entries = table.take();
  result.insert(result.end(), entries.begin(), entries.end());
  const uint32_t crc = crc32(result);
  std::memcpy(result.data() + kCrcAt, &crc, sizeof crc);

  result.reserve(offset);
  for (const auto &section : sections) {
    result.resize(align_up(result.size()));
    result.insert(result.end(), section.begin(), section.end());
  }
  return result;
}

void save(const Program &program, const std::filesystem::path &path) {
  const std::vector<std::byte> bytes = to_container(program);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw InputError(path.string() + ": writing failed");
}

Program load_program(const std::filesystem::path &path) {
  const std::string file = path.string();
  std::ifstream stream(path, std::ios::binary | std::ios::ate);
  if (!stream || !std::filesystem::is_regular_file(path)) throw InputError(file + ": cannot be read");
  std::vector<std::byte> bytes(static_cast<size_t>(stream.tellg()));
  stream.seekg(0);
  stream.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!stream) throw InputError(file + ": cannot be read");
  return parse_container(bytes, file);
}

Program parse_container(std::span<const std::byte> bytes, const std::string &file) {
  Reader in(file, bytes, 0);
  const auto field = [&](const char *name, uint64_t value, uint64_t expected, uint64_t size) {
    in.expect(value == expected, size, std::string(name) + " is " + hex(value) + ", expected " + hex(expected));
  };
  Program program;
  field("magic", in.get<uint32_t>("magic"), kMagic, 4);
  field("container version", in.get<uint16_t>("container version"), kVersion, 2);
  field("header size", in.get<uint16_t>("header size"), kHeaderBytes, 2);
  field("file size", in.get<uint64_t>("file size"), bytes.size(), 8);
  program.arch_hash = in.get<uint64_t>("architecture hash");
  program.macs = in.get<uint64_t>("number of multiply-accumulates");
  program.workspace_bytes = in.get<uint64_t>("workspace size");
  field("number of sections", in.get<uint32_t>("number of sections"), kSections, 4);
  field("size of a section entry", in.get<uint32_t>("size of a section entry"), kEntryBytes, 4);
  field("version of the instruction set", in.get<uint32_t>("version of the instruction set"), isa::kVersion, 4);
  field("reserved word", in.get<uint32_t>("reserved word"), 0, 4);
  field("reserved word", in.get<uint32_t>("reserved word"), 0, 4);
  const uint32_t crc = in.get<uint32_t>("checksum");
  const uint64_t head_bytes = kHeaderBytes + kSections * kEntryBytes;
  if (bytes.size() < head_bytes)
    in.fail(bytes.size(), "ends inside the section table, expected " + std::to_string(head_bytes) + " bytes");
  std::vector<std::byte> head(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(head_bytes));
  std::memset(head.data() + kCrcAt, 0, sizeof crc);
  const uint32_t sum = crc32(head);
  in.expect(crc == sum, 4, "checksum of header and section table is " + hex(crc) + ", expected " + hex(sum));

  std::array<std::span<const std::byte>, kSections> sections;
  std::array<uint64_t, kSections> bases{};
  uint64_t end = head_bytes;
  for (uint32_t i = 0; i < kSections; ++i) {
    const std::string name = kKindNames[kImage + i];
    field((name + " section's kind").c_str(), in.get<uint32_t>("section kind"), kImage + i, 4);
    field("reserved word", in.get<uint32_t>("reserved word"), 0, 4);
    const uint64_t offset = in.get<uint64_t>("section offset");
    field((name + " section's offset").c_str(), offset, align_up(end), 8);
    const uint64_t size = in.get<uint64_t>("section size");
    in.expect(offset <= bytes.size() && size <= bytes.size() - offset, 8,
              name + " section's size is " + hex(size) + ", expected at most " +
                  hex(offset <= bytes.size() ? bytes.size() - offset : 0));
    sections[i] = bytes.subspan(offset, size);
    bases[i] = offset;
    field((name + " section's checksum").c_str(), in.get<uint32_t>("section checksum"), crc32(sections[i]), 4);
    field("reserved word", in.get<uint32_t>("reserved word"), 0, 4);
    for (uint64_t at = end; at < offset; ++at) {
      if (bytes[at] != std::byte{0})
        in.fail(at, "byte between sections is " + hex(std::to_integer<uint64_t>(bytes[at])) + ", expected 0");
    }
    end = offset + size;
  }
  if (end != bytes.size()) in.fail(end, "expected the end of the file");

  program.image.assign(sections[0].begin(), sections[0].end());
  Reader names(file, sections[1], bases[1]);
  program.name = names.text("program name");
  program.precision = names.text("precision");
  names.end();
  read_bindings(Reader(file, sections[2], bases[2]), program);
  read_debug(Reader(file, sections[3], bases[3]), program);
  try {
    validate(program);
  } catch (const InputError &error) {
    throw InputError(file + ": " + error.what());
  }
  return program;
}

bool multiplies_8_bit(const Program &program) {
  return program.precision == "int8" || program.precision.rfind("fp8_", 0) == 0;
}

std::string timing_dependence(const Program &program) {
  constexpr auto kEngine = static_cast<uint32_t>(isa::Engine::SCA);
  for (const ImageInfo::Stream &stream : parse_image(program.image).streams) {
    if (stream.engine != kEngine) continue;
    for (uint32_t i = 0; i < stream.count; ++i) {
      isa::Inst inst{};
      std::memcpy(inst.data(), program.image.data() + stream.offset + uint64_t{i} * inst.size(), inst.size());
      if (isa::opcode_of(inst) != isa::Opcode::SP_MUL) continue;
      std::string node;
      for (const DebugEntry &entry : program.debug) {
        if (entry.engine == kEngine && i >= entry.first && i - entry.first < entry.count) node = entry.node;
      }
      return "SP_MUL #" + std::to_string(i) + (node.empty() ? "" : " of node " + node) +
             " takes as long as the places of its non-zeros say";
    }
  }
  return "";
}

std::string disassemble(const Program &program) {
  const ImageInfo image = parse_image(program.image);
  std::string out = "; program " + program.name + " " + program.precision + " arch " + hex(program.arch_hash) +
                    " image " + std::to_string(image.image_bytes) + " workspace " +
                    std::to_string(program.workspace_bytes) + "\n";
  for (const auto *list : {&program.inputs, &program.outputs}) {
    for (const Binding &binding : *list) {
      out += std::string(list == &program.inputs ? "; input " : "; output ") + binding.name + " " + binding.type + " " +
             shape_text(binding.shape) + " segment " + std::to_string(binding.segment) + "\n";
    }
  }
  for (const ImageInfo::Stream &stream : image.streams) {
    out += "\n.stream " + std::string(isa::to_string(static_cast<isa::Engine>(stream.engine))) + " ; " +
           std::to_string(stream.count) + " instructions\n";
    // Entries may come in any order and nest: a later one wins.
    std::vector<const std::string *> nodes(stream.count, nullptr);
    for (const DebugEntry &entry : program.debug) {
      if (entry.engine != stream.engine) continue;
      for (uint64_t i = entry.first; i < uint64_t{entry.first} + entry.count && i < stream.count; ++i)
        nodes[i] = &entry.node;
    }
    for (uint32_t i = 0; i < stream.count; ++i) {
      isa::Inst instruction;
      std::memcpy(instruction.data(), program.image.data() + stream.offset + uint64_t{i} * instruction.size(),
                  instruction.size());
      std::string number = std::to_string(i);
      out +=
          std::string(number.size() < 6 ? 6 - number.size() : 0, ' ') + number + "  " + isa::disassemble(instruction);
      if (nodes[i]) out += "  ; " + *nodes[i];
      out += "\n";
    }
  }
  return out;
}

}  // namespace cx

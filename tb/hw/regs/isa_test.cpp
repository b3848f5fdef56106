// Instructions against isa.yaml: round trips, and one negative for every field limit, reserved byte and engine.
#include "hw/regs/gen/isa.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "tb/hw/regs/description.hpp"

using namespace cx;
using isa::Inst;

namespace {

struct Kind {
  std::string name;
  uint8_t opcode;
  std::vector<unsigned> engines;
  std::vector<tb::WireField> fields;
};

std::vector<Kind> read_kinds() {
  const auto description = YAML::LoadFile("hw/isa/isa.yaml");
  std::vector<Kind> out;
  for (const YAML::Node &node : description["instructions"]) {
    Kind kind;
    kind.name = node["name"].as<std::string>();
    kind.opcode = static_cast<uint8_t>(tb::number(node["opcode"]));
    unsigned id = 0;
    for (const YAML::Node &engine : description["engines"]) {
      bool runs = node["engines"].IsScalar();
      for (const YAML::Node &name : node["engines"])
        runs = runs || name.as<std::string>() == engine["name"].as<std::string>();
      if (runs) kind.engines.push_back(id);
      ++id;
    }
    kind.fields = tb::wire_fields(node["fields"], description["enums"]);
    out.push_back(kind);
  }
  return out;
}

const std::vector<Kind> &kinds() {
  static const std::vector<Kind> all = read_kinds();
  return all;
}

Inst valid(const Kind &kind) {
  Inst inst{};
  inst[0] = kind.opcode;
  for (const auto &field : kind.fields) {
    for (unsigned i = 0; i < field.count; ++i) tb::poke(inst, field, i, field.min);
  }
  return inst;
}

isa::Engine engine_of(const Kind &kind) { return static_cast<isa::Engine>(kind.engines.front()); }

std::optional<isa::Problem> problem_of(const Kind &kind, const Inst &inst) {
  return isa::validate(inst, engine_of(kind));
}

void expect_problem(const Kind &kind, const Inst &inst, unsigned offset, const std::string &what) {
  INFO(kind.name << ": " << what);
  const auto problem = problem_of(kind, inst);
  REQUIRE(problem.has_value());
  CHECK(problem->offset == offset);
  CHECK(!problem->text.empty());
}

// decode() and encode() of the type with this opcode.
template <class... Types>
struct List {};
using All = List<isa::Nop, isa::SemWait, isa::SemPost, isa::End, isa::Tdesc, isa::Mdesc, isa::DmaLoad, isa::DmaStore,
                 isa::MmLdw, isa::MmMul, isa::MmDrain, isa::MmMulOs, isa::VUnary, isa::VBinary, isa::VReduce,
                 isa::VWindow, isa::VSoftmax, isa::DmaGather, isa::VSelect, isa::VGather, isa::VScatter, isa::VScan,
                 isa::VArg, isa::VTopk, isa::SpLda, isa::SpMul, isa::SpDrain>;

template <class... Types>
unsigned reencode(List<Types...>, const Inst &inst, Inst &out) {
  unsigned matches = 0;
  ((static_cast<uint8_t>(Types::kOpcode) == inst[0] ? (out = Types::decode(inst).encode(), ++matches) : matches), ...);
  return matches;
}

template <class... Types>
constexpr size_t size_of(List<Types...>) {
  return sizeof...(Types);
}

}  // namespace

TEST_CASE("every instruction is known to the generated code") {
  const auto &all = kinds();
  CHECK(all.size() == isa::kInstructions.size());
  CHECK(all.size() == size_of(All{}));
  for (const Kind &kind : all) {
    CHECK(isa::to_string(static_cast<isa::Opcode>(kind.opcode)) == kind.name);
    CHECK(!problem_of(kind, valid(kind)));
  }
}

TEST_CASE("decode and encode keep every field and nothing else") {
  std::mt19937_64 random(3);
  for (const Kind &kind : kinds()) {
    for (int round = 0; round < 200; ++round) {
      Inst noise;
      for (auto &byte : noise) byte = static_cast<uint8_t>(random());
      noise[0] = kind.opcode;
      Inst out{};
      REQUIRE(reencode(All{}, noise, out) == 1);
      for (unsigned bit = 8; bit < 256; ++bit) {
        bool covered = false;
        for (const auto &field : kind.fields) covered = covered || tb::covers(field, bit);
        const bool expected = covered && (noise[bit / 8] >> bit % 8 & 1);
        if ((out[bit / 8] >> bit % 8 & 1) != expected) FAIL(kind.name << " bit " << bit);
      }
    }
  }
}

TEST_CASE("every reserved byte is refused") {
  for (const Kind &kind : kinds()) {
    for (unsigned byte = 1; byte < 32; ++byte) {
      bool covered = false;
      for (const auto &field : kind.fields) covered = covered || tb::covers(field, 8 * byte);
      if (covered) continue;
      for (unsigned bit = 0; bit < 8; ++bit) {
        Inst inst = valid(kind);
        inst[byte] = static_cast<uint8_t>(1u << bit);
        expect_problem(kind, inst, byte, "reserved byte " + std::to_string(byte));
      }
    }
  }
}

TEST_CASE("every limit of every instruction field is kept") {
  for (const Kind &kind : kinds()) {
    for (const auto &field : kind.fields) {
      if (field.is_float || field.is_signed) continue;
      for (unsigned i = 0; i < field.count; ++i) {
        const unsigned at = field.at + i * field.width / 8;
        Inst inst = valid(kind);
        if (field.min > 0) {
          tb::poke(inst, field, i, field.min - 1);
          expect_problem(kind, inst, at, field.name + " below its range");
        }
        if (field.bounded) {
          tb::poke(inst, field, i, field.max + 1);
          expect_problem(kind, inst, at, field.name + " above its range");
          tb::poke(inst, field, i, field.max);
          CHECK(!problem_of(kind, inst));
        }
        if (field.none >= 0) {
          tb::poke(inst, field, i, static_cast<uint64_t>(field.none));
          CHECK(!problem_of(kind, inst));
          tb::poke(inst, field, i, static_cast<uint64_t>(field.none - 1));
          expect_problem(kind, inst, at, field.name + " next to none");
        }
      }
    }
  }
}

TEST_CASE("an instruction runs on its engines only; unknown opcodes run nowhere") {
  std::vector<bool> known(256);
  for (const Kind &kind : kinds()) {
    known[kind.opcode] = true;
    for (unsigned engine = 0; engine < isa::kEngineCount; ++engine) {
      const bool runs = std::find(kind.engines.begin(), kind.engines.end(), engine) != kind.engines.end();
      CHECK(isa::validate(valid(kind), static_cast<isa::Engine>(engine)).has_value() != runs);
    }
  }
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    if (known[opcode]) continue;
    Inst inst{};
    inst[0] = static_cast<uint8_t>(opcode);
    CHECK(isa::validate(inst, isa::Engine::VPU).has_value());
    CHECK(isa::disassemble(inst).find(".bytes") == 0);
  }
}

TEST_CASE("disassembly names the instruction and every field") {
  for (const Kind &kind : kinds()) {
    const std::string text = isa::disassemble(valid(kind));
    CHECK(text.find(kind.name) == 0);
    for (const auto &field : kind.fields) CHECK(text.find(" " + field.name + "=") != std::string::npos);
  }
  isa::Tdesc desc;
  desc.index = 3;
  desc.dtype = isa::DType::BF16;
  desc.base = 0x20000;
  desc.dims = {1, 2, 3, 4};
  desc.strides = {0, -64, 8, 2};
  CHECK(isa::disassemble(desc.encode()) == "TDESC index=3 dtype=BF16 base=0x20000 dims=[1,2,3,4] strides=[0,-64,8,2]");
  CHECK(isa::Tdesc::decode(desc.encode()) == desc);
}

TEST_CASE("element sizes") {
  const auto description = YAML::LoadFile("hw/isa/isa.yaml");
  for (const auto &entry : description["enums"]["dtype"]) {
    const auto type = static_cast<isa::DType>(tb::number(entry.second["value"]));
    CHECK(isa::to_string(type) == entry.first.as<std::string>());
    CHECK(isa::bytes_of(type) == tb::number(entry.second["bytes"]));
  }
  CHECK(isa::bytes_of(static_cast<isa::DType>(200)) == 0);
}

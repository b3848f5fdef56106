#include "tb/driver/compiler/program_sim.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "hw/common/num/formats.hpp"
#include "hw/common/sparse/sparse.hpp"

namespace cx::tb {

namespace {

num::DType number(isa::DType dtype) { return static_cast<num::DType>(dtype); }

int64_t size_of(isa::DType dtype) { return static_cast<int64_t>(isa::bytes_of(dtype)); }

float apply_unary(isa::Unary func, float x, float a, float b) {
  using U = isa::Unary;
  const auto sigmoid = [](float v) { return 1.0F / (1.0F + std::exp(-v)); };
  switch (func) {
    case U::COPY:
      return x;
    case U::NEG:
      return -x;
    case U::ABS:
      return std::fabs(x);
    case U::RELU:
      return x > 0 || std::isnan(x) ? x : 0;
    case U::LEAKY_RELU:
      return x < 0 ? a * x : x;
    case U::CLAMP:
      return std::isnan(x) ? x : std::min(std::max(x, a), b);
    case U::AFFINE:
      return x * a + b;
    case U::EXP:
      return std::exp(x);
    case U::LOG:
      return std::log(x);
    case U::SQRT:
      return std::sqrt(x);
    case U::RECIP:
      return 1 / x;
    case U::SIGMOID:
      return sigmoid(x);
    case U::TANH:
      return std::tanh(x);
    case U::ERF:
      return std::erf(x);
    case U::HARD_SIGMOID:
      return std::max(0.0F, std::min(1.0F, a * x + b));
    case U::FLOOR:
      return std::floor(x);
    case U::CEIL:
      return std::ceil(x);
    case U::ROUND:
      return std::nearbyint(x);
    case U::SIGN:
      return static_cast<float>((x > 0) - (x < 0));
    case U::HARD_SWISH:
      return x * std::min(std::max(x + 3, 0.0F), 6.0F) / 6;
    case U::SILU:
      return x * sigmoid(x);
    case U::GELU:
      return 0.5F * x * (1 + std::erf(x / std::sqrt(2.0F)));
    case U::SOFTPLUS:
      return std::max(x, 0.0F) + std::log1p(std::exp(-std::fabs(x)));
    case U::SIN:
      return std::sin(x);
    case U::COS:
      return std::cos(x);
    case U::TRUNC:
      return std::trunc(x);
    case U::ATAN:
      return std::atan(x);
    case U::IS_NAN:
      return std::isnan(x) ? 1 : 0;
    case U::IS_INF:
      return std::isinf(x) && (a == 0 || (a > 0) == (x > 0)) ? 1 : 0;
    case U::NOT:
      break;  // integers only
  }
  return std::numeric_limits<float>::quiet_NaN();
}

float apply_binary(isa::Binary func, float a, float b) {
  using B = isa::Binary;
  switch (func) {
    case B::ADD:
      return a + b;
    case B::SUB:
      return a - b;
    case B::MUL:
      return a * b;
    case B::DIV:
      return a / b;
    case B::MAX:
      return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
    case B::MIN:
      return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b);
    case B::POW:
      return std::pow(a, b);
    case B::PRELU:
      return a < 0 ? a * b : a;
    case B::EQ:
      return a == b ? 1 : 0;
    case B::LT:
      return a < b ? 1 : 0;
    case B::LE:
      return a <= b ? 1 : 0;
    case B::NE:
      return a == b ? 0 : 1;
    case B::MOD: {
      const float rest = std::fmod(a, b);
      return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
    case B::FMOD:
      return std::fmod(a, b);
    case B::AND:
    case B::OR:
    case B::XOR:
    case B::SHL:
    case B::SHR:
      break;  // integers only
  }
  return std::numeric_limits<float>::quiet_NaN();
}

bool is_integer(isa::DType dtype) {
  return dtype != isa::DType::FP64 && static_cast<unsigned>(dtype) >= static_cast<unsigned>(isa::DType::INT8);
}

bool is_unsigned(isa::DType dtype) {
  return dtype == isa::DType::UINT8 || dtype == isa::DType::UINT16 || dtype == isa::DType::UINT32 ||
         dtype == isa::DType::UINT64;
}

int64_t wrap(uint64_t value) { return static_cast<int64_t>(value); }

int64_t integer_power(int64_t base, int64_t exponent, bool is_unsigned64) {
  if (!is_unsigned64 && exponent < 0) {
    if (base == 1) return 1;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    return 0;
  }
  uint64_t result = 1;
  uint64_t factor = static_cast<uint64_t>(base);
  for (uint64_t left = static_cast<uint64_t>(exponent); left != 0; left >>= 1U) {
    if ((left & 1U) != 0) result *= factor;
    factor *= factor;
  }
  return wrap(result);
}

int integer_order(int64_t a, int64_t b, isa::DType dtype) {
  if (a == b) return 0;
  if (dtype == isa::DType::UINT64) return static_cast<uint64_t>(a) < static_cast<uint64_t>(b) ? -1 : 1;
  return a < b ? -1 : 1;
}

int64_t divide(int64_t a, int64_t b, isa::DType dtype, bool rest) {
  if (b == 0) return rest ? a : -1;
  if (dtype == isa::DType::UINT64) {
    const auto x = static_cast<uint64_t>(a);
    const auto y = static_cast<uint64_t>(b);
    return wrap(rest ? x % y : x / y);
  }
  if (b == -1) return rest ? 0 : wrap(0 - static_cast<uint64_t>(a));
  return rest ? a % b : a / b;
}

int64_t shift(int64_t a, int64_t b, isa::DType dtype, bool left) {
  const int64_t width = 8 * size_of(dtype);
  const bool beyond = b < 0 || b >= width;
  if (left) return beyond ? 0 : wrap(static_cast<uint64_t>(a) << b);
  if (is_unsigned(dtype)) return beyond ? 0 : wrap(static_cast<uint64_t>(a) >> b);
  return a >> (beyond ? 63 : b);
}

/// dtype: of the operands, which are extended by their own sign.
int64_t apply_binary(isa::Binary func, int64_t a, int64_t b, isa::DType dtype) {
  using B = isa::Binary;
  const int order = integer_order(a, b, dtype);
  switch (func) {
    case B::ADD:
      return wrap(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
    case B::SUB:
      return wrap(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
    case B::MUL:
      return wrap(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    case B::DIV:
      return divide(a, b, dtype, false);
    case B::MAX:
      return order < 0 ? b : a;
    case B::MIN:
      return order < 0 ? a : b;
    case B::POW:
      return integer_power(a, b, dtype == isa::DType::UINT64);
    case B::EQ:
      return order == 0 ? 1 : 0;
    case B::NE:
      return order != 0 ? 1 : 0;
    case B::LT:
      return order < 0 ? 1 : 0;
    case B::LE:
      return order <= 0 ? 1 : 0;
    case B::AND:
      return a & b;
    case B::OR:
      return a | b;
    case B::XOR:
      return a ^ b;
    case B::SHL:
      return shift(a, b, dtype, true);
    case B::SHR:
      return shift(a, b, dtype, false);
    case B::FMOD:
      return divide(a, b, dtype, true);
    case B::MOD: {
      const int64_t rest = divide(a, b, dtype, true);
      if (b == 0 || rest == 0 || dtype == isa::DType::UINT64) return rest;
      return (rest < 0) != (b < 0) ? rest + b : rest;
    }
    case B::PRELU:
      break;
  }
  throw SimulationError("no such function of integers");
}

bool has_integers(isa::Unary func) {
  using U = isa::Unary;
  return func == U::COPY || func == U::NEG || func == U::ABS || func == U::RELU || func == U::CLAMP ||
         func == U::SIGN || func == U::NOT;
}

int64_t apply_unary(isa::Unary func, int64_t x, float low, float high, isa::DType dtype) {
  using U = isa::Unary;
  const bool negative = x < 0 && dtype != isa::DType::UINT64;
  switch (func) {
    case U::COPY:
      return x;
    case U::NEG:
      return wrap(0 - static_cast<uint64_t>(x));
    case U::ABS:
      return negative ? wrap(0 - static_cast<uint64_t>(x)) : x;
    case U::RELU:
      return negative ? 0 : x;
    case U::SIGN:
      return negative ? -1 : (x != 0 ? 1 : 0);
    case U::NOT:
      return ~x;
    default: {  // CLAMP
      const auto lo = static_cast<int64_t>(low);
      const auto hi = static_cast<int64_t>(high);
      if (integer_order(x, lo, dtype) < 0) x = lo;
      return integer_order(x, hi, dtype) > 0 ? hi : x;
    }
  }
}

float start_of(isa::Reduce func) {
  if (func == isa::Reduce::MAX) return -INFINITY;
  if (func == isa::Reduce::MIN) return INFINITY;
  return func == isa::Reduce::PROD ? 1.0F : 0.0F;
}

float reduce_step(isa::Reduce func, float sum, float x) {
  switch (func) {
    case isa::Reduce::SUM:
      return sum + x;
    case isa::Reduce::MAX:
      return std::max(sum, x);
    case isa::Reduce::MIN:
      return std::min(sum, x);
    case isa::Reduce::PROD:
      return sum * x;
    case isa::Reduce::SUMSQ:
      return sum + x * x;
    case isa::Reduce::ABSSUM:
      return sum + std::fabs(x);
  }
  return NAN;
}

}  // namespace

ProgramSim::Pages::Pages(std::size_t bytes) : bytes_(bytes) {
  void *pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte *>(pages);
}

ProgramSim::Pages::~Pages() { munmap(data_, bytes_); }

ProgramSim::ProgramSim(const Program &program, const Target &target)
    : target_(target),
      program_(program),
      semaphores_(target.semaphores, 0),
      spm_bytes_(target.spm_bytes),
      spm_written_(target.spm_bytes) {
  const ImageInfo info = parse_image(program.image);
  if (info.arch_hash != target.arch_hash) throw SimulationError("another architecture");
  for (const ImageInfo::Stream &entry : info.streams) {
    Stream &stream = streams_.at(entry.engine);
    stream.instructions.resize(entry.count);
    std::memcpy(stream.instructions.data(), program.image.data() + entry.offset, entry.count * sizeof(isa::Inst));
  }
  segments_.resize(std::max<std::size_t>(info.segment_count, 2));
  segments_[0].bytes = program.image;
  segments_[0].written.assign(program.image.size(), 1);
  segments_[1].bytes.resize(program.workspace_bytes);
  segments_[1].written.assign(program.workspace_bytes, 0);
  for (const auto *bindings : {&program.inputs, &program.outputs}) {
    for (const Binding &binding : *bindings) {
      Memory &memory = segments_.at(binding.segment);
      memory.bytes.resize(binding.bytes);
      memory.written.assign(binding.bytes, 0);
      memory.read_only = bindings == &program.inputs;
    }
  }
  if (program.constants) {
    Memory &memory = segments_.at(program.constants_segment);
    const auto bytes = program.constants->bytes().first(program.constants_bytes);
    memory.bytes.assign(bytes.begin(), bytes.end());
    memory.written.assign(bytes.size(), 1);
    memory.read_only = true;
  }
  accumulators_.resize(static_cast<std::size_t>(target.tiles) * target.tile_acc_rows * target.tile_cols);
  sparse_accumulators_.resize(std::size_t{target.sca_tiles} * target.sca_acc_rows * target.sca_cols * target.sca_rows);
}

void ProgramSim::set_input(std::size_t index, const std::vector<std::byte> &bytes) {
  Memory &memory = segments_.at(program_.inputs.at(index).segment);
  if (bytes.size() != memory.bytes.size()) throw SimulationError("input of the wrong size");
  memory.bytes = bytes;
  memory.written.assign(bytes.size(), 1);
}

std::vector<std::byte> ProgramSim::output(std::size_t index) const {
  const Memory &memory = segments_.at(program_.outputs.at(index).segment);
  if (std::find(memory.written.begin(), memory.written.end(), uint8_t{0}) != memory.written.end()) {
    throw SimulationError("output " + program_.outputs[index].name + " was not written completely");
  }
  return memory.bytes;
}

void ProgramSim::fail(const std::string &what) const {
  const std::size_t pc = streams_[static_cast<std::size_t>(current_)].pc;
  std::string node;
  for (const DebugEntry &entry : program_.debug) {
    if (entry.engine == static_cast<uint32_t>(current_) && pc >= entry.first && pc < entry.first + entry.count)
      node = entry.node;
  }
  const Stream &stream = streams_[static_cast<std::size_t>(current_)];
  throw SimulationError("engine " + std::to_string(current_) + " instruction " + std::to_string(pc) + " (" + node +
                        ") " + (pc < stream.instructions.size() ? isa::disassemble(stream.instructions[pc]) : "") +
                        ": " + what);
}

void ProgramSim::run(const std::array<int, 5> &order, int burst) {
  for (Stream &stream : streams_) stream.done = stream.instructions.empty();
  for (;;) {
    bool moved = false;
    bool all_done = true;
    for (int engine : order) {
      current_ = engine;
      if (streams_[static_cast<std::size_t>(engine)].done) continue;
      all_done = false;
      int count = 0;
      while (count < burst && step(engine)) ++count;
      if (count > 0) {
        moved = true;
        break;
      }
    }
    if (all_done) return;
    if (!moved) {
      std::string where;
      for (std::size_t e = 0; e < streams_.size(); ++e) {
        if (!streams_[e].done) where += " engine " + std::to_string(e) + " at " + std::to_string(streams_[e].pc);
      }
      throw SimulationError("deadlock:" + where);
    }
  }
}

bool ProgramSim::step(int engine) {
  current_ = engine;
  Stream &stream = streams_[static_cast<std::size_t>(engine)];
  if (stream.done) return false;
  if (stream.pc >= stream.instructions.size()) fail("no END");
  const isa::Inst &inst = stream.instructions[stream.pc];
  if (const auto problem = isa::validate(inst, static_cast<isa::Engine>(engine))) fail(problem->text);
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::SEM_WAIT: {
      const auto in = isa::SemWait::decode(inst);
      if (in.sem >= semaphores_.size()) fail("no such semaphore");
      if (semaphores_[in.sem] < in.count) return false;
      semaphores_[in.sem] -= in.count;
      break;
    }
    case isa::Opcode::SEM_POST: {
      const auto in = isa::SemPost::decode(inst);
      if (in.sem >= semaphores_.size()) fail("no such semaphore");
      semaphores_[in.sem] += in.count;
      if (semaphores_[in.sem] > 65535) fail("semaphore overflow");
      break;
    }
    case isa::Opcode::END:
      stream.done = true;
      if (stream.pc + 1 != stream.instructions.size()) fail("END is not the last instruction");
      break;
    default:
      execute(engine, inst);
  }
  ++stream.pc;
  ++executed_;
  return true;
}

void ProgramSim::execute(int engine, const isa::Inst &inst) {
  Stream &stream = streams_[static_cast<std::size_t>(engine)];
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::TDESC: {
      const auto in = isa::Tdesc::decode(inst);
      stream.tensors.at(in.index) = in;
      return;
    }
    case isa::Opcode::MDESC: {
      const auto in = isa::Mdesc::decode(inst);
      stream.memories.at(in.index) = in;
      return;
    }
    case isa::Opcode::DMA_LOAD:
      return dma_load(isa::DmaLoad::decode(inst));
    case isa::Opcode::DMA_STORE:
      return dma_store(isa::DmaStore::decode(inst));
    case isa::Opcode::MM_LDW:
      return load_weights(isa::MmLdw::decode(inst));
    case isa::Opcode::MM_MUL:
      return multiply(isa::MmMul::decode(inst));
    case isa::Opcode::MM_MUL_OS:
      return multiply_output_stationary(isa::MmMulOs::decode(inst));
    case isa::Opcode::MM_DRAIN:
      return drain(isa::MmDrain::decode(inst));
    case isa::Opcode::SP_LDA:
      return load_activations(isa::SpLda::decode(inst));
    case isa::Opcode::SP_MUL:
      return multiply_sparse(isa::SpMul::decode(inst));
    case isa::Opcode::SP_DRAIN:
      return drain_sparse(isa::SpDrain::decode(inst));
    case isa::Opcode::V_UNARY:
      return unary(isa::VUnary::decode(inst));
    case isa::Opcode::V_BINARY:
      return binary(isa::VBinary::decode(inst));
    case isa::Opcode::V_REDUCE:
      return reduce(isa::VReduce::decode(inst));
    case isa::Opcode::V_WINDOW:
      return window(isa::VWindow::decode(inst));
    case isa::Opcode::V_SOFTMAX:
      return softmax(isa::VSoftmax::decode(inst));
    case isa::Opcode::DMA_GATHER:
      return dma_gather(isa::DmaGather::decode(inst));
    case isa::Opcode::V_SELECT:
      return select(isa::VSelect::decode(inst));
    case isa::Opcode::V_GATHER:
      return gather(isa::VGather::decode(inst));
    case isa::Opcode::V_SCATTER:
      return scatter(isa::VScatter::decode(inst));
    case isa::Opcode::V_SCAN:
      return scan(isa::VScan::decode(inst));
    case isa::Opcode::V_ARG:
      return arg(isa::VArg::decode(inst));
    case isa::Opcode::V_TOPK:
      return top(isa::VTopk::decode(inst));
    default:
      fail("unexpected instruction");
  }
}

const isa::Tdesc &ProgramSim::tensor(unsigned index) const {
  const auto &view = streams_[static_cast<std::size_t>(current_)].tensors.at(index);
  if (!view) fail("scratchpad descriptor " + std::to_string(index) + " is not defined");
  return *view;
}

const isa::Mdesc &ProgramSim::memory(unsigned index) const {
  const auto &view = streams_[static_cast<std::size_t>(current_)].memories.at(index);
  if (!view) fail("memory descriptor " + std::to_string(index) + " is not defined");
  return *view;
}

int64_t ProgramSim::place(const isa::Tdesc &view, const Index &at) {
  int64_t result = view.base;
  for (std::size_t d = 0; d < 4; ++d) result += at[d] * view.strides[d];
  return result;
}

int64_t ProgramSim::place(const isa::Mdesc &view, const Index &at) {
  int64_t result = static_cast<int64_t>(view.offset);
  for (std::size_t d = 0; d < 4; ++d) result += at[d] * view.strides[d];
  return result;
}

template <typename F>
void ProgramSim::for_each(const isa::Tdesc &view, F f) {
  Index at{};
  for (at[0] = 0; at[0] < view.dims[0]; ++at[0]) {
    for (at[1] = 0; at[1] < view.dims[1]; ++at[1]) {
      for (at[2] = 0; at[2] < view.dims[2]; ++at[2]) {
        for (at[3] = 0; at[3] < view.dims[3]; ++at[3]) f(at);
      }
    }
  }
}

std::byte *ProgramSim::spm(int64_t at, int64_t bytes, bool write) {
  if (at < 0 || at + bytes > static_cast<int64_t>(target_.spm_bytes)) fail("scratchpad offset " + std::to_string(at));
  auto *written = reinterpret_cast<uint8_t *>(spm_written_.data()) + at;
  if (write) {
    std::fill_n(written, bytes, uint8_t{1});
  } else if (std::find(written, written + bytes, uint8_t{0}) != written + bytes) {
    fail("reads scratchpad bytes from " + std::to_string(at) + " that nothing has written");
  }
  return spm_bytes_.data() + at;
}

std::byte *ProgramSim::segment(unsigned number, int64_t at, int64_t bytes, bool write) {
  if (number >= segments_.size()) fail("no segment " + std::to_string(number));
  Memory &memory = segments_[number];
  if (at < 0 || at + bytes > static_cast<int64_t>(memory.bytes.size())) {
    fail("offset " + std::to_string(at) + " of segment " + std::to_string(number));
  }
  uint8_t *written = memory.written.data() + at;
  if (write) {
    if (number == 0 || memory.read_only) fail("writes a read-only segment");
    std::fill_n(written, bytes, uint8_t{1});
  } else if (std::find(written, written + bytes, uint8_t{0}) != written + bytes) {
    fail("reads bytes from " + std::to_string(at) + " of segment " + std::to_string(number) +
         " that nothing has written");
  }
  return memory.bytes.data() + at;
}

float ProgramSim::get(const isa::Tdesc &view, const Index &at) {
  if (is_integer(view.dtype)) {
    const int64_t value = get_integer(view, at);
    return view.dtype == isa::DType::UINT64 ? static_cast<float>(static_cast<uint64_t>(value))
                                            : static_cast<float>(value);
  }
  const std::byte *bytes = spm(place(view, at), size_of(view.dtype), false);
  if (view.dtype == isa::DType::FP64) {
    double value = 0;
    std::memcpy(&value, bytes, sizeof value);
    return static_cast<float>(value);
  }
  return num::decode(number(view.dtype), bytes);
}

int64_t ProgramSim::get_integer(const isa::Tdesc &view, const Index &at) {
  const int64_t size = size_of(view.dtype);
  uint64_t bits = 0;
  std::memcpy(&bits, spm(place(view, at), size, false), static_cast<std::size_t>(size));
  const auto unused = static_cast<unsigned>(64 - 8 * size);
  if (is_unsigned(view.dtype)) return wrap(bits);
  return wrap(bits << unused) >> unused;
}

void ProgramSim::put_integer(const isa::Tdesc &view, const Index &at, int64_t value) {
  const int64_t size = size_of(view.dtype);
  std::memcpy(spm(place(view, at), size, true), &value, static_cast<std::size_t>(size));
}

int ProgramSim::compare(const isa::Tdesc &view, const Index &a, const Index &b) {
  if (is_integer(view.dtype)) return integer_order(get_integer(view, a), get_integer(view, b), view.dtype);
  const float x = get(view, a);
  const float y = get(view, b);
  return x < y ? -1 : (x > y ? 1 : 0);
}

int64_t ProgramSim::index_at(const isa::Tdesc &idx, const Index &at, int64_t limit) {
  if (idx.dtype != isa::DType::INT32 && idx.dtype != isa::DType::INT64) fail("indices of another type");
  const int64_t index = get_integer(idx, at);
  if (index < -limit || index >= limit) fail("index " + std::to_string(index) + " of " + std::to_string(limit));
  return index < 0 ? index + limit : index;
}

void ProgramSim::put(const isa::Tdesc &view, const Index &at, float value) {
  if (view.dtype == isa::DType::FP16 && std::isfinite(value)) largest_half_ = std::max(largest_half_, std::fabs(value));
  if (is_integer(view.dtype)) {
    // Rounded to nearest even, saturated; NaN is 0.
    const int64_t bits = 8 * size_of(view.dtype);
    const float low = is_unsigned(view.dtype) ? 0.0F : -std::ldexp(1.0F, static_cast<int>(bits) - 1);
    const float beyond = std::ldexp(1.0F, static_cast<int>(is_unsigned(view.dtype) ? bits : bits - 1));
    const float whole = std::nearbyint(value);
    int64_t stored = 0;
    if (whole >= beyond) {
      stored = is_unsigned(view.dtype) ? -1 : wrap((uint64_t{1} << (bits - 1)) - 1);
    } else if (whole >= 9223372036854775808.0F) {
      stored = wrap(static_cast<uint64_t>(whole));
    } else if (!std::isnan(whole)) {
      stored = static_cast<int64_t>(std::max(whole, low));
    }
    put_integer(view, at, stored);
    return;
  }
  std::byte *bytes = spm(place(view, at), size_of(view.dtype), true);
  if (view.dtype == isa::DType::FP64) {
    const double wide = value;
    std::memcpy(bytes, &wide, sizeof wide);
    return;
  }
  num::encode(number(view.dtype), value, bytes);
}

float ProgramSim::activate(isa::Activation act, float lo, float hi, float value) {
  if (act == isa::Activation::RELU) return value > 0 || std::isnan(value) ? value : 0;
  if (act == isa::Activation::CLAMP) return std::isnan(value) ? value : std::min(std::max(value, lo), hi);
  return value;
}

void ProgramSim::dma_load(const isa::DmaLoad &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Mdesc &src = memory(inst.src);
  const int64_t size = size_of(dst.dtype);
  for_each(dst, [&](const Index &at) {
    std::byte *to = spm(place(dst, at), size, true);
    const bool pad = at[1] < inst.pad_top || at[1] >= dst.dims[1] - inst.pad_bottom || at[2] < inst.pad_left ||
                     at[2] >= dst.dims[2] - inst.pad_right;
    if (pad) {
      const uint64_t fill = inst.fill;
      std::memcpy(to, &fill, static_cast<std::size_t>(size));
      return;
    }
    const Index from{at[0], at[1] - inst.pad_top, at[2] - inst.pad_left, at[3]};
    std::memcpy(to, segment(src.segment, place(src, from), size, false), static_cast<std::size_t>(size));
  });
}

void ProgramSim::dma_gather(const isa::DmaGather &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &idx = tensor(inst.idx);
  const isa::Mdesc &src = memory(inst.src);
  const int64_t size = size_of(dst.dtype);
  for_each(dst, [&](const Index &at) {
    Index from = at;
    from[inst.axis] = index_at(idx, at, inst.limit);
    std::memcpy(spm(place(dst, at), size, true), segment(src.segment, place(src, from), size, false),
                static_cast<std::size_t>(size));
  });
}

void ProgramSim::dma_store(const isa::DmaStore &inst) {
  const isa::Tdesc &src = tensor(inst.src);
  const isa::Mdesc &dst = memory(inst.dst);
  const int64_t size = size_of(src.dtype);
  for_each(src, [&](const Index &at) {
    std::memcpy(segment(dst.segment, place(dst, at), size, true), spm(place(src, at), size, false),
                static_cast<std::size_t>(size));
  });
}

ProgramSim::Weights ProgramSim::read_weights(const isa::Tdesc &view, unsigned m_split, unsigned n_split) {
  if (view.dims[0] != 1 || view.dims[1] != 1 || view.dims[3] > n_split * target_.tile_cols ||
      m_split * n_split > target_.tiles) {
    fail("weights do not fit the tiles");
  }
  if ((target_.formats >> static_cast<unsigned>(view.dtype) & 1U) == 0) fail("a format that the tiles lack");
  Weights weights{view.dims[2], view.dims[3], m_split, n_split, view.dtype, {}, {}};
  for_each(view, [&](const Index &at) { weights.values.push_back(get(view, at)); });
  return weights;
}

void ProgramSim::load_weights(const isa::MmLdw &inst) {
  const isa::Tdesc &w = tensor(inst.w);
  if (w.dims[2] > target_.tile_rows * (size_of(w.dtype) == 1 ? target_.tile_pack : 1)) fail("K is too long");
  shadow_ = read_weights(w, inst.m_split, inst.n_split);
  if (inst.scale == 0xFF) return;
  for (int64_t n = 0; n < w.dims[3]; ++n) shadow_->scales.push_back(get(tensor(inst.scale), {0, 0, 0, n}));
}

void ProgramSim::multiply(const isa::MmMul &inst) {
  if (shadow_) {
    active_ = shadow_;
    shadow_.reset();
  }
  if (!active_) fail("no weights");
  if (active_->n != inst.n || active_->m_split != inst.m_split || active_->n_split != inst.n_split) {
    fail("operands do not match the weights");
  }
  Pass pass{inst.accumulate, inst.acc_row, std::nullopt};
  if (inst.scale != 0xFF) pass.row_scale = tensor(inst.scale);
  multiply_rows(tensor(inst.a), *active_, pass);
}

void ProgramSim::multiply_output_stationary(const isa::MmMulOs &inst) {
  const isa::Tdesc &a = tensor(inst.a);
  const int64_t m = static_cast<int64_t>(a.dims[0]) * a.dims[1] * a.dims[2];
  if (m > static_cast<int64_t>(inst.m_split) * target_.tile_rows) fail("too many rows for the array");
  multiply_rows(a, read_weights(tensor(inst.w), inst.m_split, inst.n_split),
                {inst.accumulate, inst.acc_row, std::nullopt});
}

/// Down K `pack` products at a time: their sum as a tree, then one addition to the chain.
std::vector<float> ProgramSim::float_chains(const std::vector<float> &row, const Weights &w, int64_t pack) const {
  std::vector<float> sums(static_cast<std::size_t>(w.n), 0.0F);
  for (int64_t n = 0; n < w.n; ++n) {
    float &sum = sums[static_cast<std::size_t>(n)];
    const auto product = [&](int64_t k) {
      return k < w.k ? row[static_cast<std::size_t>(k)] * w.values[static_cast<std::size_t>(k * w.n + n)] : 0.0F;
    };
    for (int64_t k = 0; k < w.k; k += pack) {
      if (pack == 4) {
        sum += (product(k) + product(k + 1)) + (product(k + 2) + product(k + 3));
      } else if (pack == 2) {
        sum += product(k) + product(k + 1);
      } else {
        sum = std::fma(row[static_cast<std::size_t>(k)], w.values[static_cast<std::size_t>(k * w.n + n)], sum);
      }
    }
  }
  return sums;
}

std::vector<int32_t> ProgramSim::integer_chains(const std::vector<float> &row, const Weights &w) {
  std::vector<int32_t> sums;
  for (int64_t n = 0; n < w.n; ++n) {
    uint32_t sum = 0;  // wraps
    for (int64_t k = 0; k < w.k; ++k) {
      const float product = row[static_cast<std::size_t>(k)] * w.values[static_cast<std::size_t>(k * w.n + n)];
      sum += static_cast<uint32_t>(static_cast<int32_t>(product));
    }
    sums.push_back(static_cast<int32_t>(sum));
  }
  return sums;
}

ProgramSim::Accumulator &ProgramSim::accumulator(int64_t row_group, unsigned n_split, int64_t row, int64_t n) {
  if (row >= target_.tile_acc_rows) fail("too many accumulator rows");
  const int64_t tile = row_group * n_split + n / target_.tile_cols;
  return accumulators_.at(
      static_cast<std::size_t>((tile * target_.tile_acc_rows + row) * target_.tile_cols + n % target_.tile_cols));
}

void ProgramSim::multiply_rows(const isa::Tdesc &a, const Weights &w, const Pass &pass) {
  const auto is_fp8 = [](isa::DType type) { return type == isa::DType::FP8_E4M3 || type == isa::DType::FP8_E5M2; };
  if (w.k != a.dims[3] || (w.dtype != a.dtype && !(is_fp8(w.dtype) && is_fp8(a.dtype)))) {
    fail("operands do not match the weights");
  }
  const bool integer = a.dtype == isa::DType::INT8;
  const bool scaled = pass.row_scale || !w.scales.empty();
  const int64_t pack = is_fp8(a.dtype) ? target_.tile_pack : 1;
  const int64_t m = static_cast<int64_t>(a.dims[0]) * a.dims[1] * a.dims[2];
  const int64_t rows = (m + w.m_split - 1) / w.m_split;
  std::vector<float> row(static_cast<std::size_t>(w.k));
  isa::Tdesc heads = a;
  heads.dims[3] = 1;
  int64_t index = 0;
  for_each(heads, [&](const Index &head) {
    Index at = head;
    for (at[3] = 0; at[3] < w.k; ++at[3]) row[static_cast<std::size_t>(at[3])] = get(a, at);
    std::vector<float> sums;
    std::vector<int32_t> integers;
    if (integer) {
      integers = integer_chains(row, w);
      sums.assign(integers.begin(), integers.end());
    } else {
      sums = float_chains(row, w, pack);
    }
    const float row_scale = pass.row_scale ? get(*pass.row_scale, {0, 0, 0, index}) : 1.0F;
    for (int64_t n = 0; n < w.n; ++n) {
      Accumulator &acc = accumulator(index / rows, w.n_split, pass.acc_row + index % rows, n);
      const bool as_integer = integer && !scaled;
      if (pass.accumulate != 0 && (!acc.valid || acc.is_integer != as_integer)) fail("accumulates onto nothing");
      if (pass.accumulate == 0) acc = {0, 0, as_integer, true};
      const auto i = static_cast<std::size_t>(n);
      if (as_integer) {
        acc.integer = static_cast<int32_t>(static_cast<uint32_t>(acc.integer) + static_cast<uint32_t>(integers[i]));
      } else if (scaled) {
        const float scale = row_scale * (w.scales.empty() ? 1.0F : w.scales[i]);
        acc.value = pass.accumulate != 0 ? std::fma(sums[i], scale, acc.value) : sums[i] * scale;
      } else {
        acc.value = pass.accumulate != 0 ? acc.value + sums[i] : sums[i];
      }
    }
    ++index;
  });
}

void ProgramSim::drain(const isa::MmDrain &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const int64_t m = static_cast<int64_t>(dst.dims[0]) * dst.dims[1] * dst.dims[2];
  const int64_t rows = (m + inst.m_split - 1) / inst.m_split;
  if (dst.dims[3] > inst.n_split * target_.tile_cols) fail("too many columns");
  int64_t index = -1;
  for_each(dst, [&](const Index &at) {
    if (at[3] == 0) ++index;
    drain_element(inst, dst, at, accumulator(index / rows, inst.n_split, inst.acc_row + index % rows, at[3]));
  });
}

template <typename Drain>
void ProgramSim::drain_element(const Drain &inst, const isa::Tdesc &dst, const Index &at, const Accumulator &acc) {
  if (!acc.valid) fail("drains an accumulator that holds nothing");
  if (acc.is_integer && dst.dtype == isa::DType::INT32 && inst.scale == 0xFF && inst.bias == 0xFF &&
      inst.act == isa::Activation::NONE) {
    std::memcpy(spm(place(dst, at), 4, true), &acc.integer, 4);
    return;
  }
  float value = acc.is_integer ? static_cast<float>(acc.integer) : acc.value;
  if (inst.scale != 0xFF) value *= get(tensor(inst.scale), {0, 0, 0, at[3]});
  if (inst.bias != 0xFF) value += get(tensor(inst.bias), {0, 0, 0, at[3]});
  put(dst, at, activate(inst.act, inst.lo, inst.hi, value));
}

void ProgramSim::load_activations(const isa::SpLda &inst) {
  const isa::Tdesc &a = tensor(inst.a);
  Activations loaded;
  loaded.m = static_cast<int64_t>(a.dims[0]) * a.dims[1] * a.dims[2];
  loaded.k = a.dims[3];
  loaded.m_split = inst.m_split;
  loaded.n_split = inst.n_split;
  loaded.dtype = a.dtype;
  if (loaded.k > target_.sca_depth) fail("K is deeper than the sparse tiles");
  if (static_cast<unsigned>(inst.m_split) * inst.n_split > target_.sca_tiles) fail("more sparse tiles than there are");
  if (loaded.m > static_cast<int64_t>(inst.m_split) * target_.sca_rows) fail("too many rows for the sparse tiles");
  for_each(a, [&](const Index &at) { loaded.values.push_back(get(a, at)); });
  sparse_shadow_ = std::move(loaded);
}

ProgramSim::Accumulator &ProgramSim::sparse_accumulator(int64_t m, int64_t rows, int64_t n, int64_t columns,
                                                        unsigned n_split, unsigned acc_row) {
  const int64_t width = target_.sca_cols;
  const int64_t groups = (columns + width - 1) / width;
  const int64_t share = (groups + n_split - 1) / n_split;
  const int64_t group = n / width;
  const int64_t tile = m / rows * n_split + group / share;
  const int64_t row = acc_row + group % share;
  if (row >= target_.sca_acc_rows) fail("too many groups for the accumulators");
  return sparse_accumulators_.at(static_cast<std::size_t>(
      ((tile * target_.sca_acc_rows + row) * width + n % width) * target_.sca_rows + m % rows));
}

void ProgramSim::multiply_sparse(const isa::SpMul &inst) {
  if (sparse_shadow_) sparse_active_ = std::exchange(sparse_shadow_, std::nullopt);
  if (!sparse_active_) fail("multiplies without activations");
  const Activations &a = *sparse_active_;
  if (a.k != inst.k || a.m_split != inst.m_split || a.n_split != inst.n_split) fail("other activations were loaded");
  if (a.dtype != inst.dtype) fail("operands of two types");
  if (inst.base % 16 != 0) fail("weights are not aligned");
  if (inst.skip_zeros != 0) fail("skips zeros");
  const auto *bytes = reinterpret_cast<const uint8_t *>(spm(inst.base, inst.bytes, false));
  const std::vector<sparse::Group> groups =
      sparse::decode_stream({bytes, inst.bytes}, inst.k, inst.n, number(inst.dtype), target_.sca_cols);
  const int64_t rows = (a.m + inst.m_split - 1) / inst.m_split;
  const bool integer = inst.dtype == isa::DType::INT8;
  int64_t n = 0;
  for (const sparse::Group &group : groups) {
    const sparse::Layout &layout = group.header.layout;
    const bool block = layout.format == sparse::Format::kBlock;
    if (static_cast<unsigned>(layout.format) != static_cast<unsigned>(inst.format) ||
        inst.p0 != (block ? layout.block_h : layout.n) || inst.p1 != (block ? layout.block_w : layout.m)) {
      fail("a group of another format");
    }
    for (uint32_t c = 0; c < group.header.columns; ++c, ++n) {
      for (int64_t m = 0; m < a.m; ++m) {
        float sum = 0;
        uint32_t total = 0;
        for (const sparse::Entry &entry : group.column(c)) {
          if (entry.bits == 0) continue;
          float weight = 0;
          num::widen(number(inst.dtype), &entry.bits, &weight, 1);
          const float x = a.values[static_cast<std::size_t>(m * a.k + entry.k)];
          sum = std::fma(x, weight, sum);
          if (integer) total += static_cast<uint32_t>(static_cast<int32_t>(x * weight));
        }
        Accumulator &acc = sparse_accumulator(m, rows, n, inst.n, inst.n_split, inst.acc_row);
        if (inst.accumulate != 0 && (!acc.valid || acc.is_integer != integer)) fail("accumulates onto nothing");
        if (inst.accumulate == 0) {
          acc = {sum, static_cast<int32_t>(total), integer, true};
        } else {
          acc.value += sum;
          acc.integer = static_cast<int32_t>(static_cast<uint32_t>(acc.integer) + total);
        }
      }
    }
  }
}

void ProgramSim::drain_sparse(const isa::SpDrain &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const int64_t m = static_cast<int64_t>(dst.dims[0]) * dst.dims[1] * dst.dims[2];
  const int64_t rows = (m + inst.m_split - 1) / inst.m_split;
  int64_t index = -1;
  for_each(dst, [&](const Index &at) {
    if (at[3] == 0) ++index;
    drain_element(inst, dst, at, sparse_accumulator(index, rows, at[3], dst.dims[3], inst.n_split, inst.acc_row));
  });
}

void ProgramSim::unary(const isa::VUnary &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  isa::Tdesc src = tensor(inst.src);
  const bool bits = inst.func == isa::Unary::COPY && src.dtype == dst.dtype;
  for_each(dst, [&](const Index &at) {
    if (bits) {
      const int64_t size = size_of(dst.dtype);
      std::memmove(spm(place(dst, at), size, true), spm(place(src, at), size, false), static_cast<std::size_t>(size));
      return;
    }
    if (is_integer(src.dtype) && is_integer(dst.dtype) && has_integers(inst.func)) {
      put_integer(dst, at, apply_unary(inst.func, get_integer(src, at), inst.imm0, inst.imm1, src.dtype));
      return;
    }
    if (inst.func == isa::Unary::NOT) fail("NOT of floats");
    put(dst, at, apply_unary(inst.func, get(src, at), inst.imm0, inst.imm1));
  });
}

void ProgramSim::binary(const isa::VBinary &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &a = tensor(inst.a);
  const isa::Tdesc *b = inst.b == 0xFF ? nullptr : &tensor(inst.b);
  const bool compares = inst.func == isa::Binary::EQ || inst.func == isa::Binary::NE || inst.func == isa::Binary::LT ||
                        inst.func == isa::Binary::LE;
  const bool integers =
      is_integer(a.dtype) && (b == nullptr || is_integer(b->dtype)) && inst.func != isa::Binary::PRELU;
  if (integers && b != nullptr && a.dtype != b->dtype) fail("integers of two types");
  if (integers && b == nullptr && inst.imm0 != std::trunc(inst.imm0)) fail("an immediate that is no whole number");
  if (integers && inst.act != isa::Activation::NONE) fail("activation of integers");
  const bool bitwise = inst.func >= isa::Binary::AND && inst.func <= isa::Binary::SHR;
  if (bitwise && !(integers && is_integer(dst.dtype))) fail("a function of integers only");
  for_each(dst, [&](const Index &at) {
    if (integers && (compares || is_integer(dst.dtype))) {
      int64_t x = get_integer(a, at);
      int64_t y = b != nullptr ? get_integer(*b, at) : static_cast<int64_t>(inst.imm0);
      if (inst.swap != 0) std::swap(x, y);
      const int64_t value = apply_binary(inst.func, x, y, a.dtype);
      if (is_integer(dst.dtype)) {
        put_integer(dst, at, value);
      } else {
        put(dst, at, static_cast<float>(value));
      }
      return;
    }
    float x = get(a, at);
    float y = b != nullptr ? get(*b, at) : inst.imm0;
    if (inst.swap != 0) std::swap(x, y);
    put(dst, at, activate(inst.act, inst.lo, inst.hi, apply_binary(inst.func, x, y)));
  });
}

void ProgramSim::select(const isa::VSelect &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &cond = tensor(inst.cond);
  if (cond.dtype != isa::DType::INT8 && cond.dtype != isa::DType::UINT8) fail("a condition of another type");
  const isa::Tdesc *a = inst.a == 0xFF ? nullptr : &tensor(inst.a);
  const isa::Tdesc *b = inst.b == 0xFF ? nullptr : &tensor(inst.b);
  if ((a != nullptr && a->dtype != dst.dtype) || (b != nullptr && b->dtype != dst.dtype)) fail("sides of other types");
  const int64_t size = size_of(dst.dtype);
  for_each(dst, [&](const Index &at) {
    const bool first = get_integer(cond, at) != 0;
    const isa::Tdesc *side = first ? a : b;
    // A side that is not chosen is read all the same.
    const isa::Tdesc *other = first ? b : a;
    if (other != nullptr) spm(place(*other, at), size, false);
    if (side == nullptr) {
      put(dst, at, first ? inst.imm0 : inst.imm1);
    } else {
      std::memmove(spm(place(dst, at), size, true), spm(place(*side, at), size, false), static_cast<std::size_t>(size));
    }
  });
}

void ProgramSim::gather(const isa::VGather &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  const isa::Tdesc &idx = tensor(inst.idx);
  if (dst.dtype != src.dtype) fail("gathers another type");
  for (std::size_t d = 0; d < 4; ++d) {
    if (idx.dims[d] != dst.dims[d] && idx.strides[d] != 0) fail("indices of another shape");
    if (d != inst.axis && src.dims[d] != dst.dims[d] && src.strides[d] != 0) fail("source of another shape");
  }
  const int64_t size = size_of(dst.dtype);
  for_each(dst, [&](const Index &at) {
    Index from = at;
    from[inst.axis] = index_at(idx, at, src.dims[inst.axis]);
    std::memcpy(spm(place(dst, at), size, true), spm(place(src, from), size, false), static_cast<std::size_t>(size));
  });
}

void ProgramSim::scatter(const isa::VScatter &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  const isa::Tdesc &idx = tensor(inst.idx);
  if (dst.dtype != src.dtype) fail("scatters another type");
  for (std::size_t d = 0; d < 4; ++d) {
    if (idx.dims[d] != src.dims[d] && idx.strides[d] != 0) fail("indices of another shape");
    if (d != inst.axis && src.dims[d] != dst.dims[d]) fail("destination of another shape");
  }
  const int64_t size = size_of(dst.dtype);
  for_each(src, [&](const Index &at) {
    Index to = at;
    to[inst.axis] = index_at(idx, at, dst.dims[inst.axis]);
    if (inst.func == isa::Scatter::SET) {
      std::memcpy(spm(place(dst, to), size, true), spm(place(src, at), size, false), static_cast<std::size_t>(size));
      return;
    }
    constexpr isa::Binary kFunctions[] = {isa::Binary::ADD, isa::Binary::ADD, isa::Binary::MUL, isa::Binary::MAX,
                                          isa::Binary::MIN};
    const isa::Binary func = kFunctions[static_cast<std::size_t>(inst.func)];
    if (is_integer(dst.dtype)) {
      put_integer(dst, to, apply_binary(func, get_integer(dst, to), get_integer(src, at), dst.dtype));
    } else {
      put(dst, to, apply_binary(func, get(dst, to), get(src, at)));
    }
  });
}

void ProgramSim::scan(const isa::VScan &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  if (dst.dims != src.dims) fail("shapes of the scan differ");
  const bool integers = is_integer(dst.dtype) && is_integer(src.dtype);
  isa::Tdesc heads = dst;
  heads.dims[inst.axis] = 1;
  for_each(heads, [&](const Index &head) {
    float sum = 0;
    uint64_t total = 0;
    Index at = head;
    for (int64_t n = 0; n < dst.dims[inst.axis]; ++n) {
      at[inst.axis] = inst.reverse != 0 ? dst.dims[inst.axis] - 1 - n : n;
      const float before = sum;
      const uint64_t total_before = total;
      if (integers) {
        total += static_cast<uint64_t>(get_integer(src, at));
        put_integer(dst, at, wrap(inst.exclusive != 0 ? total_before : total));
      } else {
        sum += get(src, at);
        put(dst, at, inst.exclusive != 0 ? before : sum);
      }
    }
  });
}

void ProgramSim::arg(const isa::VArg &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  for (std::size_t d = 0; d < 4; ++d) {
    if (dst.dims[d] != (d == inst.axis ? 1 : src.dims[d])) fail("shapes differ");
  }
  const int sign = inst.order == isa::Order::LARGEST ? 1 : -1;
  for_each(dst, [&](const Index &head) {
    Index best = head;
    Index at = head;
    for (at[inst.axis] = 1; at[inst.axis] < src.dims[inst.axis]; ++at[inst.axis]) {
      const int order = sign * compare(src, at, best);
      if (order > 0 || (order == 0 && inst.last != 0)) best = at;
    }
    put_integer(dst, head, best[inst.axis]);
  });
}

void ProgramSim::top(const isa::VTopk &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  for (std::size_t d = 0; d < 3; ++d) {
    if (dst.dims[d] != src.dims[d]) fail("shapes differ");
  }
  if (dst.dims[3] > src.dims[3]) fail("more indices than elements");
  const int sign = inst.order == isa::Order::LARGEST ? 1 : -1;
  isa::Tdesc heads = src;
  heads.dims[3] = 1;
  for_each(heads, [&](const Index &head) {
    std::vector<Index> order;
    for (int64_t i = 0; i < src.dims[3]; ++i) order.push_back({head[0], head[1], head[2], i});
    std::stable_sort(order.begin(), order.end(),
                     [&](const Index &a, const Index &b) { return sign * compare(src, a, b) > 0; });
    for (int64_t i = 0; i < dst.dims[3]; ++i) {
      put_integer(dst, {head[0], head[1], head[2], i}, order[static_cast<std::size_t>(i)][3]);
    }
  });
}

void ProgramSim::reduce(const isa::VReduce &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  isa::Tdesc inner = src;
  for (std::size_t d = 0; d < 4; ++d) {
    const bool reduced = (inst.axes >> d & 1) != 0;
    if (dst.dims[d] != (reduced ? 1 : src.dims[d])) fail("shapes of the reduction differ");
    if (!reduced) inner.dims[d] = 1;
  }
  for_each(dst, [&](const Index &at) {
    float sum = start_of(inst.func);
    for_each(inner, [&](const Index &i) {
      sum = reduce_step(inst.func, sum, get(src, {at[0] + i[0], at[1] + i[1], at[2] + i[2], at[3] + i[3]}));
    });
    put(dst, at, inst.div == 1 ? sum : sum / inst.div);
  });
}

void ProgramSim::window(const isa::VWindow &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  for_each(dst, [&](const Index &at) {
    float sum = inst.func == isa::Window::MAX ? -INFINITY : 0.0F;
    for (int64_t i = 0; i < inst.kernel_y; ++i) {
      for (int64_t j = 0; j < inst.kernel_x; ++j) {
        const float x =
            get(src, {at[0], at[1] * inst.stride_y + i * inst.dil_y, at[2] * inst.stride_x + j * inst.dil_x, at[3]});
        if (inst.func == isa::Window::MAX) {
          sum = std::max(sum, x);
        } else {
          sum += inst.func == isa::Window::SUM ? x : x * get(tensor(inst.w), {0, i, j, at[3]});
        }
      }
    }
    if (inst.func == isa::Window::SUM) sum *= inst.imm0;
    if (inst.bias != 0xFF) sum += get(tensor(inst.bias), {0, 0, 0, at[3]});
    put(dst, at, activate(inst.act, inst.lo, inst.hi, sum));
  });
}

void ProgramSim::softmax(const isa::VSoftmax &inst) {
  const isa::Tdesc &dst = tensor(inst.dst);
  const isa::Tdesc &src = tensor(inst.src);
  isa::Tdesc rows = dst;
  rows.dims[3] = 1;
  std::vector<float> values(dst.dims[3]);
  for_each(rows, [&](const Index &row) {
    float largest = -INFINITY;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = get(src, {row[0], row[1], row[2], static_cast<int64_t>(i)});
      largest = std::max(largest, values[i]);
    }
    float sum = 0;
    for (float &value : values) sum += value = std::exp(value - largest);
    for (std::size_t i = 0; i < values.size(); ++i) {
      put(dst, {row[0], row[1], row[2], static_cast<int64_t>(i)}, values[i] / sum);
    }
  });
}

}  // namespace cx::tb

// Executes a compiled program on byte arrays, without time and without the chip: an independent reading of
// hw/isa/isa.yaml.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/program.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::tb {

/// The program did something that the device would answer with a fault, or that has no defined result.
struct SimulationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class ProgramSim {
 public:
  ProgramSim(const Program &program, const Target &target);

  /// Bytes of the input's ONNX type.
  void set_input(std::size_t index, const std::vector<std::byte> &bytes);
  std::vector<std::byte> output(std::size_t index) const;

  /// Runs to the end. In each turn the engines are tried in this order and the first that can go executes up to `burst`
  /// instructions: every order has to give the same results. Throws SimulationError on a fault, a deadlock, or a read
  /// of scratchpad or workspace bytes that nothing has written.
  void run(const std::array<int, 5> &order = {0, 1, 2, 3, 4}, int burst = 1);

  uint64_t executed() const { return executed_; }
  /// Largest magnitude that was stored in a 16-bit float, to see how near values come to its range.
  float largest_half() const { return largest_half_; }

 private:
  struct Stream {
    const isa::Inst *code = nullptr;
    std::vector<isa::Inst> instructions;
    std::size_t pc = 0;
    bool done = false;
    std::array<std::optional<isa::Tdesc>, 16> tensors;
    std::array<std::optional<isa::Mdesc>, 16> memories;
  };
  /// Zeroed pages that cost nothing until they are touched: most programs use little of a large scratchpad.
  class Pages {
   public:
    explicit Pages(std::size_t bytes);
    ~Pages();
    Pages(const Pages &) = delete;
    Pages &operator=(const Pages &) = delete;
    std::byte *data() { return data_; }

   private:
    std::byte *data_ = nullptr;
    std::size_t bytes_;
  };
  /// Bytes of a segment, and which of them have ever been written.
  struct Memory {
    std::vector<std::byte> bytes;
    std::vector<uint8_t> written;  ///< by byte
    bool read_only = false;
  };
  using Index = std::array<int64_t, 4>;

  bool step(int engine);
  void execute(int engine, const isa::Inst &inst);
  [[noreturn]] void fail(const std::string &what) const;

  const isa::Tdesc &tensor(unsigned index) const;
  const isa::Mdesc &memory(unsigned index) const;
  static int64_t place(const isa::Tdesc &view, const Index &at);
  static int64_t place(const isa::Mdesc &view, const Index &at);
  template <typename F>
  static void for_each(const isa::Tdesc &view, F f);

  std::byte *spm(int64_t at, int64_t bytes, bool write);
  std::byte *segment(unsigned number, int64_t at, int64_t bytes, bool write);
  float get(const isa::Tdesc &view, const Index &at);
  /// Two's complement of 64 bits.
  int64_t get_integer(const isa::Tdesc &view, const Index &at);
  void put_integer(const isa::Tdesc &view, const Index &at, int64_t value);
  /// An element as the instructions compare it: -1, 0 or 1; of floats after widening.
  int compare(const isa::Tdesc &view, const Index &a, const Index &b);
  int64_t index_at(const isa::Tdesc &idx, const Index &at, int64_t limit);
  void put(const isa::Tdesc &view, const Index &at, float value);
  static float activate(isa::Activation act, float lo, float hi, float value);

  void dma_load(const isa::DmaLoad &inst);
  void dma_gather(const isa::DmaGather &inst);
  void dma_store(const isa::DmaStore &inst);
  void load_weights(const isa::MmLdw &inst);
  void multiply(const isa::MmMul &inst);
  void multiply_output_stationary(const isa::MmMulOs &inst);
  void drain(const isa::MmDrain &inst);
  void load_activations(const isa::SpLda &inst);
  void multiply_sparse(const isa::SpMul &inst);
  void drain_sparse(const isa::SpDrain &inst);
  void unary(const isa::VUnary &inst);
  void binary(const isa::VBinary &inst);
  void reduce(const isa::VReduce &inst);
  void window(const isa::VWindow &inst);
  void softmax(const isa::VSoftmax &inst);
  void select(const isa::VSelect &inst);
  void gather(const isa::VGather &inst);
  void scatter(const isa::VScatter &inst);
  void scan(const isa::VScan &inst);
  void arg(const isa::VArg &inst);
  void top(const isa::VTopk &inst);

  Target target_;
  Program program_;
  std::array<Stream, 5> streams_;
  std::vector<uint32_t> semaphores_;
  Pages spm_bytes_;
  Pages spm_written_;  ///< 1 for each byte that has been written
  std::vector<Memory> segments_;
  int current_ = 0;
  uint64_t executed_ = 0;
  float largest_half_ = 0;

  struct Weights {
    int64_t k = 0;
    int64_t n = 0;
    unsigned m_split = 0;
    unsigned n_split = 0;
    isa::DType dtype{};
    std::vector<float> values;  ///< [k][n]
    std::vector<float> scales;  ///< [n] or empty
  };
  /// What both passes have in common: where results go, and how they get there.
  struct Pass {
    unsigned accumulate = 0;
    unsigned acc_row = 0;
    std::optional<isa::Tdesc> row_scale;
  };
  Weights read_weights(const isa::Tdesc &view, unsigned m_split, unsigned n_split);
  void multiply_rows(const isa::Tdesc &a, const Weights &w, const Pass &pass);
  std::vector<float> float_chains(const std::vector<float> &row, const Weights &w, int64_t pack) const;
  static std::vector<int32_t> integer_chains(const std::vector<float> &row, const Weights &w);

  std::optional<Weights> shadow_;
  std::optional<Weights> active_;
  struct Accumulator {
    float value = 0;
    int32_t integer = 0;
    bool is_integer = false;
    bool valid = false;
  };
  Accumulator &accumulator(int64_t row_group, unsigned n_split, int64_t row, int64_t n);
  std::vector<Accumulator> accumulators_;  ///< [tile][row][column]

  /// What the sparse tiles have loaded: [m][k].
  struct Activations {
    int64_t m = 0;
    int64_t k = 0;
    unsigned m_split = 0;
    unsigned n_split = 0;
    isa::DType dtype{};
    std::vector<float> values;
  };
  std::optional<Activations> sparse_shadow_;
  std::optional<Activations> sparse_active_;
  /// Column n of row m of a product of the sparse tiles, n_columns of them.
  Accumulator &sparse_accumulator(int64_t m, int64_t rows, int64_t n, int64_t columns, unsigned n_split,
                                  unsigned acc_row);
  std::vector<Accumulator> sparse_accumulators_;  ///< [tile][row of groups][column][lane]
  template <typename Drain>
  void drain_element(const Drain &inst, const isa::Tdesc &dst, const Index &at, const Accumulator &acc);
};

}  // namespace cx::tb

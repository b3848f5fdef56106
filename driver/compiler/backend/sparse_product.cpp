#include "driver/compiler/backend/sparse_product.hpp"

#include <algorithm>
#include <numeric>

#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

/// Share of zeros below which the limit 1 / (1 - zeros) is no more than what the estimates may miss.
constexpr double kFewestZeros = 0.1;
/// Cycles of a multiplication beside those of its weights.
constexpr int64_t kStart = 8;
/// From the read of activations until a column can select them, and positions that the window moves on in a cycle
/// (hw/sca/README.md).
constexpr int64_t kVisible = 2;
constexpr int64_t kAdvance = 8;

bool multiplies_on_sca(Dtype dtype) { return sparse::is_weight_type(static_cast<num::DType>(dtype)); }

uint16_t magnitude_bits(Dtype dtype) {
  if (dtype == Dtype::INT8) return 0xFF;
  return is_8_bit(dtype) ? 0x7F : 0x7FFF;
}

sparse::MatrixView matrix_of(const std::vector<std::byte> &elements, Dtype dtype, int64_t depth, int64_t first,
                             int64_t length, int64_t columns) {
  sparse::MatrixView view;
  view.data = reinterpret_cast<const uint8_t *>(elements.data()) + first * element_bytes(dtype);
  view.type = static_cast<num::DType>(dtype);
  view.k = static_cast<std::size_t>(length);
  view.n = static_cast<std::size_t>(columns);
  view.k_stride = 1;
  view.n_stride = depth;
  return view;
}

template <typename T>
uint64_t zeros_among(std::span<const std::byte> elements, uint16_t mask) {
  const auto *begin = reinterpret_cast<const T *>(elements.data());
  return static_cast<uint64_t>(
      std::count_if(begin, begin + elements.size() / sizeof(T), [mask](T value) { return (value & mask) == 0; }));
}

uint64_t count_zeros(const Context &context, const SparseCandidate &candidate) {
  const uint16_t mask = magnitude_bits(candidate.dtype);
  const bool narrow = element_bytes(candidate.dtype) == 1;
  uint64_t zeros = 0;
  visit_constant(context.graph[candidate.weights], candidate.box, candidate.quantiser,
                 [&](std::span<const std::byte> elements) {
                   zeros += narrow ? zeros_among<uint8_t>(elements, mask) : zeros_among<uint16_t>(elements, mask);
                 });
  return zeros;
}

/// The columns of a sparse tile on their way through the weights: a column issues one a cycle, and none may be more
/// than the window ahead of the slowest. Leaves out queues and the feed of weights, which the tile's own model has.
class Walk {
 public:
  Walk(const Target &target, Dtype dtype)
      : columns_(target.sca_cols),
        passed_(std::max<uint32_t>(target.sca_window, 1), 0),
        read_(kAdvance, 0),
        next_(target.sca_cols, 0),
        mask_(magnitude_bits(dtype)),
        narrow_(element_bytes(dtype) == 1) {}

  /// Cycles by which each group moves the end on.
  std::vector<int64_t> run(const sparse::MatrixView &w) {
    std::vector<int64_t> cycles;
    for (std::size_t first = 0; first < w.n; first += columns_) {
      const int64_t before = end_;
      const std::size_t count = std::min<std::size_t>(columns_, w.n - first);
      if (narrow_) {
        walk_group(w.data + static_cast<ptrdiff_t>(first) * w.n_stride, w, count);
      } else {
        walk_group(reinterpret_cast<const uint16_t *>(w.data) + static_cast<ptrdiff_t>(first) * w.n_stride, w, count);
      }
      cycles.push_back(std::max<int64_t>(end_ - before, 1));
    }
    return cycles;
  }

 private:
  template <typename T>
  void walk_group(const T *group, const sparse::MatrixView &w, std::size_t count) {
    for (std::size_t row = 0; row < w.k; ++row) {
      const int64_t visible = reach(row == 0);
      done_ = std::max(done_, bound_);
      bound_ = 0;
      for (std::size_t c = 0; c < count; ++c) {
        if ((group[static_cast<ptrdiff_t>(c) * w.n_stride + static_cast<ptrdiff_t>(row)] & mask_) == 0) continue;
        const int64_t issue = std::max(next_[c], visible);
        next_[c] = issue + 1;
        done_ = std::max(done_, issue + 1);
        bound_ = std::max(bound_, issue + 2);
        end_ = std::max(end_, issue);
      }
      passed_[position_ % passed_.size()] = done_;
      ++position_;
    }
    end_ = std::max(end_, last_read_);
  }

  /// Reads the next position into the window; the cycle from which columns can select it.
  int64_t reach(bool first_of_group) {
    int64_t read = std::max<int64_t>(last_read_ + (first_of_group ? 1 : 0), 1);
    if (position_ >= passed_.size()) read = std::max(read, passed_[position_ % passed_.size()]);
    if (position_ >= read_.size()) read = std::max(read, read_[position_ % read_.size()] + 1);
    read_[position_ % read_.size()] = read;
    last_read_ = read;
    return read + kVisible;
  }

  std::size_t columns_;
  std::vector<int64_t> passed_;  ///< cycle from which each of the last positions was passed
  std::vector<int64_t> read_;
  std::vector<int64_t> next_;  ///< first cycle in which a column can issue
  uint16_t mask_;
  bool narrow_;
  std::size_t position_ = 0;
  int64_t last_read_ = 0;
  int64_t done_ = 0;   ///< the present position is passed
  int64_t bound_ = 0;  ///< of the next one
  int64_t end_ = 0;    ///< the last issue
};

/// K in parts that the tiles hold, of equal length; whole blocks of every pattern that starts at the run's begin.
int64_t piece_length(const Target &target, int64_t run_length) {
  const int64_t deepest = target.sca_depth;
  const int64_t even = ceil_div(run_length, ceil_div(run_length, deepest));
  const int64_t aligned = ceil_div(even, sparse::kMaxBlockRows) * sparse::kMaxBlockRows;
  return aligned <= deepest ? aligned : even;
}

/// Throws InputError for weights that do not have the stated pattern.
void require_pattern(const sparse::Layout &layout, const sparse::MatrixView &w, const Context &context,
                     const SparseCandidate &candidate) {
  if (layout.format != sparse::Format::kStructured || sparse::fits_structured(w, layout.n, layout.m)) return;
  try {
    sparse::size_of(w, context.target.sca_cols, layout);
  } catch (const std::invalid_argument &error) {
    throw InputError("weights " + context.graph[candidate.weights].name + " of node " + candidate.node->name + ": " +
                     error.what());
  }
}

int64_t with_transfer(int64_t cycles, uint64_t bytes, const Target &target) {
  const double per_cycle = static_cast<double>(target.dram_stream_mbps) * 1e3 / std::max<uint32_t>(target.clock_khz, 1);
  return std::max(cycles, static_cast<int64_t>(static_cast<double>(bytes) / std::max(per_cycle, 1e-9)));
}

std::string why_unfit(const Context &context, const SparseCandidate &candidate) {
  if (context.sca.use == ScaUse::never) return "not wanted";
  if (context.target.sca_tiles == 0) {
    return context.target.shared_array ? "all slots of the array are MAC tiles" : "the target has no SCA";
  }
  if (!context.graph[candidate.weights].is_constant()) return "weights are not constant";
  if (!candidate.unfit.empty()) return candidate.unfit;
  if (!multiplies_on_sca(candidate.dtype)) return "the SCA does not multiply this type";
  return "";
}

/// Of `count` groups one after the other; offsets has one more than there are groups.
int64_t most_bytes(const std::vector<int64_t> &offsets, std::size_t count) {
  int64_t most = 0;
  for (std::size_t begin = 0; begin + count < offsets.size(); ++begin) {
    most = std::max(most, offsets[begin + count] - offsets[begin]);
  }
  return most;
}

}  // namespace

std::optional<SparseProduct> SparseProduct::choose(Context &context, const Group &group,
                                                   const SparseCandidate &candidate) {
  ProductChoice &choice = context.products[&group];
  const bool gave_up = choice.engine == "dmmu";  // by an earlier try of this group
  if (gave_up) return std::nullopt;
  choice = {};
  choice.engine = "dmmu";
  choice.dense_cycles = static_cast<uint64_t>(candidate.dense_cycles);
  choice.reason = why_unfit(context, candidate);
  if (!choice.reason.empty()) return std::nullopt;
  const int64_t depth = candidate.depth.run_length * candidate.depth.runs;
  choice.weights = static_cast<uint64_t>(depth * candidate.columns);
  choice.zeros = count_zeros(context, candidate);
  choice.dense_bytes = choice.weights * static_cast<uint64_t>(element_bytes(candidate.dtype));
  const bool always = context.sca.use == ScaUse::always;
  const bool few_zeros =
      !always && static_cast<double>(choice.zeros) < kFewestZeros * static_cast<double>(choice.weights);
  if (few_zeros && !context.sca.format) {
    choice.reason = "few zeros";
    return std::nullopt;
  }
  const std::vector<std::byte> elements =
      constant_elements(context.graph[candidate.weights], candidate.box, candidate.order, candidate.quantiser);
  if (context.sca.format) {
    require_pattern(*context.sca.format, matrix_of(elements, candidate.dtype, depth, 0, depth, candidate.columns),
                    context, candidate);
  }
  if (few_zeros) {
    choice.reason = "few zeros";
    return std::nullopt;
  }
  SparseProduct product(context, candidate, elements);
  choice.format = sparse::to_string(product.pieces_.front().layout);
  choice.stream_bytes = product.stream_bytes();
  choice.sca_cycles = static_cast<uint64_t>(product.estimate_);
  const auto sparse = static_cast<double>(with_transfer(product.estimate_, choice.stream_bytes, context.target));
  const auto dense = static_cast<double>(with_transfer(candidate.dense_cycles, choice.dense_bytes, context.target));
  if (!always && sparse * kSparseMargin >= dense) {
    choice.reason = "no faster by the estimate";
    return std::nullopt;
  }
  choice.engine = "sca";
  choice.macs_skipped =
      choice.zeros *
      static_cast<uint64_t>(compiler::elements(context.graph[candidate.node->outputs[0]].shape) / candidate.columns);
  return product;
}

SparseProduct::SparseProduct(const Context &context, const SparseCandidate &candidate,
                             const std::vector<std::byte> &elements)
    : dtype_(candidate.dtype),
      rows_(candidate.rows),
      line_(std::max<int64_t>(candidate.line, 1)),
      columns_(candidate.columns),
      group_columns_(context.target.sca_cols),
      lanes_(context.target.sca_rows),
      half_rows_(std::max<int64_t>(context.target.sca_acc_rows / 2, 1)) {
  const int64_t depth = candidate.depth.run_length * candidate.depth.runs;
  const int64_t length = piece_length(context.target, candidate.depth.run_length);
  for (int64_t run = 0; run < candidate.depth.runs; ++run) {
    for (int64_t first = 0; first < candidate.depth.run_length; first += length) {
      Piece &piece = pieces_.emplace_back();
      piece.run = static_cast<std::size_t>(run);
      piece.first = first;
      piece.length = std::min(length, candidate.depth.run_length - first);
      const sparse::MatrixView w =
          matrix_of(elements, dtype_, depth, run * candidate.depth.run_length + first, piece.length, columns_);
      // A pattern of the whole K need not be one of a part that begins inside a block.
      const auto &stated = context.sca.format;
      const bool fits =
          stated && (stated->format != sparse::Format::kStructured || sparse::fits_structured(w, stated->n, stated->m));
      piece.layout = fits ? *stated : sparse::choose_smallest(w, context.target.sca_cols, sparse::candidates(w)).layout;
      piece.stream = sparse::encode(w, context.target.sca_cols, piece.layout);
      for (std::size_t at = 0; at < piece.stream.size();) {
        piece.offsets.push_back(static_cast<int64_t>(at));
        at += sparse::read_header(std::span(piece.stream).subspan(at), at).bytes;
      }
      piece.offsets.push_back(static_cast<int64_t>(piece.stream.size()));
      piece.cycles = Walk(context.target, dtype_).run(w);
    }
  }
  choose_split(context.target);
}

uint64_t SparseProduct::stream_bytes() const {
  return std::accumulate(pieces_.begin(), pieces_.end(), uint64_t{0},
                         [](uint64_t sum, const Piece &piece) { return sum + piece.stream.size(); });
}

int64_t SparseProduct::Piece::cycles_of(int64_t first, int64_t groups, int64_t tiles, int64_t port) const {
  const int64_t share = ceil_div(groups, tiles);
  const int64_t parts = ceil_div(groups, share);
  int64_t slowest = 0;
  for (int64_t at = 0; at < groups; at += share) {
    // A tile has two groups: a transfer begins when the one before is there and the group two before is done. All tiles
    // take theirs at a time.
    int64_t there = 0;
    int64_t done = 0;
    int64_t done_before = 0;
    for (int64_t g = first + at; g < first + std::min(at + share, groups); ++g) {
      const auto n = static_cast<std::size_t>(g);
      there = std::max(there, done_before) + ceil_div((offsets[n + 1] - offsets[n]) * parts, port);
      done_before = done;
      done = std::max(done, there) + cycles[n];
    }
    slowest = std::max(slowest, done);
  }
  return slowest + kStart;
}

int64_t SparseProduct::cycles_of(const Target &target, TileSplit split) const {
  const auto port = std::max<int64_t>(target.spm_bytes_per_cycle, 1);
  const int64_t block = std::min(rows_, split.m * lanes_);
  const int64_t share = ceil_div(ceil_div(columns_, group_columns_), split.n);  // groups of a tile
  int64_t work = 0;
  for (const Piece &piece : pieces_) {
    const int64_t slowest = piece.cycles_of(0, static_cast<int64_t>(piece.cycles.size()), split.n, port);
    int64_t loads = std::max(piece.length, ceil_div(block * piece.length * element_bytes(dtype_), port));
    // Of several pieces each block of columns needs all again.
    if (pieces_.size() > 1) loads *= ceil_div(share, half_rows_);
    work += std::max({slowest, loads, ceil_div(static_cast<int64_t>(piece.stream.size()), port)});
  }
  const int64_t drain = std::max(std::min(columns_, share * group_columns_), ceil_div(block * columns_ * 4, port));
  const int64_t blocks = blocks_of(split);
  return pieces_.front().length + blocks * std::max(work, drain) + ceil_div(drain, ceil_div(share, half_rows_));
}

void SparseProduct::choose_split(const Target &target) {
  const int64_t groups = ceil_div(columns_, group_columns_);
  const int64_t tiles = target.sca_tiles;
  estimate_ = -1;
  for (int64_t n = 1; n <= std::min(groups, tiles); ++n) {
    const TileSplit split{std::min(tiles / n, ceil_div(rows_, lanes_)), n};
    const int64_t cycles = cycles_of(target, split);
    if (estimate_ >= 0 && cycles >= estimate_) continue;
    estimate_ = cycles;
    split_ = split;
  }
}

int64_t SparseProduct::blocks_of(TileSplit split) const {
  const int64_t most = split.m * lanes_;
  const int64_t lines = ceil_div(rows_, line_);
  return line_ > most ? lines * ceil_div(line_, most) : ceil_div(lines, most / line_);
}

int64_t SparseProduct::rows_at_once() const { return split_.m * lanes_; }

int64_t SparseProduct::columns_of_useful_pass() const {
  // Eight times as long as the load of activations that no product hides, the first one of each pass.
  int64_t length = 0;
  int64_t cycles = 0;
  for (const Piece &piece : pieces_) {
    length += piece.length;
    cycles += std::accumulate(piece.cycles.begin(), piece.cycles.end(), int64_t{0});
  }
  const auto groups = static_cast<int64_t>(pieces_.front().cycles.size());
  return split_.n * group_columns_ *
         std::clamp<int64_t>(ceil_div(8 * length * groups, std::max<int64_t>(cycles, 1)), 1, half_rows_);
}

void SparseProduct::load(Context &context, Arena &arena, int64_t first, int64_t count) {
  first_group_ = first / group_columns_;
  const auto begin = static_cast<std::size_t>(first_group_);
  const auto end = static_cast<std::size_t>(ceil_div(first + count, group_columns_));
  constexpr int64_t kWord = 4;
  for (Piece &piece : pieces_) {
    // What is measured for one pass holds for all of them, and none is like another.
    const int64_t bytes =
        context.emitter.dry() ? most_bytes(piece.offsets, end - begin) : piece.offsets[end] - piece.offsets[begin];
    const SpmView buffer = allocate(arena, Dtype::INT32, {bytes / kWord}, {0});
    piece.base = buffer.base;
    if (context.emitter.dry()) continue;
    const int64_t offset = context.constants.place(static_cast<std::size_t>(bytes), [&](std::span<std::byte> to) {
      const auto stream = std::as_bytes(std::span(piece.stream));
      std::ranges::copy(stream.subspan(static_cast<std::size_t>(piece.offsets[begin]), to.size()), to.begin());
    });
    context.emitter.load(buffer, constant_memory(context, buffer, offset));
  }
}

std::vector<SparseProduct::Step> SparseProduct::steps_of(const GemmTile &tile) const {
  const int64_t groups = ceil_div(tile.n, group_columns_);
  constexpr int64_t kDescriptor = 65535;
  const int64_t most = std::min(split_.n * half_rows_, kDescriptor / group_columns_);
  std::vector<Step> steps;
  for (const RowBlock &block : row_blocks(tile.rows, rows_at_once())) {
    for (int64_t group = 0; group < groups; group += most) {
      for (const Piece &piece : pieces_) {
        Step &step = steps.emplace_back();
        step.block = block;
        step.split = {std::min(split_.m, block.rows()), std::min(split_.n, groups)};
        step.piece = &piece;
        step.group = group;
        step.end = std::min(groups, group + most);
        step.loads = pieces_.size() > 1 || group == 0;
      }
    }
  }
  return steps;
}

void SparseProduct::load_activations(Context &context, const GemmTile &tile, const Step &step) const {
  const KRun &run = tile.runs[step.piece->run];
  const int64_t base = run.base + step.piece->first * run.stride + offset_of(step.block.at, tile.a_strides);
  context.emitter.load_activations(
      row_view(step.block.size, tile.dtype, base, tile.a_strides, step.piece->length, run.stride), step.split);
}

void SparseProduct::emit(Context &context, const GemmTile &asked) const {
  if (context.emitter.dry()) return;
  const GemmTile tile = with_merged_rows(asked);
  const std::vector<Step> steps = steps_of(tile);
  load_activations(context, tile, steps.front());
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const Step &step = steps[s];
    const Piece &piece = *step.piece;
    const int64_t first = step.group * group_columns_;
    WeightStream w{piece.layout, dtype_, piece.length, std::min(tile.n, step.end * group_columns_) - first};
    const auto at = static_cast<std::size_t>(first_group_ + step.group);
    w.base = piece.base + piece.offsets[at] - piece.offsets[static_cast<std::size_t>(first_group_)];
    w.bytes = piece.offsets[at + static_cast<std::size_t>(step.end - step.group)] - piece.offsets[at];
    w.cycles = piece.cycles_of(first_group_ + step.group, step.end - step.group, step.split.n,
                               std::max<int64_t>(context.target.spm_bytes_per_cycle, 1));
    // Two halves of the accumulators by turns: one is drained while the other fills.
    const int64_t acc_row = half_rows_ * (context.sca_toggle % 2);
    context.emitter.multiply_sparse(w, &piece != &pieces_.front(), step.split, acc_row);
    // The tiles take commands in order: behind the drain, which waits for the product, the load would too.
    if (s + 1 < steps.size() && steps[s + 1].loads) load_activations(context, tile, steps[s + 1]);
    if (&piece != &pieces_.back()) continue;
    drain_rows(context, tile, step.block, first, w.n, {isa::Engine::SCA, step.split, acc_row});
    ++context.sca_toggle;
  }
}

}  // namespace cx::compiler::backend

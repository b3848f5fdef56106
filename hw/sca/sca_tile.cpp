#include "hw/sca/sca_tile.hpp"

#include <bit>
#include <cstring>
#include <stdexcept>

#include "hw/common/num/gathered.hpp"
#include "hw/dmmu/tile_port.hpp"

namespace cx::hw {
namespace {

constexpr uint32_t kMaxDimension = 128;  // the RTL counts rows and columns in 8 bits
constexpr uint32_t kMaxAccRows = 32768;
constexpr uint32_t kMaxDepth = 32768;

void require(bool condition, const char *what) {
  if (!condition) throw std::invalid_argument(std::string("sparse tile: ") + what);
}

}  // namespace

ScaTile::ScaTile(const ScaShape &shape) : shape_(shape), schedule_(shape) {
  require(shape.rows >= 1 && shape.rows <= kMaxDimension, "rows must be 1 to 128");
  require(shape.cols >= 1 && shape.cols <= kMaxDimension, "cols must be 1 to 128");
  require(shape.acc_rows >= 2 && shape.acc_rows <= kMaxAccRows, "acc_rows must be 2 to 32768");
  require(shape.depth >= 2 && shape.depth <= kMaxDepth, "depth must be 2 to 32768");
  require(std::has_single_bit(shape.window) && shape.window >= 2 && shape.window <= 256,
          "window must be a power of two from 2 to 256");
  require(shape.queue >= 2 && shape.queue <= 64, "queue must be 2 to 64");
}

uint64_t ScaTile::load(uint64_t start, uint64_t stream, const TileOperand &a) {
  require(sca_multiplies(a.dtype), "format is not multiplied");
  require(a.rows >= 1 && a.rows <= shape_.rows, "more rows than lanes");
  require(a.cols >= 1 && a.cols <= shape_.depth, "more vectors than a bank holds");
  require(a.raw != nullptr, "activations without data");
  require(stream >= a.cols, "vectors come faster than one a cycle");
  const uint64_t earliest = schedule_.earliest_load(0);
  require(start >= earliest, "the activation port is in use");
  shadow_ = {a.dtype, a.cols};
  const Booking booking{schedule_.load(start, stream), start == earliest};
  do_load({start, stream, a}, booking);
  return booking.complete;
}

uint64_t ScaTile::multiply(uint64_t start, std::shared_ptr<const SparseColumns> w, const ScaPlan &plan,
                           uint32_t acc_row, bool accumulate) {
  require(w != nullptr && w->n >= 1, "no weights");
  const Activations &activations = shadow_.k != 0 ? shadow_ : active_;
  require(activations.k != 0, "no activations loaded");
  require(sca_multiplies(w->dtype) && tile_pairs(activations.dtype, w->dtype),
          "activations and weights differ in format");
  require(w->k == activations.k, "activations and weights differ in k");
  const uint32_t groups = sca_groups(shape_, w->n);
  require(plan.group_ready.size() == groups, "a plan of other weights");
  require(uint64_t{acc_row} + groups <= shape_.acc_rows, "rows beyond the accumulator memory");
  const uint64_t earliest = schedule_.earliest_mul(0, acc_row, groups);
  require(start >= earliest, "the columns are in use");
  if (shadow_.k != 0) {
    active_ = shadow_;
    shadow_ = {};
  }
  const Booking booking{schedule_.mul(start, plan), start == earliest};
  do_multiply({start, std::move(w), plan, acc_row, accumulate}, booking);
  return booking.complete;
}

uint64_t ScaTile::drain(uint64_t start, uint64_t stream, uint32_t acc_row, uint32_t m, uint32_t n,
                        const num::DrainStage &stage, TileTarget target) {
  require(m >= 1 && m <= shape_.rows, "more rows than lanes");
  require(n >= 1 && uint64_t{acc_row} + sca_groups(shape_, n) <= shape_.acc_rows, "rows beyond the accumulator memory");
  require(stage.out <= num::DType::INT32, "a drain makes formats up to INT32");
  require(static_cast<unsigned>(stage.act) <= 2, "unknown activation");
  require(target.rows.size() == m, "a target for each row");
  require(stream >= n, "columns leave faster than one a cycle");
  const uint64_t earliest = schedule_.earliest_drain(0);
  require(start >= earliest, "the accumulators are in use");
  const Booking booking{schedule_.drain(start, stream, acc_row, sca_groups(shape_, n)), start == earliest};
  do_drain({start, stream, acc_row, m, n, stage}, std::move(target), booking);
  return booking.complete;
}

void ScaTile::reset() {
  active_ = {};
  shadow_ = {};
  schedule_.reset();
  do_reset();
}

// ---- model ----

ScaTileModel::ScaTileModel(const ScaShape &shape)
    : ScaTile(shape),
      lanes_((shape.rows + num::kGatheredLanes - 1) / num::kGatheredLanes * num::kGatheredLanes),
      accumulators_(uint64_t{shape.acc_rows} * shape.cols * lanes_) {}

void ScaTileModel::do_reset() {
  active_bank_ = 0;
  shadow_full_ = false;
  std::fill(accumulators_.begin(), accumulators_.end(), 0u);
  counters_ = {};
}

ScaCounters ScaTileModel::counters() {
  counters_.busy = schedule().busy();
  return counters_;
}

void ScaTileModel::fill(Bank &bank, const TileOperand &a) {
  bank.dtype = a.dtype;
  bank.m = a.rows;
  bank.zeros.assign(a.cols, 0);
  const auto row_of = [&](uint32_t i) { return a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride; };
  if (a.dtype == num::DType::INT8) {
    bank.integers.assign(a.cols * lanes_, 0);
    for (uint32_t i = 0; i < a.rows; ++i) {
      const auto *row = reinterpret_cast<const int8_t *>(row_of(i));
      for (uint32_t r = 0; r < a.cols; ++r) {
        bank.integers[r * lanes_ + i] = row[r];
        bank.zeros[r] = static_cast<uint8_t>(bank.zeros[r] + (row[r] == 0 ? 1 : 0));
      }
    }
    return;
  }
  bank.wide.assign(a.cols * lanes_, 0);
  line_.resize(a.cols);
  for (uint32_t i = 0; i < a.rows; ++i) {
    const float *row = line_.data();
    if (a.wide != nullptr) {
      row = a.wide + i * a.wide_stride;
    } else {
      num::widen(a.dtype, row_of(i), line_.data(), a.cols);
    }
    for (uint32_t r = 0; r < a.cols; ++r) {
      bank.wide[r * lanes_ + i] = row[r];
      bank.zeros[r] = static_cast<uint8_t>(bank.zeros[r] + (row[r] == 0 ? 1 : 0));
    }
  }
}

void ScaTileModel::do_load(const Load &in, const Booking &) {
  shadow_full_ = true;
  fill(banks_[1 - active_bank_], in.a);
  counters_.vectors += in.a.cols;
  counters_.load_stalls += in.stream - in.a.cols;
}

void ScaTileModel::do_multiply(const Multiply &in, const Booking &) {
  if (shadow_full_) active_bank_ = 1 - active_bank_;
  shadow_full_ = false;
  const Bank &bank = banks_[active_bank_];
  const SparseColumns &w = *in.w;
  const bool integer = w.dtype == num::DType::INT8;
  if (integer) {
    integers_.resize(w.nonzeros());
    for (size_t i = 0; i < integers_.size(); ++i) integers_[i] = static_cast<int8_t>(w.raw[i]);
  } else if (num::bytes_of(w.dtype) == 1) {
    std::vector<uint8_t> bytes(w.raw.begin(), w.raw.end());
    values_.resize(w.nonzeros());
    num::widen(w.dtype, bytes.data(), values_.data(), values_.size());
  } else {
    values_.resize(w.nonzeros());
    num::widen(w.dtype, w.raw.data(), values_.data(), values_.size());
  }
  const size_t lanes = (bank.m + num::kGatheredLanes - 1) / num::kGatheredLanes * num::kGatheredLanes;
  for (uint32_t c = 0; c < w.n; ++c) {
    const uint32_t first = w.starts[c], count = w.starts[c + 1] - first;
    uint32_t *to = accumulators(in.acc_row + c / shape().cols, c % shape().cols);
    const uint16_t *rows = w.rows.data() + first;
    if (integer) {
      num::mac_int8_gathered({integers_.data() + first, rows, count}, bank.integers.data(), lanes_,
                             reinterpret_cast<int32_t *>(to), lanes, in.accumulate);
    } else {
      num::mac_fp_gathered({values_.data() + first, rows, count}, bank.wide.data(), lanes_,
                           reinterpret_cast<float *>(to), lanes, in.accumulate);
    }
  }
  for (uint16_t row : w.rows) counters_.gated += bank.zeros[row];
  counters_.issued += in.plan.issued;
  counters_.stalls.window += in.plan.stalls.window;
  counters_.stalls.feed += in.plan.stalls.feed;
  counters_.stalls.queue += in.plan.stalls.queue;
}

void ScaTileModel::do_drain(const Drain &in, TileTarget target, const Booking &) {
  const size_t bytes = num::bytes_of(in.stage.out);
  const bool dense = target.stride == static_cast<ptrdiff_t>(bytes);
  std::vector<std::byte> line(dense ? 0 : shape().cols * bytes);
  block_.resize(size_t{shape().cols} * in.m);
  for (uint32_t first = 0; first < in.n; first += shape().cols) {
    const uint32_t count = std::min(shape().cols, in.n - first);
    for (uint32_t c = 0; c < count; ++c) {
      const uint32_t *words = accumulators(in.acc_row + first / shape().cols, c);
      for (uint32_t i = 0; i < in.m; ++i) block_[i * count + c] = words[i];
    }
    num::DrainStage stage = in.stage;
    if (stage.scale != nullptr) stage.scale += first;
    if (stage.bias != nullptr) stage.bias += first;
    for (uint32_t i = 0; i < in.m; ++i) {
      std::byte *to = target.rows[i] + static_cast<ptrdiff_t>(first) * target.stride;
      num::drain_row(stage, &block_[i * count], dense ? to : line.data(), count);
      for (uint32_t c = 0; !dense && c < count; ++c) {
        std::memcpy(to + static_cast<ptrdiff_t>(c) * target.stride, &line[c * bytes], bytes);
      }
    }
  }
  counters_.columns += in.n;
  counters_.drain_stalls += in.stream - in.n;
}

// ---- RTL ----

struct ScaTileRtl::Command {
  /// A column's weights on their way into the tile, a placeholder for each group that has none.
  struct Feed {
    uint32_t column = 0;  // of the whole matrix, steps by the tile's columns
    uint32_t next = 0;    // weight of the column
  };

  uint64_t start = 0;
  uint64_t complete = 0;
  bool tight = false;
  rtl::ScaSim::Inputs fields;
  TilePort activations, drains;
  // Of a multiplication.
  std::shared_ptr<const SparseColumns> w;
  std::vector<uint64_t> group_ready;
  std::vector<Feed> feeds;
  uint32_t feeding = 0;  // columns that have not given all
  // Of a drain.
  std::vector<float> scale, bias;
  uint32_t read = 0;  // columns whose parameters were taken
  TileTarget target;
  uint32_t m = 0;
  size_t element_bytes = 0;

  bool ended(const std::deque<Command *> &waiting) const {
    return (waiting.empty() || waiting.front() != this) && activations.done() && drains.done() && feeding == 0;
  }
};

ScaTileRtl::ScaTileRtl(const ScaShape &shape) : ScaTile(shape), sim_(rtl::make_sca_sim(shape)) {}
ScaTileRtl::~ScaTileRtl() = default;

void ScaTileRtl::do_reset() {
  for (auto *queue : {&waiting_, &activations_, &weights_, &drains_}) queue->clear();
  commands_.clear();
  sim_->reset();
  cycle_ = 0;
  running_ = false;
  expected_idle_ = 0;
}

void ScaTileRtl::record(const TileWaves &waves) {
  sim_->open_waves(waves.path);
  waves_ = waves;
  recording_ = true;
  recorded_ = 0;
}

uint64_t ScaTileRtl::stop_recording() {
  if (recording_) sim_->close_waves();
  recording_ = false;
  return recorded_;
}

ScaCounters ScaTileRtl::counters() {
  ScaCounters result;
  uint64_t *const fields[] = {&result.busy,         &result.vectors,     &result.load_stalls, &result.columns,
                              &result.drain_stalls, &result.issued,      &result.gated,       &result.stalls.window,
                              &result.stalls.feed,  &result.stalls.queue};
  static_assert(std::size(fields) == rtl::ScaSim::kCounters);
  for (unsigned i = 0; i < std::size(fields); ++i) *fields[i] = sim_->count(i);
  return result;
}

void ScaTileRtl::differ(std::string what) {
  if (differences_++ == 0) first_difference_ = std::move(what);
}

uint32_t ScaTileRtl::noise() {
  stall_seed_ = stall_seed_ * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(stall_seed_ >> 32);
}

ScaTileRtl::Command &ScaTileRtl::add(uint64_t start, const Booking &booking) {
  commands_.push_back(std::make_unique<Command>());
  Command &command = *commands_.back();
  command.start = start;
  command.complete = booking.complete;
  command.tight = booking.tight;
  waiting_.push_back(&command);
  return command;
}

void ScaTileRtl::do_load(const Load &in, const Booking &booking) {
  Command &command = add(in.start, booking);
  const TileOperand &a = in.a;
  const size_t bytes = num::bytes_of(a.dtype);
  command.fields.cmd_op = rtl::ScaSim::Op::kLoad;
  command.fields.cmd_fmt = static_cast<uint8_t>(a.dtype);
  command.fields.cmd_m = static_cast<uint8_t>(a.rows);
  command.fields.cmd_k = static_cast<uint16_t>(a.cols);
  command.activations.open(in.start + 1, in.stream, a.cols, shape().rows,
                           tile_moments(stall_seed_, a.cols, 1, in.stream));
  for (uint32_t i = 0; i < a.rows; ++i) {
    tile_spread(a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride, static_cast<ptrdiff_t>(bytes), bytes, a.cols, 1,
                command.activations.row(0) + i, shape().rows);
  }
  for (uint32_t k = 0; k < a.cols; ++k) tile_scribble(stall_seed_, command.activations, k, a.rows);
  activations_.push_back(&command);
}

void ScaTileRtl::do_multiply(const Multiply &in, const Booking &booking) {
  Command &command = add(in.start, booking);
  const SparseColumns &w = *in.w;
  const uint32_t groups = sca_groups(shape(), w.n);
  command.fields.cmd_op = rtl::ScaSim::Op::kMul;
  command.fields.cmd_fmt = static_cast<uint8_t>(w.dtype);
  command.fields.cmd_k = static_cast<uint16_t>(w.k);
  command.fields.cmd_n = static_cast<uint16_t>(w.n - (groups - 1) * shape().cols);
  command.fields.cmd_groups = static_cast<uint16_t>(groups);
  command.fields.cmd_acc_row = static_cast<uint16_t>(in.acc_row);
  command.fields.cmd_accumulate = in.accumulate;
  command.w = in.w;
  command.group_ready = in.plan.group_ready;
  for (uint64_t &cycle : command.group_ready) cycle += in.start;
  command.feeding = std::min(w.n, shape().cols);
  for (uint32_t c = 0; c < command.feeding; ++c) command.feeds.push_back({c, w.starts[c]});
  weights_.push_back(&command);
}

void ScaTileRtl::do_drain(const Drain &in, TileTarget target, const Booking &booking) {
  Command &command = add(in.start, booking);
  const num::DrainStage &stage = in.stage;
  command.fields.cmd_op = rtl::ScaSim::Op::kDrain;
  command.fields.cmd_fmt = static_cast<uint8_t>(stage.out);
  command.fields.cmd_n = static_cast<uint16_t>(in.n);
  command.fields.cmd_groups = static_cast<uint16_t>(sca_groups(shape(), in.n));
  command.fields.cmd_acc_row = static_cast<uint16_t>(in.acc_row);
  command.fields.cmd_integer = stage.integer;
  command.fields.cmd_has_scale = stage.scale != nullptr;
  command.fields.cmd_has_bias = stage.bias != nullptr;
  command.fields.cmd_act = static_cast<uint8_t>(stage.act);
  command.fields.cmd_lo = std::bit_cast<uint32_t>(stage.lo);
  command.fields.cmd_hi = std::bit_cast<uint32_t>(stage.hi);
  if (stage.scale != nullptr) command.scale.assign(stage.scale, stage.scale + in.n);
  if (stage.bias != nullptr) command.bias.assign(stage.bias, stage.bias + in.n);
  command.drains.open(in.start + kScaDrainPipeline + 1, in.stream, in.n, 0,
                      tile_moments(stall_seed_, in.n, 1, in.stream));
  command.target = std::move(target);
  command.m = in.m;
  command.element_bytes = num::bytes_of(stage.out);
  drains_.push_back(&command);
}

void ScaTileRtl::drained(Command &command) {
  const auto column = static_cast<ptrdiff_t>(command.drains.next());
  for (uint32_t i = 0; i < command.m; ++i) {
    std::memcpy(command.target.rows[i] + column * command.target.stride, &sim_->d_row[i], command.element_bytes);
  }
}

bool ScaTileRtl::probes(const Command &next) const {
  // One cycle early in a running chip; in tests in every cycle that the command waits.
  return next.tight && (cycle_ + 1 == next.start || (stall_seed_ != 0 && cycle_ < next.start));
}

bool ScaTileRtl::offer_command() {
  rtl::ScaSim::Inputs &in = sim_->in;
  const bool was_valid = in.cmd_valid;
  in.cmd_valid = false;
  if (waiting_.empty()) return was_valid;
  const Command &next = *waiting_.front();
  // One cycle early to see that the tile does not take it: ready depends on the fields, not on valid.
  const bool early = probes(next);
  if (!early && cycle_ < next.start) return was_valid;
  const rtl::ScaSim::Inputs ports = in;
  in = next.fields;
  in.a_valid = ports.a_valid;
  std::copy(std::begin(ports.w_valid), std::end(ports.w_valid), in.w_valid);
  in.p_valid = ports.p_valid;
  in.p_scale = ports.p_scale;
  in.p_bias = ports.p_bias;
  in.d_ready = ports.d_ready;
  in.cmd_valid = !early;
  return true;
}

void ScaTileRtl::offer_weights(Command &command) {
  const SparseColumns &w = *command.w;
  for (uint32_t c = 0; c < command.feeds.size(); ++c) {
    const Command::Feed &feed = command.feeds[c];
    if (feed.column >= w.n) continue;
    if (command.group_ready[feed.column / shape().cols] > cycle_) continue;
    const uint32_t end = w.starts[feed.column + 1];
    if (feed.next == end) {
      sim_->w_word[c] = stall_seed_ != 0 ? noise() : 0;
      sim_->w_place[c] = rtl::ScaSim::kLast | rtl::ScaSim::kEmpty;
    } else {
      sim_->w_word[c] = w.raw[feed.next];
      sim_->w_place[c] = w.rows[feed.next] | (feed.next + 1 == end ? rtl::ScaSim::kLast : 0);
    }
    sim_->in.w_valid[c / 64] |= uint64_t{1} << (c % 64);
  }
}

void ScaTileRtl::offer_rows() {
  rtl::ScaSim &sim = *sim_;
  rtl::ScaSim::Inputs &in = sim.in;
  in.a_valid = !activations_.empty() && activations_.front()->activations.due() <= cycle_;
  if (in.a_valid) {
    const TilePort &port = activations_.front()->activations;
    std::copy_n(port.head(), port.width(), sim.a_row);
  }
  in.w_valid[0] = in.w_valid[1] = 0;
  if (!weights_.empty() && weights_.front()->start < cycle_) offer_weights(*weights_.front());
  in.d_ready = in.p_valid = false;
  if (drains_.empty()) return;
  const Command &drain = *drains_.front();
  in.d_ready = drain.drains.due() <= cycle_;
  in.p_valid = cycle_ > drain.start && drain.read < std::max(drain.scale.size(), drain.bias.size());
  if (!in.p_valid) return;
  if (!drain.scale.empty()) in.p_scale = std::bit_cast<uint32_t>(drain.scale[drain.read]);
  if (!drain.bias.empty()) in.p_bias = std::bit_cast<uint32_t>(drain.bias[drain.read]);
}

void ScaTileRtl::take_command() {
  if (waiting_.empty()) return;
  Command &next = *waiting_.front();
  if (!sim_->in.cmd_valid) {
    if (probes(next) && sim_->out.cmd_ready) {
      differ("command could be taken in cycle " + std::to_string(cycle_) + ", before " + std::to_string(next.start));
    }
    return;
  }
  if (!sim_->out.cmd_ready) return;
  if (cycle_ != next.start) {
    differ("command taken in cycle " + std::to_string(cycle_) + " instead of " + std::to_string(next.start));
  }
  expected_idle_ = std::max(expected_idle_, next.complete);
  waiting_.pop_front();
}

void ScaTileRtl::take_weights(Command &command) {
  const SparseColumns &w = *command.w;
  for (uint32_t c = 0; c < command.feeds.size(); ++c) {
    const uint64_t taken = sim_->in.w_valid[c / 64] & sim_->out.w_ready[c / 64];
    if ((taken >> (c % 64) & 1) == 0) continue;
    Command::Feed &feed = command.feeds[c];
    const uint32_t end = w.starts[feed.column + 1];
    if (feed.next < end) ++feed.next;
    if (feed.next < end) continue;
    feed.column += shape().cols;
    if (feed.column < w.n) {
      feed.next = w.starts[feed.column];
    } else {
      --command.feeding;
    }
  }
  if (command.feeding == 0) weights_.pop_front();
}

void ScaTileRtl::take_rows() {
  const rtl::ScaSim::Inputs &in = sim_->in;
  const rtl::ScaSim::Outputs &out = sim_->out;
  const auto pass = [](std::deque<Command *> &queue, TilePort Command::*port) {
    TilePort &head = queue.front()->*port;
    head.pass();
    if (head.done()) queue.pop_front();
  };
  if ((in.w_valid[0] & out.w_ready[0]) != 0 || (in.w_valid[1] & out.w_ready[1]) != 0) take_weights(*weights_.front());
  if (in.a_valid && out.a_ready) pass(activations_, &Command::activations);
  if (in.p_valid && out.p_ready) ++drains_.front()->read;
  if (in.d_ready && out.d_valid) {
    drained(*drains_.front());
    pass(drains_, &Command::drains);
  }
}

void ScaTileRtl::finish(uint64_t until) {
  if (!commands_.empty()) run(until);
}

void ScaTileRtl::run(uint64_t until) {
  // An RTL error must not become an endless loop.
  constexpr uint64_t kPatience = 1'000'000;
  while (!commands_.empty()) {
    const bool late = commands_.front()->complete <= until && cycle_ >= until;
    if (cycle_ >= until && !late) return;
    if (late && cycle_ > commands_.front()->complete + kPatience) {
      throw std::logic_error("RTL sparse tile hangs: an operation that should end in cycle " +
                             std::to_string(commands_.front()->complete) + " has not in " + std::to_string(cycle_));
    }
    if (!running_) {
      const uint64_t next = waiting_.front()->start;
      if (next >= until) return;
      cycle_ = std::max(cycle_, next);
      running_ = true;
    }
    offer_rows();
    // All other outputs are those of the last clock edge.
    if (offer_command() || sim_->in.p_valid) sim_->settle();
    take_command();
    take_rows();
    if (recording_ && waves_.covers(cycle_)) {
      sim_->tick_recorded(waves_.begin_ps(cycle_), waves_.period_ps);
      ++recorded_;
    } else {
      sim_->tick();
    }
    ++cycle_;
    if (sim_->out.idle) {
      running_ = false;
      if (cycle_ != expected_idle_) {
        differ("idle in cycle " + std::to_string(cycle_) + " instead of " + std::to_string(expected_idle_));
      }
      // Everything that was taken is complete.
      const Command *const first_waiting = waiting_.empty() ? nullptr : waiting_.front();
      while (!commands_.empty() && commands_.front().get() != first_waiting) commands_.pop_front();
    } else {
      while (!commands_.empty() && commands_.front()->complete <= cycle_ && commands_.front()->ended(waiting_)) {
        commands_.pop_front();
      }
    }
  }
}

std::unique_ptr<ScaTile> make_sca_tile(const ScaShape &shape, bool rtl) {
  if (rtl) return std::make_unique<ScaTileRtl>(shape);
  return std::make_unique<ScaTileModel>(shape);
}

}  // namespace cx::hw

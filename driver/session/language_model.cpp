#include "driver/session/language_model.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "driver/include/cx/error.hpp"
#include "hw/common/num/formats.hpp"
#include "hw/regs/gen/packets.h"

namespace cx {

namespace {

using compiler::InputInfo;
using compiler::Type;

bool is_float(Type type) { return type == Type::F32 || type == Type::F16 || type == Type::BF16; }
bool is_integer(Type type) { return type == Type::I64 || type == Type::I32; }
bool contains(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

std::string replaced(std::string text, const std::string &from, const std::string &to) {
  const std::size_t at = text.find(from);
  return at == std::string::npos ? std::string() : text.replace(at, from.size(), to);
}

const InputInfo *find(const std::vector<InputInfo> &infos, const std::string &name) {
  for (const InputInfo &info : infos) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

/// The output that is a cache input's next state.
const InputInfo *present_of(const std::vector<InputInfo> &outputs, const std::string &past) {
  for (const char *from : {"past_key_values", "past_key_value", "past"}) {
    const std::string name = replaced(past, from, "present");
    if (name.empty()) continue;
    if (const InputInfo *found = find(outputs, name)) return found;
  }
  const std::string name = replaced(past, "past", "present");
  return name.empty() ? nullptr : find(outputs, name);
}

int open_dimensions(const InputInfo &info) {
  return static_cast<int>(
      std::count_if(info.shape.begin(), info.shape.end(), [](const auto &dimension) { return dimension.value < 0; }));
}

HostTensor integers(const InputInfo &info, const std::vector<int64_t> &values) {
  HostTensor tensor{info.name, compiler::name_of(info.type), {1, static_cast<int64_t>(values.size())}, {}};
  const std::size_t size = element_bytes(tensor.type);
  tensor.bytes.resize(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (size == 8) {
      std::memcpy(tensor.bytes.data() + i * size, &values[i], size);
    } else {
      const auto narrow = static_cast<int32_t>(values[i]);
      std::memcpy(tensor.bytes.data() + i * size, &narrow, size);
    }
  }
  return tensor;
}

SessionOptions with_updates(SessionOptions options, const std::vector<InputInfo> &inputs,
                            const std::vector<InputInfo> &outputs) {
  for (const InputInfo &input : inputs) {
    if (!is_float(input.type) || !contains(input.name, "past") || open_dimensions(input) != 0) continue;
    if (const InputInfo *output = present_of(outputs, input.name)) options.in_place[output->name] = input.name;
  }
  return options;
}

}  // namespace

const char *name_of(CacheStyle style) {
  switch (style) {
    case CacheStyle::none:
      return "none";
    case CacheStyle::slots:
      return "slots";
    case CacheStyle::append:
      return "append";
  }
  throw UsageError("unknown style of cache");
}

LanguageModel::LanguageModel(Device &device, const std::filesystem::path &model, const LanguageModelOptions &options)
    : LanguageModel(device, compiler::Model(model), options) {}

LanguageModel::LanguageModel(Device &device, const compiler::Model &model, const LanguageModelOptions &options)
    : device_(device),
      options_(options),
      inputs_(model.inputs()),
      outputs_(model.outputs()),
      session_(device, model, with_updates(options.session, inputs_, outputs_)) {
  if (compiler::needs_ranges(options.session.precision) && options.session.ranges.empty()) {
    throw InputError(
        std::string("precision ") + compiler::name_of(options.session.precision) +
        " needs ranges, which are not measured for language models: give them, or take fp32, fp16 or bf16");
  }
  recognise();
  recognise_cache();
  std::sort(options_.buckets.begin(), options_.buckets.end());
  for (int64_t bucket : options_.buckets) {
    if (bucket < 1 || bucket > context_) {
      throw InputError("a program for " + std::to_string(bucket) + " tokens: expected 1 to " +
                       std::to_string(context_));
    }
  }
  for (CacheTensor &cache : caches_) {
    cache.memory = DeviceTensor::allocate(device, compiler::name_of(find(inputs_, cache.input)->type), cache.shape);
    cache_bytes_ += cache.memory.bytes();
    session_.bind_input(cache.input, cache.memory);
  }
  reset();
}

void LanguageModel::recognise() {
  const std::string where = session_.model().string() + ": ";
  std::vector<const InputInfo *> unknown;
  for (const InputInfo &info : inputs_) {
    if (is_float(info.type) && contains(info.name, "past")) continue;
    if (is_integer(info.type) && info.shape.size() == 2) {
      if (contains(info.name, "position") && positions_.empty()) {
        positions_ = info.name;
        continue;
      }
      if (contains(info.name, "mask") && mask_.empty()) {
        mask_ = info.name;
        continue;
      }
    }
    unknown.push_back(&info);
  }
  for (const InputInfo *info : unknown) {
    const bool named = contains(info->name, "input_ids") || contains(info->name, "tokens") || unknown.size() == 1;
    if (tokens_.empty() && named && is_integer(info->type) && info->shape.size() == 2) {
      tokens_ = info->name;
    } else {
      throw InputError(where + "input '" + info->name + "', " + signature_text(*info) +
                       ", is not understood: expected integer [1, S] tokens, positions and attention mask, and floats "
                       "past*");
    }
  }
  if (tokens_.empty()) throw InputError(where + "has no input of tokens, integer [1, S]");
  for (const InputInfo &info : outputs_) {
    if (contains(info.name, "present")) continue;
    if (!logits_.empty() && info.name != "logits") continue;
    if (is_float(info.type) && (info.shape.size() == 3 || !info.has_shape)) logits_ = info.name;
  }
  if (logits_.empty()) throw InputError(where + "has no output of scores, float [1, S, vocabulary]");
}

void LanguageModel::recognise_cache() {
  const std::string where = session_.model().string() + ": ";
  std::size_t fixed = 0;
  for (const InputInfo &info : inputs_) {
    if (!is_float(info.type) || !contains(info.name, "past")) continue;
    const InputInfo *present = present_of(outputs_, info.name);
    if (present == nullptr) throw InputError(where + "cache input '" + info.name + "' has no output present*");
    CacheTensor cache;
    cache.input = info.name;
    cache.output = present->name;
    for (const compiler::Dimension &dimension : info.shape) cache.shape.push_back(dimension.value);
    fixed += open_dimensions(info) == 0 ? 1 : 0;
    caches_.push_back(std::move(cache));
  }
  const InputInfo &tokens = *find(inputs_, tokens_);
  if (caches_.empty()) {
    const int64_t declared = tokens.shape[1].value;
    context_ = options_.context != 0 ? options_.context : declared;
    if (context_ < 1) {
      throw InputError(where + "input '" + tokens_ + "', " + signature_text(tokens) +
                       ", leaves the length open and the model has no cache: state the context");
    }
    if (declared > 0 && declared != context_) {
      throw InputError(where + "a context of " + std::to_string(context_) + ": input '" + tokens_ + "' is " +
                       signature_text(tokens));
    }
    return;
  }
  if (fixed != 0 && fixed != caches_.size()) {
    throw InputError(where + "some cache inputs have a fixed capacity and some have not");
  }
  if (fixed != 0) {
    style_ = CacheStyle::slots;
    if (positions_.empty()) throw InputError(where + "a cache of fixed capacity needs an input of positions");
    if (!mask_.empty()) throw InputError(where + "input '" + mask_ + "': a cache of fixed capacity takes no mask");
    // The capacity is the dimension that all caches have in common behind the batch.
    for (CacheTensor &cache : caches_) {
      for (std::size_t d = 1; d < cache.shape.size(); ++d) {
        const bool common = std::all_of(caches_.begin(), caches_.end(), [&](const CacheTensor &other) {
          return other.shape.size() > d && other.shape[d] == cache.shape[d];
        });
        if (common && cache.shape[d] > context_) {
          context_ = cache.shape[d];
          cache.axis = static_cast<int>(d);
        }
      }
    }
    if (options_.context > context_) {
      throw InputError(where + "a context of " + std::to_string(options_.context) + ": the caches hold " +
                       std::to_string(context_));
    }
    if (options_.context != 0) context_ = options_.context;
    return;
  }
  style_ = CacheStyle::append;
  context_ = options_.context;
  if (context_ < 1) throw InputError(where + "the cache has no fixed capacity: state the context that it shall hold");
  if (mask_.empty())
    throw InputError(where + "a cache that grows needs an attention mask, which hides its free entries");
  for (CacheTensor &cache : caches_) {
    const InputInfo &info = *find(inputs_, cache.input);
    if (cache.shape.empty() || info.shape.size() < 3) {
      throw InputError(where + "cache input '" + cache.input + "' is " + signature_text(info) +
                       ", expected [1, ..., length, size]");
    }
    if (cache.shape[0] < 0) cache.shape[0] = 1;
    const auto open = std::find(cache.shape.begin(), cache.shape.end(), -1);
    if (open == cache.shape.end() || std::find(open + 1, cache.shape.end(), -1) != cache.shape.end()) {
      throw InputError(where + "cache input '" + cache.input + "' is " + signature_text(info) +
                       ", expected the length of the past as the only open dimension behind the batch");
    }
    cache.axis = static_cast<int>(open - cache.shape.begin());
    *open = context_;
  }
}

void LanguageModel::reset() {
  length_ = 0;
  window_.clear();
  for (CacheTensor &cache : caches_) cache.memory.clear();
}

int64_t LanguageModel::bucket_for(int64_t count, int64_t room) const {
  for (int64_t bucket : options_.buckets) {
    if (bucket >= count && bucket <= room) return bucket;
  }
  if (!options_.buckets.empty() || style_ == CacheStyle::none) return style_ == CacheStyle::none ? context_ : count;
  int64_t bucket = 1;
  while (bucket < count) bucket *= 2;
  return bucket <= room ? bucket : count;
}

std::vector<float> LanguageModel::row_of(const HostTensor &logits, int64_t row) const {
  if (logits.shape.size() != 3 || logits.shape[0] != 1 || row >= logits.shape[1]) {
    throw InputError("output '" + logits_ + "' has shape " + shape_text(logits.shape) +
                     ", expected [1, S, vocabulary]");
  }
  const auto count = static_cast<std::size_t>(logits.shape[2]);
  const std::size_t size = element_bytes(logits.type);
  const std::byte *from = logits.bytes.data() + static_cast<std::size_t>(row) * count * size;
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (size == 4) {
      std::memcpy(&values[i], from + 4 * i, 4);
    } else {
      uint16_t half = 0;
      std::memcpy(&half, from + 2 * i, 2);
      values[i] = logits.type == "float16" ? num::decode_fp16(half) : num::decode_bf16(half);
    }
  }
  return values;
}

// tokens: run together; place: position of the first; visible: entries of the cache that count.
void LanguageModel::run_piece(std::span<const int64_t> tokens, int64_t place, int64_t visible, Step &step) {
  const auto count = static_cast<int64_t>(tokens.size());
  // Padding must have places of its own in the cache, behind the tokens: a later token overwrites them before any sees
  // them.
  const int64_t rows = bucket_for(count, style_ == CacheStyle::slots ? context_ - place : context_);
  step.padded += rows - count;
  std::vector<int64_t> ids(tokens.begin(), tokens.end()), positions, mask;
  ids.resize(static_cast<std::size_t>(rows), 0);
  for (int64_t i = 0; i < rows; ++i)
    positions.push_back(style_ == CacheStyle::append && i >= count ? place : place + i);
  if (style_ == CacheStyle::append) {
    for (int64_t i = 0; i < context_; ++i) mask.push_back(i < visible ? 1 : 0);
  }
  for (int64_t i = 0; i < rows; ++i) mask.push_back(i < count ? 1 : 0);

  std::vector<HostTensor> feed{integers(*find(inputs_, tokens_), ids)};
  if (!positions_.empty()) feed.push_back(integers(*find(inputs_, positions_), positions));
  if (!mask_.empty()) feed.push_back(integers(*find(inputs_, mask_), mask));
  for (CacheTensor &cache : caches_) {
    if (style_ != CacheStyle::append) continue;
    DeviceTensor &present = cache.present[rows];
    if (!present) {
      std::vector<int64_t> shape = cache.shape;
      shape[static_cast<std::size_t>(cache.axis)] += rows;
      present = DeviceTensor::allocate(device_, cache.memory.type(), shape);
      cache_bytes_ += present.bytes();
    }
    session_.bind_output(cache.output, present);
  }
  const std::vector<std::string> names{logits_};
  const std::vector<HostTensor> outputs = session_.run(feed, names);
  step.runs.push_back(session_.report());
  step.logits = row_of(outputs.at(0), count - 1);
  if (style_ == CacheStyle::append) move_new_entries(rows, count, step);
}

// From behind the past in present to their place in the cache: one copy for each run of rows.
void LanguageModel::move_new_entries(int64_t rows, int64_t count, Step &step) {
  const auto wall_start = std::chrono::steady_clock::now();
  LaunchObserver *observer = options_.session.launches;
  if (observer != nullptr) observer->before_copies();
  const Counters before = device_.counters();
  device_.mark_energy(Device::EnergyMark::begin);
  Queue &queue = device_.queue();
  std::vector<Fence> fences;
  DeviceCopies copies;
  for (std::size_t c = 0; c < caches_.size(); ++c) {
    CacheTensor &cache = caches_[c];
    const auto axis = static_cast<std::size_t>(cache.axis);
    uint64_t row = element_bytes(cache.memory.type()), outer = 1;
    for (std::size_t d = axis + 1; d < cache.shape.size(); ++d) row *= static_cast<uint64_t>(cache.shape[d]);
    for (std::size_t d = 0; d < axis; ++d) outer *= static_cast<uint64_t>(cache.shape[d]);
    const uint64_t bytes = row * static_cast<uint64_t>(count);
    const uint64_t to_pitch = row * static_cast<uint64_t>(context_),
                   from_pitch = to_pitch + row * static_cast<uint64_t>(rows);
    const bool last = c + 1 == caches_.size();
    fences.push_back(queue.copy_2d(static_cast<uint32_t>(CX_DIRECTION_DEVICE_TO_DEVICE),
                                   cache.memory.address() + row * static_cast<uint64_t>(length_), to_pitch,
                                   cache.present.at(rows).address() + to_pitch, from_pitch, bytes, outer,
                                   {.barrier = fences.empty(), .interrupt = last, .ring = last}));
    copies.bytes += bytes * outer;
    copies.tensors.push_back(cache.input);
  }
  fences.back().wait();
  uint64_t begin = UINT64_MAX, end = 0;
  for (const Fence &fence : fences) {
    const Completion completion = fence.wait();
    begin = std::min(begin, completion.start);
    end = std::max(end, completion.end);
  }
  device_.mark_energy(Device::EnergyMark::end);
  RunReport &report = copies.report;
  const double cycle_us = 1000.0 / device_.target().clock_khz;
  report.counters = device_.counters_since(before);
  report.energy = device_.energy_between_marks();
  report.energy_span_us = static_cast<double>(report.energy.cycles) * cycle_us;
  report.point = device_.operating_point();
  report.timing_only = step.runs.back().timing_only;
  report.cycles = end - begin;
  report.latency_us = static_cast<double>(report.cycles) * cycle_us;
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - wall_start).count();
  if (observer != nullptr) observer->after_copies(copies);
  step.moves.push_back(std::move(copies));
}

RunReport LanguageModel::Step::moved() const {
  RunReport all;
  for (const DeviceCopies &copies : moves) all = &copies == &moves.front() ? copies.report : all + copies.report;
  return all;
}

RunReport LanguageModel::Step::total() const {
  RunReport all;
  for (const RunReport &run : runs) all = &run == &runs.front() ? run : all + run;
  return moves.empty() ? all : all + moved();
}

uint64_t LanguageModel::Step::moved_bytes() const {
  uint64_t bytes = 0;
  for (const DeviceCopies &copies : moves) bytes += copies.bytes;
  return bytes;
}

LanguageModel::Step LanguageModel::feed(std::span<const int64_t> tokens) {
  if (tokens.empty()) throw InputError("a step needs at least one token");
  for (int64_t token : tokens) {
    if (token < 0) throw InputError("token " + std::to_string(token) + " is negative");
  }
  const auto count = static_cast<int64_t>(tokens.size());
  Step step;
  if (style_ == CacheStyle::none) {
    window_.insert(window_.end(), tokens.begin(), tokens.end());
    const auto most = static_cast<std::size_t>(context_);
    if (window_.size() > most) window_.erase(window_.begin(), window_.end() - static_cast<std::ptrdiff_t>(most));
    run_piece(window_, 0, 0, step);
    length_ += count;
    return step;
  }
  if (length_ + count > context_) {
    throw InputError("the cache holds " + std::to_string(context_) + " tokens; there are " + std::to_string(length_) +
                     " and " + std::to_string(count) + " more");
  }
  const int64_t most = options_.buckets.empty() ? context_ : options_.buckets.back();
  for (int64_t done = 0; done < count;) {
    const int64_t piece = std::min(count - done, most);
    run_piece(tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(piece)), length_, length_, step);
    length_ += piece;
    done += piece;
  }
  return step;
}

}  // namespace cx

#include "driver/runtime/executable.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <sstream>

#include "driver/runtime/image_builder.hpp"
#include "driver/umd/command_buffer.hpp"
#include "driver/umd/host_trace.hpp"
#include "driver/umd/stream.hpp"
#include "hw/regs/gen/packets.h"

namespace cx {

namespace {

constexpr uint32_t kImageSegment = 0, kWorkspaceSegment = 1;
constexpr uint64_t kBufferAlign = 64;

std::string hex(uint64_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

std::string names_of(const std::vector<Binding> &bindings) {
  std::string text;
  for (const Binding &binding : bindings) text += (text.empty() ? "'" : ", '") + binding.name + "'";
  return text.empty() ? "none" : text;
}

double microseconds(uint64_t cycles, uint32_t clock_khz) { return static_cast<double>(cycles) * 1000.0 / clock_khz; }

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

Executable::Executable(Device &device, Program program, const ExecutableOptions &options)
    : device_(device), program_(std::move(program)), options_(options) {
  validate(program_);
  if (program_.arch_hash != device.target().arch_hash && !options.skip_arch_check) {
    throw InputError("program '" + program_.name + "' is compiled for architecture " + hex(program_.arch_hash) +
                     ", this device is " + hex(device.target().arch_hash));
  }
  const HostSpan span("load program", program_.name, &device);
  image_ = device.allocate(program_.image.size(), ImageBuilder::kMaxAlign);
  device.upload(image_.address(), program_.image);

  timing_dependence_ = cx::timing_dependence(program_);
  timing_obstacle_ = timing_dependence_;
  const ImageInfo image = parse_image(program_.image);
  sca_tiles_ = image.sca_tiles;
  segments_.resize(image.segment_count);
  segments_[kImageSegment] = {image_.address(), image_.size()};
  if (program_.workspace_bytes) {
    if (segments_.size() <= kWorkspaceSegment)
      throw InputError("program '" + program_.name + "' has a workspace but no segment for it");
    workspace_ = device.allocate(program_.workspace_bytes, ImageBuilder::kMaxAlign);
    segments_[kWorkspaceSegment] = {workspace_.address(), workspace_.size()};
  }
  if (program_.constants) {
    if (!options_.constants || &options_.constants->constants() != program_.constants.get()) {
      throw UsageError("program '" + program_.name + "' needs the device copy of its shared constants");
    }
    options_.constants->update();
  }
  std::set<std::string> outside = options_.device_bound;
  const auto make = [&](const std::vector<Binding> &bindings, std::vector<Slot> &slots, bool device_writes) {
    slots.reserve(bindings.size());
    for (const Binding &binding : bindings) {
      Slot slot{&binding, {}, {}, {}, -1};
      if (device_writes) {
        for (size_t i = 0; i < inputs_.size(); ++i) {
          if (inputs_[i].binding->segment == binding.segment) slot.updates = static_cast<int>(i);
        }
      }
      const bool elsewhere = outside.erase(binding.name) != 0 || slot.updates >= 0;
      if (binding.bytes && !elsewhere) {
        slot.device = device.allocate(binding.bytes, kBufferAlign);
        slot.host = device.allocate_host(binding.bytes, device_writes);
      }
      slots.push_back(std::move(slot));
    }
  };
  make(program_.inputs, inputs_, false);
  make(program_.outputs, outputs_, true);
  if (!outside.empty()) {
    throw InputError("'" + *outside.begin() + "' is neither an input nor an output of program '" + program_.name + "'");
  }
  segment_table_ = device.allocate(segments_.size() * sizeof(cx_segment));
  segment_table_host_ = device.allocate_host(segments_.size() * sizeof(cx_segment), false);
  update_segment_table();
  device.upload(segment_table_.address(), std::as_bytes(std::span(segments_)));
  table_current_ = true;
}

void Executable::set_timing_only(bool on, const std::string &obstacle) {
  options_.timing_only = on;
  timing_obstacle_ = obstacle.empty() ? timing_dependence_ : obstacle;
}

Executable::Slot &Executable::find(std::vector<Slot> &slots, const std::string &name, const char *kind) {
  for (Slot &slot : slots) {
    if (slot.binding->name == name) return slot;
  }
  throw InputError(std::string(kind) + " '" + name + "' is not an " + kind + " of program '" + program_.name +
                   "', which has " + names_of(&slots == &inputs_ ? program_.inputs : program_.outputs));
}

void Executable::bind(Slot &slot, DeviceTensor tensor, const char *kind) {
  const Binding &binding = *slot.binding;
  if (tensor && (tensor.type() != binding.type || tensor.shape() != binding.shape)) {
    throw InputError(std::string(kind) + " '" + binding.name + "' is " + binding.type + " " +
                     shape_text(binding.shape) + ", the device tensor is " + tensor.type() + " " +
                     shape_text(tensor.shape()));
  }
  slot.bound = std::move(tensor);
}

void Executable::bind_input(const std::string &name, DeviceTensor tensor) {
  bind(find(inputs_, name, "input"), std::move(tensor), "input");
}

void Executable::bind_output(const std::string &name, DeviceTensor tensor) {
  Slot &slot = find(outputs_, name, "output");
  if (slot.updates >= 0) {
    throw UsageError("output '" + name + "' updates input '" +
                     inputs_[static_cast<size_t>(slot.updates)].binding->name +
                     "' in place and lies where that lies: bind the input");
  }
  bind(slot, std::move(tensor), "output");
}

const Executable::Slot &Executable::memory_of(const Slot &slot) const {
  return slot.updates >= 0 ? inputs_[static_cast<size_t>(slot.updates)] : slot;
}

uint64_t Executable::address_of(const Slot &slot) const {
  const Slot &memory = memory_of(slot);
  return memory.bound ? memory.bound.address() : memory.device.address();
}

bool Executable::update_segment_table() {
  std::vector<cx_segment> table = segments_;
  for (const auto *slots : {&inputs_, &outputs_}) {
    for (const Slot &slot : *slots) {
      const uint64_t address = address_of(slot);
      table[slot.binding->segment] = {address, address ? slot.binding->bytes : 0};
    }
  }
  if (program_.constants) {
    table[program_.constants_segment] = {options_.constants->address(), program_.constants_bytes};
  }
  if (table_current_ && std::memcmp(table.data(), segments_.data(), table.size() * sizeof(cx_segment)) == 0)
    return false;
  table_current_ = false;
  segments_ = std::move(table);
  std::memcpy(segment_table_host_.data(), segments_.data(), segment_table_host_.size());
  return true;
}

void Executable::check_memory() const {
  for (const auto *slots : {&inputs_, &outputs_}) {
    for (const Slot &slot : *slots) {
      if (slot.binding->bytes && !address_of(slot)) {
        throw InputError(std::string(slots == &inputs_ ? "input '" : "output '") + slot.binding->name +
                         "' has no memory: bind it to a device tensor");
      }
    }
  }
  for (const Slot &output : outputs_) {
    if (output.updates >= 0 || !output.bound) continue;
    for (const auto *slots : {&inputs_, &outputs_}) {
      for (const Slot &other : *slots) {
        if (&other == &output || !other.bound.shares_memory(output.bound)) continue;
        throw InputError("output '" + output.binding->name + "' and " + (slots == &inputs_ ? "input '" : "output '") +
                         other.binding->name + "' are bound to the same memory, but program '" + program_.name +
                         "' does not update in place");
      }
    }
  }
}

void Executable::stage_inputs(std::span<const HostTensor> inputs) {
  std::vector<const HostTensor *> found(inputs_.size(), nullptr);
  for (const HostTensor &tensor : inputs) {
    const auto slot =
        std::find_if(inputs_.begin(), inputs_.end(), [&](const Slot &s) { return s.binding->name == tensor.name; });
    if (slot == inputs_.end()) {
      throw InputError("input '" + tensor.name + "' is not an input of program '" + program_.name + "', which has " +
                       names_of(program_.inputs));
    }
    const HostTensor *&place = found[static_cast<size_t>(slot - inputs_.begin())];
    if (place) throw InputError("input '" + tensor.name + "' is given twice");
    place = &tensor;
    const Binding &binding = *slot->binding;
    if (slot->bound) throw InputError("input '" + tensor.name + "' is bound to a device tensor and is given as well");
    if (tensor.type != binding.type) {
      throw InputError("input '" + tensor.name + "' has type " + tensor.type + ", expected " + binding.type);
    }
    if (tensor.shape != binding.shape) {
      throw InputError("input '" + tensor.name + "' has shape " + shape_text(tensor.shape) + ", expected " +
                       shape_text(binding.shape));
    }
    if (tensor.bytes.size() != binding.bytes) {
      throw InputError("input '" + tensor.name + "' has " + std::to_string(tensor.bytes.size()) + " bytes, expected " +
                       std::to_string(binding.bytes) + " of " + binding.type + " " + shape_text(binding.shape));
    }
  }
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].bound) continue;
    if (!found[i]) {
      const Binding &binding = *inputs_[i].binding;
      throw InputError("input '" + binding.name + "' (" + binding.type + " " + shape_text(binding.shape) +
                       ") is missing");
    }
    if (inputs_[i].host) std::memcpy(inputs_[i].host.data(), found[i]->bytes.data(), found[i]->bytes.size());
  }
}

std::vector<HostTensor> Executable::run(std::span<const HostTensor> inputs) {
  std::vector<Slot *> wanted;
  for (Slot &slot : outputs_) {
    if (!is_bound(slot)) wanted.push_back(&slot);
  }
  return run_slots(inputs, wanted);
}

std::vector<HostTensor> Executable::run(std::span<const HostTensor> inputs, std::span<const std::string> outputs) {
  std::vector<Slot *> wanted;
  for (const std::string &name : outputs) {
    wanted.push_back(&find(outputs_, name, "output"));
    if (std::count(wanted.begin(), wanted.end(), wanted.back()) > 1)
      throw InputError("output '" + name + "' is asked for twice");
  }
  return run_slots(inputs, wanted);
}

std::vector<HostTensor> Executable::run_slots(std::span<const HostTensor> inputs, const std::vector<Slot *> &wanted) {
  const auto wall_start = std::chrono::steady_clock::now();
  const HostSpan span("run", program_.name, &device_);
  check_memory();
  stage_inputs(inputs);
  for (Slot *slot : wanted) {
    if (!slot->host && slot->binding->bytes) slot->host = device_.allocate_host(slot->binding->bytes);
  }
  const bool new_table = update_segment_table();
  const Counters before = device_.counters();
  device_.mark_energy(Device::EnergyMark::begin);

  Queue &queue = device_.queue();
  std::vector<Fence> fences;
  RunReport report;
  const auto copied_in = [](const Slot &slot) { return slot.binding->bytes != 0 && !slot.bound; };
  // Copies of one direction need not wait for each other. Only the last packet rings and interrupts.
  const Target &target = device_.target();
  const bool new_split = target.shared_array && device_.array_split() != sca_tiles_;
  size_t left = 1 + (new_table ? 1 : 0) + (new_split ? 1 : 0) +
                static_cast<size_t>(std::count_if(inputs_.begin(), inputs_.end(), copied_in)) +
                static_cast<size_t>(std::count_if(wanted.begin(), wanted.end(),
                                                  [](const Slot *slot) { return slot->binding->bytes != 0; }));
  auto how = [&](bool barrier) {
    --left;
    return Submit{.barrier = barrier, .interrupt = left == 0, .ring = left == 0};
  };
  if (new_table) {
    fences.push_back(queue.copy_to_device(segment_table_.address(), segment_table_host_.iova(),
                                          segment_table_host_.size(), how(true)));
  }
  for (const Slot &slot : inputs_) {
    if (slot.bound) report.resident_bytes += slot.binding->bytes;
    if (!copied_in(slot)) continue;
    fences.push_back(
        queue.copy_to_device(slot.device.address(), slot.host.iova(), slot.host.size(), how(fences.empty())));
    report.input_bytes += slot.host.size();
  }
  if (new_split) fences.push_back(queue.reconfigure(sca_tiles_, how(fences.empty())));
  const size_t launch = fences.size();
  fences.push_back(queue.launch(image_.address(), static_cast<uint32_t>(image_.size()), segment_table_.address(),
                                static_cast<uint32_t>(segments_.size()), options_.timeout_kcycles, how(true),
                                runs_timing_only()));
  for (const Slot *slot : wanted) {
    if (!slot->binding->bytes) continue;
    fences.push_back(
        queue.copy_to_host(slot->host.iova(), address_of(*slot), slot->host.size(), how(fences.size() == launch + 1)));
    report.output_bytes += slot->host.size();
  }
  for (const Slot &slot : outputs_) {
    if (slot.bound) report.resident_bytes += slot.binding->bytes;
  }
  {
    const HostSpan waiting("wait", {}, &device_);
    fences.back().wait_status(options_.wait_limit_us);
  }
  std::optional<size_t> failed;
  for (size_t i = 0; i < fences.size(); ++i) {
    fences[i].wait_status(options_.wait_limit_us);
    if (fences[i].fault() && !failed) failed = i;
  }
  if (failed) {
    const DeviceFault::Record record = *fences[*failed].fault();
    std::string message = "program '" + program_.name + "': " +
                          (*failed == launch                    ? "launch"
                           : new_split && *failed + 1 == launch ? "change of the array's split"
                           : *failed < launch                   ? "input copy"
                                                                : "output copy") +
                          " failed: " + Device::describe(record);
    if (*failed == launch && record.engine >= 0) message += "; " + where(record.engine, record.pc);
    Device::throw_fault(record, message);
  }

  table_current_ = true;
  const Completion first = fences.front().wait_status(), middle = fences[launch].wait_status(),
                   last = fences.back().wait_status();
  device_.mark_energy(Device::EnergyMark::end);
  if (new_split) {
    const Completion change = fences[launch - 1].wait_status();
    report.reconfigurations = 1;
    report.reconfiguration_cycles = change.end - change.start;
  }
  report.counters = device_.counters_since(before);
  report.energy = device_.energy_between_marks();
  report.point = device_.operating_point();
  report.energy_span_us = microseconds(report.energy.cycles, target.clock_khz);
  report.cycles = last.end - first.start;
  report.latency_us = microseconds(report.cycles, target.clock_khz);
  report.launch_cycles = middle.end - middle.start;
  report.launch_us = microseconds(report.launch_cycles, target.clock_khz);
  report.timing_only = runs_timing_only();
  if (options_.timing_only) report.timing_obstacle = timing_obstacle_;
  report.macs = program_.macs;
  report.peak_macs_per_cycle = uint64_t{target.tiles - (target.shared_array ? sca_tiles_ : 0)} * target.tile_rows *
                               target.tile_cols * (multiplies_8_bit(program_) ? target.tile_pack : 1);
  report.mac_utilisation = ratio(static_cast<double>(report.macs), static_cast<double>(report.launch_cycles) *
                                                                       static_cast<double>(report.peak_macs_per_cycle));
  for (int i = 0; i < kEngines; ++i) {
    report.utilisation[i] =
        ratio(static_cast<double>(report.counters.engines[i].busy_cycles), static_cast<double>(report.launch_cycles));
  }
  report.workspace_bytes = program_.workspace_bytes;
  report.image_bytes = program_.image.size();
  report.device_peak_bytes = device_.memory_stats().peak;

  std::vector<HostTensor> outputs;
  outputs.reserve(wanted.size());
  for (const Slot *slot : wanted) {
    HostTensor tensor{slot->binding->name, slot->binding->type, slot->binding->shape, {}};
    if (slot->host) tensor.bytes.assign(slot->host.data(), slot->host.data() + slot->host.size());
    outputs.push_back(std::move(tensor));
  }
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - wall_start).count();
  report.simulated_cycles_per_wall_s = ratio(static_cast<double>(report.cycles), report.wall_s);
  report_ = report;
  return outputs;
}

void Executable::prepare_launch() {
  for (const auto *slots : {&inputs_, &outputs_}) {
    for (const Slot &slot : *slots) {
      if (slot.binding->bytes && !is_bound(slot))
        throw InputError(std::string(slots == &inputs_ ? "input '" : "output '") + slot.binding->name +
                         "' is not bound to a device tensor");
    }
  }
  check_memory();
  if (!update_segment_table()) return;
  device_.upload(segment_table_.address(), std::as_bytes(std::span(segments_)));
  table_current_ = true;
}

void Executable::launch(Stream &stream) {
  prepare_launch();
  // Which split there will be is not known yet; to ask for the present one costs next to nothing.
  if (device_.target().shared_array) {
    stream.enqueue([split = sca_tiles_](Queue &queue) { return queue.reconfigure(split); });
  }
  stream.enqueue([image = image_.address(), bytes = static_cast<uint32_t>(image_.size()),
                  table = segment_table_.address(), segments = static_cast<uint32_t>(segments_.size()),
                  timeout = options_.timeout_kcycles, timing_only = runs_timing_only()](Queue &queue) {
    return queue.launch(image, bytes, table, segments, timeout, {.interrupt = true}, timing_only);
  });
}

uint32_t Executable::record(CommandBuffer &commands, bool barrier) {
  prepare_launch();
  if (device_.target().shared_array) {
    commands.reconfigure(sca_tiles_, barrier);
    barrier = true;
  }
  return commands.launch(image_.address(), static_cast<uint32_t>(image_.size()), segment_table_.address(),
                         static_cast<uint32_t>(segments_.size()), options_.timeout_kcycles, barrier,
                         runs_timing_only());
}

std::string Executable::where(int engine, uint64_t pc) const {
  std::string text =
      std::string(engine >= 0 && engine < kEngines ? kEngineNames[engine] : "?") + " #" + std::to_string(pc);
  const DebugEntry *found = nullptr;
  for (const DebugEntry &entry : program_.debug) {
    if (static_cast<int>(entry.engine) == engine && pc >= entry.first && pc - entry.first < entry.count) found = &entry;
  }
  if (found) text += " node " + found->node;
  return text;
}

}  // namespace cx

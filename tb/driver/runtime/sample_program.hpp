// A small program of every part that a container has.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/program.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::test {

/// One float32[elements] tensor in, one out: out = max(in + addend, 0), where addend is a constant of the image, or of
/// `shared`. In place: the output is the input, updated. sca_tiles: split of a shared array.
inline Program sample_program(uint64_t arch_hash, uint32_t elements = 64, float addend = 1.5f, bool in_place = false,
                              const std::shared_ptr<SharedConstants> &shared = nullptr, uint32_t sca_tiles = 0) {
  ImageBuilder builder;
  const std::vector<float> constants(16, addend);
  const auto constant_bytes = std::as_bytes(std::span(constants));
  const uint64_t constant_offset = shared ? shared->place(constant_bytes) : builder.add_constants(constant_bytes, 64);
  const uint8_t output_segment = in_place ? 2 : 3;
  const auto constant_segment = static_cast<uint8_t>(shared ? output_segment + 1 : 0);
  const auto n = static_cast<uint16_t>(elements);
  const int32_t row = static_cast<int32_t>(elements) * 4;

  isa::Tdesc whole;
  whole.index = 0;
  whole.dtype = isa::DType::FP32;
  whole.base = 0;
  whole.dims = {1, 1, 1, n};
  whole.strides = {row, row, row, 4};
  isa::Tdesc addends = whole;
  addends.index = 1;
  addends.base = 4096;
  addends.dims = {1, 1, 1, 16};
  isa::Tdesc result = whole;
  result.index = 2;
  result.base = 8192;

  isa::Mdesc input;
  input.index = 0;
  input.segment = 2;
  input.strides = {row, row, row, 4};
  isa::Mdesc constant = input;
  constant.index = 1;
  constant.segment = constant_segment;
  constant.offset = constant_offset;
  isa::Mdesc output = input;
  output.segment = output_segment;

  const auto load = [](uint8_t dst, uint8_t src) {
    isa::DmaLoad in;
    in.dst = dst;
    in.src = src;
    return in.encode();
  };
  const auto post = [](uint8_t sem) {
    isa::SemPost in;
    in.sem = sem;
    in.count = 1;
    return in.encode();
  };
  const auto wait = [](uint8_t sem) {
    isa::SemWait in;
    in.sem = sem;
    in.count = 1;
    return in.encode();
  };
  const std::vector<isa::Inst> loads{whole.encode(), addends.encode(), input.encode(), constant.encode(),
                                     load(0, 0),     load(1, 1),       post(0),        isa::End{}.encode()};
  isa::Tdesc broadcast = addends;
  broadcast.dims = whole.dims;
  broadcast.strides = {0, 0, 0, 0};
  isa::VBinary add;
  add.func = isa::Binary::ADD;
  add.dst = 2;
  add.a = 0;
  add.b = 1;
  isa::VUnary relu;
  relu.func = isa::Unary::RELU;
  relu.dst = 2;
  relu.src = 2;
  const std::vector<isa::Inst> vector{wait(0),       whole.encode(), broadcast.encode(), result.encode(), add.encode(),
                                      relu.encode(), post(1),        isa::End{}.encode()};
  isa::DmaStore store;
  store.src = 2;
  store.dst = 0;
  const std::vector<isa::Inst> stores{wait(1), result.encode(), output.encode(), store.encode(), isa::End{}.encode()};
  builder.add_stream(static_cast<uint32_t>(isa::Engine::LOAD), loads);
  builder.add_stream(static_cast<uint32_t>(isa::Engine::STORE), stores);
  builder.add_stream(static_cast<uint32_t>(isa::Engine::VPU), vector);

  Program program;
  program.name = "sample";
  program.precision = "fp32";
  program.arch_hash = arch_hash;
  program.image = builder.finish(arch_hash, std::max(output_segment, constant_segment) + 1u, sca_tiles);
  program.workspace_bytes = 256;
  program.inputs = {{"x", "float32", {1, static_cast<int64_t>(elements)}, 2, uint64_t{elements} * 4}};
  program.outputs = {{"y", "float32", {static_cast<int64_t>(elements)}, output_segment, uint64_t{elements} * 4}};
  if (in_place) program.outputs[0].shape = program.inputs[0].shape;
  if (shared) {
    program.constants = shared;
    program.constants_segment = constant_segment;
    program.constants_bytes = shared->bytes().size();
  }
  program.debug = {{0, 0, 8, "input"}, {3, 0, 5, "add"}, {3, 5, 1, "relu"}, {1, 0, 5, "output"}};
  program.macs = 12345;
  return program;
}

}  // namespace cx::test

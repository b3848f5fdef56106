// Runs a compiled program (cx convert model.onnx --config tiny -o model.cxb) on a virtual card, first with inputs from
// the host, then with the first input kept on the device. Float32 inputs are filled with 0.5.
#include <cstdio>
#include <cx/cx.hpp>

namespace {

std::vector<float> halves(const cx::Binding &binding) {
  return std::vector<float>(binding.bytes / sizeof(float), 0.5F);
}

void print(const std::vector<cx::Tensor> &outputs, const cx_run_info &cost) {
  for (const cx::Tensor &output : outputs) {
    std::printf("%s:", output.name.c_str());
    const std::vector<float> values = output.values<float>();
    for (std::size_t i = 0; i < values.size() && i < 4; ++i) std::printf(" %g", values[i]);
    std::printf("\n");
  }
  std::printf("%.3f us simulated, %llu packets\n", cost.latency_us, static_cast<unsigned long long>(cost.packets));
}

// With all tensors on the device a launch is one packet of a stream, and many of them are one command buffer.
void replay(const cx::Device &device, cx::Executable &executable, const cx::Binding &output) {
  const cx::DeviceTensor answer(device, output.type, output.shape);
  executable.bind_output(output.name, answer);
  cx::CommandBuffer commands(device);
  for (int i = 0; i < 8; ++i) commands.launch(executable);
  commands.finish();
  cx::Stream stream(device);
  cx::Marker begin(device), end(device);
  stream.record(begin);
  stream.execute(commands);
  stream.record(end);
  stream.synchronize();
  std::printf("%.3f us simulated for 8 launches of a command buffer\n", end.us_since(begin));
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s PROGRAM.cxb [CARD]\n", argv[0]);
    return 2;
  }
  try {
    const auto device = cx::Device::open(argc > 2 ? argv[2] : "cx3210");
    const auto program = cx::Program::load(argv[1]);
    cx::Executable executable(device, program);

    const std::vector<cx::Binding> bindings = program.inputs();
    std::vector<cx::Tensor> inputs;
    for (const cx::Binding &binding : bindings) {
      inputs.push_back(cx::Tensor::of(binding.name, binding.shape, halves(binding)));
    }
    print(executable.run(inputs), executable.run_info());

    cx::DeviceTensor resident(device, bindings.at(0).type, bindings.at(0).shape);
    resident.write(halves(bindings.at(0)));
    executable.bind_input(bindings.at(0).name, resident);
    inputs.erase(inputs.begin());
    executable.run(inputs);  // the first run after binding also tells the device where its tensors are now
    print(executable.run(inputs), executable.run_info());

    if (bindings.size() == 1 && program.outputs().size() == 1) replay(device, executable, program.outputs().at(0));
  } catch (const cx::Error &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

// cx fault: faults that a card can be made to have.
#include <fmt/core.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "driver/include/cx/error.hpp"
#include "driver/tools/command.hpp"
#include "hw/common/port/cx_port.h"
#include "hw/common/vfio_user/channel.hpp"

namespace cx::tools {
namespace {

constexpr const char *kScheme = "vfio-user:";

struct InjectCommand {
  std::string device, kind;
  std::vector<std::string> keys;
};

std::string fault_text(const InjectCommand &options) {
  std::string text = options.kind;
  for (const std::string &key : options.keys) text += (text.find('@') == std::string::npos ? "@" : ",") + key;
  return text;
}

/// Asks the fault door of a served card, which has nothing to do with the card's client.
int inject(const InjectCommand &options) {
  if (options.device.rfind(kScheme, 0) != 0) {
    throw InputError(
        "cx fault inject works on a card that cx device serves: --device vfio-user:SOCKET; for a card in the same "
        "process see cx run --fault");
  }
  const std::string path = options.device.substr(std::string(kScheme).size()) + ".faults";
  vfio::Fd door;
  try {
    door = vfio::connect_to(path.c_str());
  } catch (const std::exception &) {
    throw InputError(path + ": nobody listens there; serve the card with cx device --set faults.door=true");
  }
  const std::string fault = fault_text(options);
  const std::string line = fault + "\n";
  std::string reply;
  char part[512];
  ssize_t bytes = send(door.get(), line.data(), line.size(), MSG_NOSIGNAL);
  while (bytes > 0 && reply.find('\n') == std::string::npos) {
    bytes = read(door.get(), part, sizeof part);
    if (bytes > 0) reply.append(part, static_cast<std::size_t>(bytes));
  }
  reply = reply.substr(0, reply.find('\n'));
  if (reply != "ok") throw InputError(reply.empty() ? path + ": the card does not answer" : reply);
  fmt::print("armed: {}\n", fault);
  return kDone;
}

int list() {
  char *text = nullptr;
  cx_fault_help(&text);
  fmt::print("{}", text);
  std::free(text);
  return kDone;
}

}  // namespace

void add_fault(CLI::App &app, Invocation &invocation) {
  CLI::App *command = app.add_subcommand("fault", "Provoke faults in a card that cx device serves (docs/faults.md)");
  command->require_subcommand(1);
  command->add_subcommand("list", "Kinds of faults and their keys")->callback([&invocation] {
    invocation.action = [] { return list(); };
  });
  auto options = std::make_shared<InjectCommand>();
  CLI::App *arm = command->add_subcommand("inject", "Arm a fault; it strikes as simulated time goes on");
  arm->add_option("kind", options->kind, "Kind of fault; also KIND@key=value,...")->required();
  arm->add_option("keys", options->keys, "key=value, as cx fault list tells");
  arm->add_option("--device", options->device, "vfio-user:SOCKET of the card")->envname("CX_DEVICE")->required();
  arm->callback([options, &invocation] { invocation.action = [options] { return inject(*options); }; });
}

}  // namespace cx::tools

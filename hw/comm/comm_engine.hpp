// The communication engines of all cards: run command lists over a fabric. Rule: README.md.
#ifndef HW_COMM_COMM_ENGINE_HPP
#define HW_COMM_COMM_ENGINE_HPP

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "hw/comm/fabric.hpp"
#include "hw/common/port/cx_cluster.h"

namespace cx::hw::net {

struct CommTiming {
  double reduce_bytes_per_s = 400e9;
  Ps command_time = 0;
  Ps watchdog = 0;  // without progress
  std::uint32_t cards_per_node = 1;
};

// A command that cannot be run: rank, index and what is wrong with it.
class CommProgramError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

struct CommOutcome {
  int status = CX_COMM_DONE;
  std::uint32_t rank = 0, peer = 0, qp = 0;
  std::uint64_t bytes_outstanding = 0;
  Ps time = 0;
  std::string message;
  std::vector<Ps> rank_end;
  std::uint64_t payload_bytes = 0, network_bytes = 0;  // of SENDs; of those to other nodes
  std::vector<std::uint64_t> sent, received;           // by rank
};

class CommEngine final : Fabric::Listener, EventQueue::Handler {
 public:
  // Commands and memory have to live as long as the engine. Throws CommProgramError.
  CommEngine(Fabric &fabric, const cx_comm_program *programs, std::size_t ranks, int type, const CommTiming &timing);

  // Before run(); `trace` has to live as long as the engine.
  void trace(const cx_comm_trace &trace);

  // Until every command is complete or one has failed.
  CommOutcome run();

 private:
  struct Progress {
    std::uint32_t begin = 0;                // in Rank::after
    std::uint32_t follower = CX_COMM_NONE;  // next SEND or RECV of the same connection
    std::uint8_t waits = 0;                 // for so many commands, a predecessor on its connection among them
    bool issued = false, done = false;
  };
  struct Rank {
    const cx_comm_program *program = nullptr;
    std::vector<Progress> commands;    // of each, and one more
    std::vector<std::uint32_t> after;  // who waits for command c: after[begin of c] .. after[begin of c + 1 - 1]
    std::size_t left = 0;
    std::deque<std::uint32_t> local;  // REDUCE and the like that wait for the engine
    bool busy = false;
    Ps end = 0;
    std::vector<Ps> began;  // of commands, while traced
  };
  enum What : std::uint32_t { kLocalDone, kWatchdog, kSample };

  void load(std::uint32_t rank);
  void check(std::uint32_t rank, std::size_t index) const;
  void issue(std::uint32_t rank, std::uint32_t index);
  void satisfied(std::uint32_t rank, std::uint32_t index);
  void complete(std::uint32_t rank, std::uint32_t index, Ps when);
  void start_local(std::uint32_t rank);
  void execute(std::uint32_t rank, const cx_comm_command &command);
  std::byte *memory(std::uint32_t rank, std::uint64_t offset) const;
  // What a command reads at its source: by its extent if it is indirect. Throws CommDataError.
  cx_comm_extent source_of(std::uint32_t rank, const cx_comm_command &command) const;
  // Bytes that a local command takes from memory.
  std::uint64_t work(std::uint32_t rank, const cx_comm_command &command) const;
  void stop_data(std::uint32_t rank, const cx_comm_command &command, const std::string &what);
  void stop(int status, std::uint32_t rank, std::uint32_t peer, std::uint32_t qp, std::uint64_t bytes, std::string why);
  void report_stall(bool idle);

  void on_event(std::uint32_t what, std::uint64_t argument) override;
  void sent(std::uint32_t rank, std::uint64_t tag, Ps when) override;
  void received(std::uint32_t rank, std::uint64_t tag, std::uint64_t bytes, std::uint32_t digest) override;
  void failed(const Fabric::Connection &connection, std::uint32_t qp, Status status) override;

  Fabric &fabric_;
  int type_;
  CommTiming timing_;
  std::vector<Rank> ranks_;
  std::size_t ranks_left_ = 0;
  std::uint64_t progress_ = 0, progress_seen_ = 0;
  bool starting_ = true, stopped_ = false;
  CommOutcome outcome_;
  const cx_comm_trace *trace_ = nullptr;
};

// Local commands on memory, as the engine executes them. Element counts, not bytes.
void reduce_elements(int type, const std::byte *source, std::byte *target, std::size_t count);
std::size_t element_bytes(int type);

}  // namespace cx::hw::net

#endif

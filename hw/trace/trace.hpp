// The trace unit: blocks append records (hw/regs/gen/trace.h), which go on to a sink in pieces.
#ifndef HW_TRACE_TRACE_HPP
#define HW_TRACE_TRACE_HPP

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "hw/regs/gen/trace.h"

namespace cx::hw {

// What took most of the time of an instruction or a transfer: numbers of value `limit` of records.
enum class Limit : std::uint8_t { engine, compute, scratchpad, memory, network, link };
inline constexpr std::size_t kLimits = 6;

// A block has a pointer to it, which is null while nothing is recorded: that test is all that tracing costs then.
// Recording changes neither results nor simulated time. One thread appends; any thread may flush().
class Trace {
 public:
  using Record = cx_trace_record;
  using Sink = std::function<void(std::span<const Record>)>;

  static constexpr std::size_t kPiece = 1024;  // records that are kept before they go to the sink

  struct Options {
    Sink sink;
    std::uint64_t kinds = ~std::uint64_t{0};  // bit n: records of kind n are wanted
    std::uint64_t period_ps = 1000;           // of a core cycle
    std::uint64_t origin_ps = 0;              // added to kernel time, modulo 2^64
    std::uint64_t first_id = 0;               // new ids follow it
    std::vector<std::uint32_t> functions;     // entries of the firmware's functions, rising
  };

  explicit Trace(Options options);

  bool wants(unsigned kind) const { return (options_.kinds >> kind & 1) != 0; }
  const std::vector<std::uint32_t> &functions() const { return options_.functions; }

  std::uint64_t new_id() { return ++last_id_; }

  // Core cycles, and 1/65536 of them, since kernel time 0, as a record's time.
  std::uint64_t time(std::uint64_t cycles) const { return cycles * options_.period_ps + options_.origin_ps; }
  std::uint64_t fine_time(std::uint64_t fine) const {
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(fine) * options_.period_ps >> 16) +
           options_.origin_ps;
  }
  std::uint64_t kernel_time(std::uint64_t ps) const { return ps + options_.origin_ps; }

  void append(const Record &record);

  // Blocks call it with the kernel's time when they do something: from `next` on `sampler` is called, which says when
  // it wants to be called again.
  void tick(std::uint64_t kernel_ps) {
    if (kernel_ps >= next_sample_ps_) next_sample_ps_ = sampler_(kernel_ps);
  }
  void set_sampler(std::function<std::uint64_t(std::uint64_t kernel_ps)> sampler, std::uint64_t next) {
    sampler_ = std::move(sampler);
    next_sample_ps_ = next;
  }

  // Gives what has been appended to the sink.
  void flush();

  // What memories and links are asked by, while `cause` lives.
  class Cause {
   public:
    Cause(Trace *trace, std::uint64_t id) : trace_(trace), before_(trace != nullptr ? trace->cause_ : 0) {
      if (trace_ != nullptr) trace_->cause_ = id;
    }
    ~Cause() {
      if (trace_ != nullptr) trace_->cause_ = before_;
    }
    Cause(const Cause &) = delete;
    Cause &operator=(const Cause &) = delete;

   private:
    Trace *trace_;
    std::uint64_t before_;
  };
  std::uint64_t cause() const { return cause_; }

 private:
  Options options_;
  std::unique_ptr<Record[]> piece_;
  std::atomic<std::size_t> count_{0};
  std::mutex sending_;
  std::size_t sent_ = 0;  // of the piece; guarded by sending_
  std::uint64_t last_id_ = 0;
  std::uint64_t cause_ = 0;
  std::function<std::uint64_t(std::uint64_t)> sampler_;
  std::uint64_t next_sample_ps_ = ~std::uint64_t{0};
};

// Requests of a resource that follow each other without a pause, or overlap, as one record with their sums.
class TraceBurst {
 public:
  // A request that holds the resource for [begin, end), in ps; `values` are added up.
  void add(Trace &trace, std::uint16_t kind, std::uint16_t unit, std::uint64_t begin, std::uint64_t end,
           const std::array<std::uint64_t, CX_TRACE_VALUES> &values);
  // Appends what has been gathered. `trace`: the one that it was added for.
  void close(Trace &trace);
  void forget() { open_ = false; }

 private:
  bool open_ = false;
  Trace::Record record_{};
};

}  // namespace cx::hw

#endif

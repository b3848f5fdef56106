// One (pseudo) channel of a DRAM: prices bursts in closed form, with state for each bank.
#ifndef HW_DRAM_CHANNEL_HPP
#define HW_DRAM_CHANNEL_HPP

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "hw/dram/timing.hpp"

namespace cx::hw {

// Why the data bus of a channel did not carry data.
enum class DramLoss : std::uint8_t {
  idle,        // nothing was asked for
  row,         // a bank was opening or closing a row (tRCD, tRP, tRAS, tRC, tRTP, tWR)
  activate,    // activates were too close (tRRD, tFAW)
  bank_group,  // bursts of one bank group followed one another (tCCD_L)
  turnaround,  // the bus turned between read and write, or between ranks
  refresh,
  count,
};

struct DramCounts {
  std::uint64_t bursts_read = 0;     // of data; those of inline ECC are apart
  std::uint64_t bursts_written = 0;  // accepted
  std::uint64_t ecc_bursts = 0;
  std::uint64_t hits = 0;       // bursts that found their row open
  std::uint64_t misses = 0;     // bursts that found their bank closed
  std::uint64_t conflicts = 0;  // bursts that found another row open
  std::uint64_t refreshes = 0;
  std::uint64_t turnarounds = 0;                                               // changes between read and write
  Ticks busy = 0;                                                              // data bus carries a burst
  std::array<std::int64_t, static_cast<std::size_t>(DramLoss::count)> lost{};  // busy + lost: all ticks so far

  std::int64_t &operator[](DramLoss loss) { return lost[static_cast<std::size_t>(loss)]; }
  std::int64_t operator[](DramLoss loss) const { return lost[static_cast<std::size_t>(loss)]; }
  DramCounts &operator+=(const DramCounts &other);
};

// Consecutive bursts of one request in one row of each of some banks: burst i is in bank
// pattern[(first + i) % pattern size] ^ flip, with the pattern that the channel was made with.
struct DramStrip {
  std::uint32_t row = 0;
  std::uint32_t flip = 0;
  std::uint32_t first = 0;
  std::uint32_t bursts = 0;
};

// The rule of README.md, burst by burst in its meaning. Where bursts follow one another at a fixed cadence, any number
// of them takes the same host time.
class DramChannel {
 public:
  static constexpr unsigned kMemory = 64;     // bursts on the data bus that a later one may go before
  static constexpr unsigned kActivates = 32;  // the same of activates of a rank
  static constexpr unsigned kSplitBanks = 8;  // banks of a strip of which some may be late (run_before_gap)

  // Banks are numbered (rank * bank groups + bank group) * banks + bank. `pattern`: banks of consecutive bursts, a
  // power of two of them. Throws std::invalid_argument (check() of the parts; an empty pattern).
  DramChannel(const DramTiming &timing, const DramGeometry &geometry, const DramScheduling &scheduling,
              std::vector<std::uint32_t> pattern);

  struct Done {
    Ticks accepted = 0;  // the controller has taken the last burst
    Ticks done = 0;      // read: last data is off the bus; write: accepted
  };
  // Prices a strip that arrives at `arrival`.
  Done read(Ticks arrival, const DramStrip &strip);
  Done write(Ticks arrival, const DramStrip &strip);

  // Carries out all writes that are waiting. Returns when the last data is on the bus.
  Ticks drain();

  // For comparison: every search goes through all known commands one by one, and no burst is entered in bulk. The same
  // times and counts in more host time; reset() keeps it.
  void search_plainly() { plain_ = true; }

  const DramCounts &counts() const { return counts_; }
  void reset();

  // From arrival at an idle channel to the end of a burst's data, bank closed.
  Ticks idle_read_latency() const { return timing_.rcd_rd + timing_.cl + timing_.burst; }

 private:
  enum Direction : std::uint8_t { reading, writing };

  struct Row {
    std::int64_t row = -1;             // open row, or -1
    Ticks activated = 0;               // last ACT
    std::array<Ticks, 2> cas_ready{};  // first read, first write of the open row
    Ticks close_ready = 0;             // first PRE of the open row
    Ticks open_ready = 0;              // first ACT while closed
  };
  struct Bank {
    Row now;
    Row before;                 // as it was when the last refresh closed it
    std::uint32_t refresh = 0;  // of refreshes_
  };
  // Banks that are refreshed together: all, or those of one refresh of single banks.
  struct Refresh {
    std::vector<std::uint32_t> banks;
    Ticks next = 0;       // when the next is due
    Ticks last = 0;       // when the last was due
    Ticks closed_by = 0;  // when the last closed the banks
    Ticks ended = 0;
  };
  struct Command {
    Ticks at = 0;
    std::uint16_t group = 0;  // bank group, of all ranks
    Direction direction = reading;
    DramLoss reason = DramLoss::idle;  // of the idle bus before it
    bool opening = false;              // CAS: its row was opened for it
  };
  // The last commands, in order of time but where one gave way past its neighbour of the other direction. They are
  // consecutive in memory.
  struct Ring {
    std::vector<Command> entries;
    std::uint32_t begin = 0;
    std::uint32_t size = 0;
    std::uint32_t capacity = 0;
    // One bit for each command, kept by who owns the ring: CAS: `plain`, ACT: `tight`; `falling`: is before its left.
    std::uint64_t marks = 0;
    std::uint64_t falling = 0;

    explicit Ring(std::uint32_t wanted);
    Command &operator[](std::uint32_t i) { return entries[begin + i]; }
    const Command &operator[](std::uint32_t i) const { return entries[begin + i]; }
    const Command &back() const { return (*this)[size - 1]; }
    bool full() const { return size == capacity; }
    // Keep order; the oldest fall out when full. Marks move along, those of new ones are clear. append(): for `count`
    // behind all others, at most `capacity`; returns the first, to be written. insert() returns where it put it.
    Command *append(std::uint32_t count);
    std::uint32_t insert(const Command &command, std::uint32_t position);
    Command *open(std::uint32_t position, std::uint32_t count);
    std::uint32_t trim();
    // The first that is later than `time` behind all that are not, as seen from the end.
    std::uint32_t behind(Ticks time) const;

   private:
    void make_room(std::uint32_t count);
  };
  // The largest release times of one direction: of n slots one is free from the n-th largest on.
  struct Releases {
    std::vector<Ticks> times;
    std::uint32_t begin = 0;
    std::uint32_t size = 0;
    std::uint32_t capacity = 0;

    explicit Releases(std::uint32_t slots);
    // When one of `capacity - held` slots is free.
    Ticks free_at(std::uint32_t held) const;
    Ticks last() const { return size == 0 ? 0 : times[begin + size - 1]; }
    std::uint32_t later_than(Ticks time) const;
    void push(Ticks time);
    void put_off(Ticks from, Ticks to);
    // The same for `count` times, `step` apart. Returns free_at(0) as it was before the last of them.
    Ticks push(Ticks first, Ticks step, Ticks count);

   private:
    void make_room(std::uint32_t count);
    void insert(Ticks first, Ticks step, std::uint32_t count, std::uint32_t later);
  };
  struct Placed {
    Ticks cas = 0;
    Ticks release = 0;  // first command: ACT of a row that had to be opened, else CAS
  };
  // Where a command goes among those that are known.
  struct Slot {
    Ticks at = 0;
    std::uint32_t position = 0;
    std::uint32_t pushed = 0;  // so many commands from there on give way, by the times in *_push_
    DramLoss reason = DramLoss::idle;
  };
  struct Pending {
    DramStrip strip;
    Ticks arrival = 0;
    bool complete = false;  // holds the strip's last burst
  };

  std::uint32_t bank_of(const DramStrip &strip, std::uint32_t i) const {
    return pattern_[(strip.first + i) & pattern_mask_] ^ strip.flip;
  }
  std::uint32_t group_of(std::uint32_t bank) const { return bank >> bank_shift_; }
  std::uint32_t rank_of(std::uint32_t group) const { return group >> group_shift_; }
  Ticks same_way(Direction direction, std::uint32_t group_a, std::uint32_t group_b) const;
  Ticks turned(Direction before, std::uint32_t group_before, std::uint32_t group_after) const;
  Ticks held(Direction direction) const {
    return direction == reading ? timing_.rtp : timing_.cwl + timing_.burst + timing_.wr;
  }

  Placed place(Direction direction, Ticks earliest, std::uint32_t bank, std::uint32_t row);
  bool try_place(Direction direction, Ticks earliest, std::uint32_t bank_index, std::uint32_t row, Row &state,
                 Ticks end, Ticks closed_by, bool after_refresh, Placed &placed);
  Slot find_cas(Direction direction, Ticks ready, std::uint32_t group, DramLoss reason, bool opening) const;
  bool stray(Direction direction, std::uint32_t i) const;
  bool gives_way_by_group(Direction direction, std::uint32_t group, std::uint32_t position) const;
  Slot append_cas(Direction direction, Ticks at, std::uint32_t group, DramLoss reason) const;
  std::uint32_t behind(const Ring &ring, Ticks time) const;
  Slot find_activate(Ticks ready, std::uint32_t group) const;
  bool push_cas(Direction direction, Slot &slot, std::uint32_t group, bool opening) const;
  bool push_activates(Slot &slot, std::uint32_t group) const;
  void put_cas(Direction direction, const Slot &slot, std::uint32_t group, Ticks earliest, bool opening);
  void put_off_releases(Direction direction, const Slot &slot);
  void close_row(Row &row, Ticks earliest) const;
  void mark_cas(std::uint32_t from, std::uint32_t to);
  void mark_activates(Ring &ring, std::uint32_t from, std::uint32_t to) const;
  void skip_plain(Direction direction, std::uint32_t group, Slot &slot) const;
  void put_activate(const Slot &slot, std::uint32_t group);
  void refresh_up_to(Refresh &refresh, Ticks time);
  void one_refresh(Refresh &refresh);
  Ticks behind_refreshes(Ticks activate) const;
  void count_refreshes(Ticks time);
  bool fits_between(Direction direction, const DramStrip &strip, std::uint32_t i, Ticks earliest) const;
  std::uint32_t run(Direction direction, const DramStrip &strip, std::uint32_t i, std::uint32_t limit, Ticks earliest,
                    Ticks until);
  void mark_runs(std::uint32_t gap, const std::array<std::uint32_t, 2> &counts, bool plain_before, bool plain_behind);
  std::uint32_t closed_banks(const DramStrip &strip, std::uint32_t i) const;
  std::uint32_t first_gap(Direction direction, std::uint32_t group, Ticks from) const;
  std::uint32_t run_before_gap(Direction direction, const DramStrip &strip, std::uint32_t i, std::uint32_t limit,
                               Ticks earliest, Ticks &last_cas);
  Ticks place_strip(Direction direction, DramStrip &strip, Ticks arrival, std::uint32_t limit, Ticks until);
  Ticks first_command(Direction direction, Ticks arrival, std::uint32_t bank, std::uint32_t row) const;
  void close_rows(const DramStrip &strip);
  void write_back(std::uint32_t target, Ticks until);

  DramTiming timing_;
  DramGeometry geometry_;
  DramScheduling scheduling_;
  std::vector<std::uint32_t> pattern_;
  std::uint32_t pattern_mask_;
  std::uint32_t turn_;  // bursts after which the bank groups of the pattern repeat; 0: not in a fixed order
  std::uint32_t bank_shift_;
  std::uint32_t group_shift_;
  std::array<Ticks, 2> ccd_s_, ccd_l_;
  Ticks other_rank_;
  Ticks nearest_;  // shortest and longest time between bursts of one direction
  Ticks widest_;
  std::uint32_t window_;  // commands at `nearest_` within `widest_`, and one more

  std::vector<Bank> banks_;
  std::array<std::vector<Ticks>, 2> group_last_;  // last CAS + 1; 0: none
  std::array<std::vector<Ticks>, 2> rank_last_;
  Ring cas_;
  Ticks cas_floor_ = 0;   // bursts before it are forgotten
  Ticks dense_from_ = 0;  // no burst fits between those from here on
  std::vector<Ring> activates_;
  std::vector<Ticks> activate_floor_;
  Ticks bus_end_ = 0;  // end of the last burst, counted as if data came with the command
  Releases reads_;
  Releases writes_;
  std::vector<Refresh> refreshes_;
  Ticks refresh_period_ = 0;    // of the same banks
  Ticks refresh_interval_ = 0;  // of single banks: from one to the next; 0: all banks at once
  Ticks refresh_time_ = 0;
  Ticks refresh_close_ = 0;  // from the closing of the banks to the refresh
  std::deque<Pending> pending_;
  std::uint32_t pending_bursts_ = 0;
  bool plain_ = false;
  bool write_mode_ = false;
  Ticks write_floor_ = 0;       // first command of the writes of this mode: most reads before them have been begun
  Ticks read_floor_ = 0;        // the same of the reads after them
  Ticks free_before_last_ = 0;  // when a slot was free for the last burst that was placed
  Ticks overtaken_ = 0;         // by how much the writes of this mode come late, as reads were priced before them
  mutable std::array<Ticks, kMemory> cas_push_{};
  mutable std::array<Ticks, kActivates> activate_push_{};
  DramCounts counts_;
};

}  // namespace cx::hw

#endif

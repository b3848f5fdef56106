#include "driver/tools/trace/collective_trace.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>

namespace cx::tools {

namespace {

/// Rows of a rank, in the order in which they are shown.
constexpr const char *kRows[] = {"send", "receive", "compute"};
std::size_t row_of(unsigned op) { return op == CX_COMM_SEND ? 0 : op == CX_COMM_RECV ? 1 : 2; }

uint64_t ns(uint64_t ps) { return ps / 1000; }

}  // namespace

CollectiveTrace::CollectiveTrace(const std::string &path, const Cluster &cluster)
    : cluster_(cluster),
      writer_(path),
      spans_(cluster.ranks()),
      bytes_name_(writer_.annotation_name("bytes")),
      peer_name_(writer_.annotation_name("peer")) {
  writer_.snapshot(0, 0);
}

void CollectiveTrace::command(uint32_t rank, const cx_comm_command &command, uint64_t begin_ps, uint64_t end_ps) {
  if (command.op == CX_COMM_JOIN) return;  // takes no time
  if (++commands_ > kMostCommands) {
    throw UsageError(fmt::format("--trace: more than {} commands, expected fewer ranks or chunks", kMostCommands));
  }
  spans_[rank].push_back({begin_ps, end_ps, command.bytes, command.peer, command.op});
}

void CollectiveTrace::links(uint64_t time_ps, const double *wire_bytes) {
  samples_.push_back({time_ps, std::vector<double>(wire_bytes, wire_bytes + cluster_.links().size())});
}

void CollectiveTrace::write_rank(PerfettoWriter::Track ranks, uint32_t rank) {
  auto &spans = spans_[rank];
  std::stable_sort(spans.begin(), spans.end(), [](const Span &a, const Span &b) { return a.begin < b.begin; });
  const PerfettoWriter::Track track = writer_.track(ranks, fmt::format("rank {}", rank));
  std::array<std::optional<Lanes>, std::size(kRows)> lanes;
  for (std::size_t row = 0; row < lanes.size(); ++row) lanes[row].emplace(writer_, track, kRows[row]);
  for (const Span &span : spans) {
    const bool message = span.op == CX_COMM_SEND || span.op == CX_COMM_RECV;
    const std::array<Annotation, 2> notes{Annotation{bytes_name_, span.bytes}, Annotation{peer_name_, span.peer}};
    const std::string text = span.op == CX_COMM_SEND   ? fmt::format("SEND to {}", span.peer)
                             : span.op == CX_COMM_RECV ? fmt::format("RECV from {}", span.peer)
                                                       : std::string(cx_comm_op_name(span.op));
    const uint64_t begin = ns(span.begin), end = ns(span.end);
    writer_.slice(lanes[row_of(span.op)]->find(begin, end), TraceClock::card, begin, end, writer_.name(text),
                  std::span(notes).first(message ? 2 : 1));
  }
}

void CollectiveTrace::write_links() {
  if (samples_.empty()) return;
  const PerfettoWriter::Track links = writer_.process("links");
  for (std::size_t l = 0; l < cluster_.links().size(); ++l) {
    if (samples_.back().bytes[l] == 0) continue;
    const Cluster::Link &link = cluster_.links()[l];
    const PerfettoWriter::Track counter = writer_.counter(links, link.name, "%");
    uint64_t time = 0;
    double bytes = 0;
    for (const Sample &sample : samples_) {
      const double most = link.bytes_per_s * static_cast<double>(sample.time - time) * 1e-12;
      // A value holds from its time on: that of an interval is written at its beginning.
      writer_.value(counter, TraceClock::card, ns(time), most > 0 ? 100 * (sample.bytes[l] - bytes) / most : 0);
      time = sample.time;
      bytes = sample.bytes[l];
    }
    writer_.value(counter, TraceClock::card, ns(time), 0);
  }
}

void CollectiveTrace::finish() {
  const PerfettoWriter::Track ranks = writer_.process(cluster_.shape().name);
  for (uint32_t rank = 0; rank < spans_.size(); ++rank) {
    write_rank(ranks, rank);
    spans_[rank] = {};
  }
  write_links();
  writer_.flush();
}

}  // namespace cx::tools

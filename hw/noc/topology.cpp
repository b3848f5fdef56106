#include "hw/noc/topology.hpp"

#include <algorithm>
#include <stdexcept>

namespace cx::hw {

namespace {

unsigned apart(unsigned a, unsigned b) { return a > b ? a - b : b - a; }

}  // namespace

Topology Topology::mesh(unsigned columns, unsigned rows) {
  if (columns == 0 || rows == 0 || columns > 256 || rows > 256) {
    throw std::invalid_argument("noc: a mesh has 1 to 256 columns and rows");
  }
  Topology mesh(Kind::mesh, columns, rows);
  mesh.out_.resize(mesh.routers());
  for (unsigned row = 0; row < rows; ++row) {
    for (unsigned column = 0; column < columns; ++column) {
      const unsigned here = mesh.router(column, row);
      if (column + 1 < columns) mesh.connect(here, here + 1);
      if (column > 0) mesh.connect(here, here - 1);
      if (row + 1 < rows) mesh.connect(here, here + columns);
      if (row > 0) mesh.connect(here, here - columns);
    }
  }
  return mesh;
}

Topology Topology::ring(unsigned routers) {
  if (routers < 3 || routers > 65536) throw std::invalid_argument("noc: a ring has 3 to 65536 routers");
  Topology ring(Kind::ring, routers, 1);
  ring.out_.resize(routers);
  for (unsigned here = 0; here < routers; ++here) {
    ring.connect(here, (here + 1) % routers);
    ring.connect(here, (here + routers - 1) % routers);
  }
  return ring;
}

void Topology::connect(unsigned from, unsigned to) {
  out_[from].push_back(static_cast<unsigned>(links_.size()));
  links_.push_back({from, to});
}

unsigned Topology::link(unsigned from, unsigned to) const {
  for (const unsigned link : out_.at(from)) {
    if (links_[link].to == to) return link;
  }
  throw std::out_of_range("noc: routers " + std::to_string(from) + " and " + std::to_string(to) +
                          " are not neighbours");
}

// Whether a ring's route goes to higher numbers.
bool Topology::upward(unsigned from, unsigned to) const {
  const unsigned up = (to + columns_ - from) % columns_;
  return 2 * up < columns_ || (2 * up == columns_ && from % 2 == 0);
}

unsigned Topology::next(unsigned from, unsigned at, unsigned to) const {
  if (kind_ == Kind::ring) return (at + (upward(from, to) ? 1 : columns_ - 1)) % columns_;
  if (at % columns_ != to % columns_) return at % columns_ < to % columns_ ? at + 1 : at - 1;
  return at < to ? at + columns_ : at - columns_;
}

unsigned Topology::distance(unsigned from, unsigned to) const {
  if (kind_ == Kind::ring) return std::min(apart(from, to), columns_ - apart(from, to));
  return apart(from % columns_, to % columns_) + apart(from / columns_, to / columns_);
}

NocRoute Topology::route(unsigned from, unsigned to) const {
  if (from >= routers() || to >= routers()) throw std::out_of_range("noc: a route of a router that does not exist");
  NocRoute route;
  bool crosses = false;
  for (unsigned at = from; at != to;) {
    const unsigned following = next(from, at, to);
    // Only a step over the dateline changes the number by more than one.
    crosses |= kind_ == Kind::ring && apart(at, following) != 1;
    route.links.push_back(link(at, following));
    at = following;
  }
  if (kind_ == Kind::ring) route.vc_class = crosses == upward(from, to) ? 1 : 0;
  return route;
}

bool deadlock_free(const std::vector<NocRoute> &routes, unsigned links, unsigned vc_classes) {
  std::vector<std::vector<unsigned>> waits_for(std::size_t{links} * vc_classes);
  for (const NocRoute &route : routes) {
    for (std::size_t hop = 0; hop + 1 < route.links.size(); ++hop) {
      waits_for[route.links[hop] * vc_classes + route.vc_class].push_back(route.links[hop + 1] * vc_classes +
                                                                          route.vc_class);
    }
  }
  // Nodes that nothing waits for are taken away until none is left, or only cycles are.
  std::vector<unsigned> waiters(waits_for.size(), 0), free;
  for (auto &edges : waits_for) {
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    for (const unsigned node : edges) ++waiters[node];
  }
  for (unsigned node = 0; node < waiters.size(); ++node) {
    if (waiters[node] == 0) free.push_back(node);
  }
  std::size_t taken = 0;
  for (; !free.empty(); ++taken) {
    const unsigned node = free.back();
    free.pop_back();
    for (const unsigned other : waits_for[node]) {
      if (--waiters[other] == 0) free.push_back(other);
    }
  }
  return taken == waits_for.size();
}

}  // namespace cx::hw

// Routers of an on-chip network, the directed links between them, and routes that cannot deadlock. No SystemC.
#ifndef HW_NOC_TOPOLOGY_HPP
#define HW_NOC_TOPOLOGY_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cx::hw {

// The way of a packet: links in the order in which it crosses them, and the class of virtual channels that it uses on
// all of them.
struct NocRoute {
  std::vector<unsigned> links;
  unsigned vc_class = 0;
};

// Routers are numbered row by row from 0 at column 0 of row 0.
class Topology {
 public:
  enum class Kind { mesh, ring };

  struct Link {
    unsigned from, to;  // routers
  };

  // A mesh of columns x rows routers. Routes go along the row first, then along the column (XY): no route turns from a
  // column into a row, so no cycle of waiting packets exists with one class of virtual channels (Dally and Towles,
  // "Principles and Practices of Interconnection Networks", 2004, 14.2).
  // Throws std::invalid_argument unless both are 1 to 256.
  static Topology mesh(unsigned columns, unsigned rows);

  // A ring: router i is beside i + 1, the last beside router 0. Routes go the shorter way; of two ways of the same
  // length routers of even numbers go up, of odd numbers down, so that both directions carry the same. The link between
  // the last router and router 0 is the dateline: of the packets that go up those that cross it use virtual channels of
  // class 1 and all others class 0; of those that go down it is the other way round, so that a terminal's packets use
  // both classes. Neither class is used on all links of one direction, so neither has a cycle (the same, 14.2.3).
  // Throws std::invalid_argument unless there are 3 to 65536 routers.
  static Topology ring(unsigned routers);

  Kind kind() const { return kind_; }
  unsigned columns() const { return columns_; }
  unsigned rows() const { return rows_; }
  unsigned routers() const { return columns_ * rows_; }
  unsigned vc_classes() const { return kind_ == Kind::ring ? 2 : 1; }
  const std::vector<Link> &links() const { return links_; }

  unsigned router(unsigned column, unsigned row) const { return row * columns_ + column; }
  unsigned distance(unsigned from, unsigned to) const;  // hops of route()
  // Throws std::out_of_range for a router that does not exist.
  NocRoute route(unsigned from, unsigned to) const;
  // The link from a router to its neighbour. Throws std::out_of_range if there is none.
  unsigned link(unsigned from, unsigned to) const;

 private:
  Topology(Kind kind, unsigned columns, unsigned rows) : kind_(kind), columns_(columns), rows_(rows) {}
  void connect(unsigned from, unsigned to);
  unsigned next(unsigned from, unsigned at, unsigned to) const;
  bool upward(unsigned from, unsigned to) const;

  Kind kind_;
  unsigned columns_, rows_;
  std::vector<Link> links_;
  std::vector<std::vector<unsigned>> out_;  // by router: its links
};

// Whether packets that follow `routes` can never wait for each other in a circle: the graph whose nodes are pairs of
// link and class, with an edge from each hop of a route to its next, has no cycle (Dally and Seitz, "Deadlock-Free
// Message Routing in Multiprocessor Interconnection Networks", IEEE Trans. Computers, 1987).
bool deadlock_free(const std::vector<NocRoute> &routes, unsigned links, unsigned vc_classes);

}  // namespace cx::hw

#endif

// Latency of network links by what they are made of, one way.
#ifndef HW_LINK_MEDIA_HPP
#define HW_LINK_MEDIA_HPP

#include <string_view>

namespace cx::hw::net {

struct LinkMedium {
  std::string_view name;
  double coding_ns;       // forward error correction of both ends
  double transceiver_ns;  // of both ends together
  double ns_per_metre;
};

// RS(544,514) of IEEE 802.3 takes about 100 ns at 400 Gbit/s (codeword received, decoded). Light takes 4.9 ns/m in
// single-mode fibre (index of refraction 1.468, ITU-T G.652), a wave in a twinaxial cable 4.3 ns/m (0.77 c). A module
// with a DSP that retimes adds about 100 ns a link, one that is driven linearly (LPO) a few.
inline constexpr LinkMedium kLinkMedia[] = {
    {"copper", 100, 0, 4.3},
    {"optical", 100, 100, 4.9},
    {"optical_linear", 100, 5, 4.9},
};

constexpr const LinkMedium *find_medium(std::string_view name) {
  for (const LinkMedium &medium : kLinkMedia) {
    if (medium.name == name) return &medium;
  }
  return nullptr;
}

constexpr double latency_ns(const LinkMedium &medium, double metres) {
  return medium.coding_ns + medium.transceiver_ns + medium.ns_per_metre * metres;
}

}  // namespace cx::hw::net

#endif

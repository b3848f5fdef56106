// From a detector's map of text probabilities to boxes of lines, and from boxes to upright pictures of lines.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/tools/picture.hpp"

namespace cx::tools {

struct Point {
  double x = 0;
  double y = 0;
};

/// Corners clockwise as seen: top left, top right, bottom right, bottom left of the line as it reads, if it is not
/// upside down.
using Quad = std::array<Point, 4>;

/// The rectangle of least area around points, which may be turned. The corners are in order around it.
Quad smallest_rectangle(const std::vector<Point> &points);

/// Corners that form a convex hull, counter-clockwise in a system with y up, none on a line of two others.
std::vector<Point> convex_hull(std::vector<Point> points);

/// The rectangle with every side moved outwards by `distance`.
Quad grown(const Quad &rectangle, double distance);

struct TextBox {
  Quad corners;      ///< in pixels of the map
  double score = 0;  ///< mean probability inside
};

/// What the detector PP-OCR (DBNet) is read with.
struct BoxOptions {
  float threshold = 0.3F;  ///< a pixel is text above this
  double score = 0.6;      ///< a box below this is dropped
  double growth = 1.5;     ///< of the shrunk regions that the network is trained on: distance = area * growth / length
  double smallest_side = 3;    ///< pixels, before growing
  std::size_t largest = 1000;  ///< boxes
};

/// One box for each connected region (8 neighbours) of the map, of height rows of width probabilities. In reading
/// order: from the top, boxes whose middles are on one height from the left.
std::vector<TextBox> text_boxes(std::span<const float> map, int width, int height, const BoxOptions &options = {});

/// The part of the picture inside the quad, upright, by perspective (bilinear; beyond the border the border's pixel).
/// Lines much higher than wide are turned by 90 degrees.
Picture straightened(const Picture &picture, const Quad &quad);

Picture turned_by_180(const Picture &picture);

/// Outlines the quad and writes a number at its top left corner.
void draw(Picture &picture, const Quad &quad, int number, const std::array<uint8_t, 3> &colour);

}  // namespace cx::tools

// Boxes of text: against shapes whose boxes are known, and rectangles against all angles.
#include "driver/tools/text_boxes.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "tb/common/seed.hpp"

using namespace cx::tools;

namespace {

double distance(const Point &a, const Point &b) { return std::hypot(a.x - b.x, a.y - b.y); }

/// A map whose pixels inside a turned rectangle have the value.
void paint(std::vector<float> &map, int width, double cx, double cy, double w, double h, double angle, float value) {
  const int height = static_cast<int>(map.size()) / width;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double along = (x - cx) * std::cos(angle) + (y - cy) * std::sin(angle);
      const double across = (y - cy) * std::cos(angle) - (x - cx) * std::sin(angle);
      if (std::abs(along) <= w / 2 && std::abs(across) <= h / 2) map[y * width + x] = value;
    }
  }
}

constexpr double kSearchStep = 1e-3 * M_PI / 180;

/// Area of the smallest rectangle among those turned by kSearchStep each; the smallest of all is not larger.
double area_by_search(const std::vector<Point> &points) {
  double best = 1e300;
  for (int i = 0; i < 90'000; ++i) {
    const double angle = i * kSearchStep;
    const double c = std::cos(angle), s = std::sin(angle);
    double x0 = 1e300, x1 = -1e300, y0 = 1e300, y1 = -1e300;
    for (const Point &p : points) {
      const double x = p.x * c + p.y * s, y = p.y * c - p.x * s;
      x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
    }
    best = std::min(best, (x1 - x0) * (y1 - y0));
  }
  return best;
}

}  // namespace

TEST_CASE("the smallest rectangle is that of a search over all angles and holds every point") {
  const uint64_t seed = cx::test::fresh_seed();
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> value(-50, 50);
  for (int i = 0; i < 20; ++i) {
    std::vector<Point> points;
    const int count = 3 + static_cast<int>(random() % 20);
    for (int p = 0; p < count; ++p) points.push_back({value(random), value(random) * (i % 2 == 0 ? 1 : 0.1)});
    const Quad quad = smallest_rectangle(points);
    INFO("seed " << seed << ", case " << i);
    const double w = distance(quad[0], quad[1]), h = distance(quad[1], quad[2]);
    // The search is off by half a step at most, by which a side changes by at most the diagonal times that angle. Of
    // points that nearly lie on a line this is more of the area than of others.
    const double searched = area_by_search(points), side = std::hypot(w, h) * kSearchStep / 2;
    CHECK(w * h <= searched * (1 + 1e-9));
    CHECK(searched <= (w + side) * (h + side) * (1 + 1e-9));
    CHECK(distance(quad[2], quad[3]) == Approx(w));
    CHECK(distance(quad[3], quad[0]) == Approx(h));
    CHECK(distance(quad[0], quad[2]) == Approx(std::hypot(w, h)));  // right angles
    for (const Point &p : points) {
      const double along = ((p.x - quad[0].x) * (quad[1].x - quad[0].x) + (p.y - quad[0].y) * (quad[1].y - quad[0].y));
      CHECK(along >= -1e-6);
      CHECK(along <= w * w + 1e-6);
    }
  }
}

TEST_CASE("hulls and rectangles of few points") {
  CHECK(convex_hull({}).empty());
  CHECK(convex_hull({{1, 2}}).size() == 1);
  CHECK(convex_hull({{1, 2}, {1, 2}}).size() == 1);
  CHECK(convex_hull({{0, 0}, {1, 1}, {2, 2}}).size() == 2);
  CHECK(convex_hull({{0, 0}, {4, 0}, {4, 4}, {0, 4}, {2, 2}, {2, 0}}).size() == 4);
  const Quad line = smallest_rectangle({{0, 0}, {3, 4}});
  CHECK(distance(line[0], line[1]) == Approx(5));
  CHECK(distance(line[1], line[2]) == Approx(0).margin(1e-9));
}

TEST_CASE("boxes come from regions of the map, grown and in reading order") {
  constexpr int kWidth = 300, kHeight = 200;
  std::vector<float> map(kWidth * kHeight, 0.05F);
  paint(map, kWidth, 220, 42, 80, 12, 0, 0.9F);                   // right half of the first line
  paint(map, kWidth, 80, 40, 100, 12, 0, 0.8F);                   // left half
  paint(map, kWidth, 150, 110, 160, 14, 10 * M_PI / 180, 0.95F);  // a turned line
  paint(map, kWidth, 30, 180, 40, 12, 0, 0.4F);                   // above the threshold, but not sure enough
  paint(map, kWidth, 250, 180, 40, 1, 0, 0.9F);                   // too thin
  const std::vector<TextBox> boxes = text_boxes(map, kWidth, kHeight);
  REQUIRE(boxes.size() == 3);
  CHECK(boxes[0].score == Approx(0.8));
  CHECK(boxes[1].score == Approx(0.9));
  CHECK(boxes[2].score == Approx(0.95).epsilon(0.05));
  // 100 x 12 between pixel centres, grown by area * 1.5 / length.
  const double by = 100.0 * 12 * 1.5 / (2 * (100 + 12));
  CHECK(boxes[0].corners[0].x == Approx(30 - by).margin(0.01));
  CHECK(boxes[0].corners[0].y == Approx(34 - by).margin(0.01));
  CHECK(boxes[0].corners[2].x == Approx(130 + by).margin(0.01));
  CHECK(boxes[0].corners[2].y == Approx(46 + by).margin(0.01));
  const Quad &turned = boxes[2].corners;
  CHECK(std::atan2(turned[1].y - turned[0].y, turned[1].x - turned[0].x) * 180 / M_PI == Approx(10).margin(1));
  CHECK(turned[0].x < turned[1].x);
  CHECK(turned[0].y < turned[3].y);
  CHECK(text_boxes(std::vector<float>(100, 0.0F), 10, 10).empty());
  // The whole map as one region, up to its border.
  CHECK(text_boxes(std::vector<float>(100, 1.0F), 10, 10).size() == 1);
}

TEST_CASE("regions hang together by corners, and those that do not are apart") {
  std::vector<float> map(40 * 40, 0.0F);
  for (int i = 0; i < 20; ++i) {
    for (int k = 0; k < 6; ++k) map[(5 + i) * 40 + 5 + i + k] = 1;
  }
  CHECK(text_boxes(map, 40, 40).size() == 1);
  for (int x = 0; x < 40; ++x) map[15 * 40 + x] = 0;
  CHECK(text_boxes(map, 40, 40, {0.3F, 0.0, 1.5, 3, 1000}).size() == 2);
}

TEST_CASE("a quad of the picture becomes an upright one by the perspective that made it") {
  // Colours are linear in the page's coordinates, and the page is seen through a known projection.
  const double m[9] = {0.8, 0.15, 40, -0.1, 0.9, 60, 0.0004, 0.0002, 1};
  const auto seen = [&](double u, double v) {
    const double w = m[6] * u + m[7] * v + 1;
    return Point{(m[0] * u + m[1] * v + m[2]) / w, (m[3] * u + m[4] * v + m[5]) / w};
  };
  constexpr double kPageWidth = 200, kPageHeight = 60;
  const Quad quad = {seen(0, 0), seen(kPageWidth, 0), seen(kPageWidth, kPageHeight), seen(0, kPageHeight)};
  Picture picture{260, 160, std::vector<uint8_t>(std::size_t{3} * 260 * 160)};
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x) {
      // The inverse projection by solving its two linear equations.
      const double a = m[0] - x * m[6], b = m[1] - x * m[7], c = x - m[2];
      const double d = m[3] - y * m[6], e = m[4] - y * m[7], f = y - m[5];
      const double det = a * e - b * d;
      const double u = (c * e - b * f) / det, v = (a * f - c * d) / det;
      uint8_t *pixel = &picture.rgb[(std::size_t(y) * picture.width + x) * 3];
      pixel[0] = static_cast<uint8_t>(std::clamp(20 + u, 0.0, 255.0));
      pixel[1] = static_cast<uint8_t>(std::clamp(20 + 3 * v, 0.0, 255.0));
    }
  }
  const Picture flat = straightened(picture, quad);
  REQUIRE(flat.width > 100);
  REQUIRE(flat.height > 30);
  for (int y = 2; y < flat.height - 2; y += 5) {
    for (int x = 2; x < flat.width - 2; x += 7) {
      const uint8_t *pixel = &flat.rgb[(std::size_t(y) * flat.width + x) * 3];
      CHECK(pixel[0] == Approx(20 + kPageWidth * x / flat.width).margin(2));
      CHECK(pixel[1] == Approx(20 + 3 * kPageHeight * y / flat.height).margin(3.5));
    }
  }
}

TEST_CASE("pictures are turned") {
  Picture picture{2, 4, {}};
  for (uint8_t i = 0; i < 8; ++i) picture.rgb.insert(picture.rgb.end(), {i, i, i});
  const Picture half = turned_by_180(picture);
  CHECK(half.rgb[0] == 7);
  CHECK(half.rgb[21] == 0);
  // A line that runs up the page comes to lie.
  const Picture lying = straightened(picture, {Point{0, 0}, Point{2, 0}, Point{2, 4}, Point{0, 4}});
  CHECK(lying.width == 4);
  CHECK(lying.height == 2);
  CHECK(lying.rgb[0] == 1);   // top right comes to the top left
  CHECK(lying.rgb[12] == 0);  // and the left column to the bottom
}

TEST_CASE("boxes are drawn inside the picture, whatever their corners") {
  Picture picture{20, 20, std::vector<uint8_t>(1200, 0)};
  draw(picture, {Point{-30, -30}, Point{50, 2}, Point{50, 18}, Point{2, 60}}, 1234, {9, 8, 7});
  draw(picture, {Point{5, 5}, Point{15, 5}, Point{15, 15}, Point{5, 15}}, 1, {1, 2, 3});
  CHECK(picture.rgb[(5 * 20 + 10) * 3 + 1] == 2);
  CHECK(picture.rgb[(10 * 20 + 10) * 3 + 1] == 0);
}

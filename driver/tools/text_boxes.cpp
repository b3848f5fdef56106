#include "driver/tools/text_boxes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

namespace cx::tools {
namespace {

double cross(const Point &o, const Point &a, const Point &b) {
  return (a.x - o.x) * (b.y - o.y) - (a.y - o.y) * (b.x - o.x);
}

double distance(const Point &a, const Point &b) { return std::hypot(a.x - b.x, a.y - b.y); }

/// Top left, top right, bottom right, bottom left.
Quad ordered(Quad quad) {
  std::sort(quad.begin(), quad.end(), [](const Point &a, const Point &b) { return a.x < b.x; });
  if (quad[0].y > quad[1].y) std::swap(quad[0], quad[1]);
  if (quad[2].y > quad[3].y) std::swap(quad[2], quad[3]);
  return {quad[0], quad[2], quad[3], quad[1]};
}

/// Regions of neighbouring pixels, each as its pixels in order of rows.
std::vector<std::vector<Point>> regions(std::span<const float> map, int width, int height, float threshold) {
  std::vector<std::vector<Point>> found;
  std::vector<bool> seen(map.size(), false);
  std::vector<std::size_t> stack;
  for (std::size_t start = 0; start < map.size(); ++start) {
    if (seen[start] || !(map[start] > threshold)) continue;
    seen[start] = true;
    stack = {start};
    std::vector<Point> pixels;
    while (!stack.empty()) {
      const std::size_t at = stack.back();
      stack.pop_back();
      const int x = static_cast<int>(at) % width;
      const int y = static_cast<int>(at) / width;
      pixels.push_back({static_cast<double>(x), static_cast<double>(y)});
      for (int ny = std::max(0, y - 1); ny <= std::min(height - 1, y + 1); ++ny) {
        for (int nx = std::max(0, x - 1); nx <= std::min(width - 1, x + 1); ++nx) {
          const std::size_t next = std::size_t(ny) * width + nx;
          if (seen[next] || !(map[next] > threshold)) continue;
          seen[next] = true;
          stack.push_back(next);
        }
      }
    }
    found.push_back(std::move(pixels));
  }
  return found;
}

/// Mean of the map over the pixels whose centres lie in the quad.
double mean_inside(std::span<const float> map, int width, int height, const Quad &quad) {
  double sum = 0;
  int count = 0;
  const auto [left, right] = std::minmax_element(quad.begin(), quad.end(), [](auto &a, auto &b) { return a.x < b.x; });
  const auto [top, bottom] = std::minmax_element(quad.begin(), quad.end(), [](auto &a, auto &b) { return a.y < b.y; });
  for (int y = std::max(0, static_cast<int>(std::floor(top->y))); y <= std::min(height - 1.0, std::ceil(bottom->y));
       ++y) {
    for (int x = std::max(0, static_cast<int>(std::floor(left->x))); x <= std::min(width - 1.0, std::ceil(right->x));
         ++x) {
      const Point point{static_cast<double>(x), static_cast<double>(y)};
      int sides = 0;
      for (int i = 0; i < 4; ++i) sides += cross(quad[i], quad[(i + 1) % 4], point) >= -1e-9 ? 1 : 0;
      if (sides != 4) continue;
      sum += map[std::size_t(y) * width + x];
      ++count;
    }
  }
  return count == 0 ? 0 : sum / count;
}

/// The projective map that takes the corners (0, 0), (w, 0), (w, h), (0, h) to the quad's.
std::array<double, 9> projection(const Quad &quad, double w, double h) {
  // Of the unit square, by Heckbert's closed form.
  const double dx1 = quad[1].x - quad[2].x, dx2 = quad[3].x - quad[2].x;
  const double dy1 = quad[1].y - quad[2].y, dy2 = quad[3].y - quad[2].y;
  const double sx = quad[0].x - quad[1].x + quad[2].x - quad[3].x;
  const double sy = quad[0].y - quad[1].y + quad[2].y - quad[3].y;
  const double determinant = dx1 * dy2 - dx2 * dy1;
  const double g = determinant == 0 ? 0 : (sx * dy2 - dx2 * sy) / determinant;
  const double i = determinant == 0 ? 0 : (dx1 * sy - sx * dy1) / determinant;
  return {(quad[1].x - quad[0].x + g * quad[1].x) / w,
          (quad[3].x - quad[0].x + i * quad[3].x) / h,
          quad[0].x,
          (quad[1].y - quad[0].y + g * quad[1].y) / w,
          (quad[3].y - quad[0].y + i * quad[3].y) / h,
          quad[0].y,
          g / w,
          i / h,
          1};
}

std::array<double, 3> sample(const Picture &picture, double x, double y) {
  x = std::clamp(x, 0.0, picture.width - 1.0);
  y = std::clamp(y, 0.0, picture.height - 1.0);
  const int x0 = static_cast<int>(x), y0 = static_cast<int>(y);
  const int x1 = std::min(x0 + 1, picture.width - 1), y1 = std::min(y0 + 1, picture.height - 1);
  const double fx = x - x0, fy = y - y0;
  std::array<double, 3> result{};
  for (int c = 0; c < 3; ++c) {
    const auto at = [&](int px, int py) {
      return static_cast<double>(picture.rgb[(std::size_t(py) * picture.width + px) * 3 + c]);
    };
    result[c] = (at(x0, y0) * (1 - fx) + at(x1, y0) * fx) * (1 - fy) + (at(x0, y1) * (1 - fx) + at(x1, y1) * fx) * fy;
  }
  return result;
}

void set_pixel(Picture &picture, int x, int y, const std::array<uint8_t, 3> &colour) {
  if (x < 0 || y < 0 || x >= picture.width || y >= picture.height) return;
  std::copy(colour.begin(), colour.end(), &picture.rgb[(std::size_t(y) * picture.width + x) * 3]);
}

/// Digits in 3 x 5 pixels, row by row from the highest bit.
constexpr uint16_t kDigits[10] = {0b111101101101111, 0b010110010010111, 0b111001111100111, 0b111001111001111,
                                  0b101101111001001, 0b111100111001111, 0b111100111101111, 0b111001001001001,
                                  0b111101111101111, 0b111101111001111};

}  // namespace

std::vector<Point> convex_hull(std::vector<Point> points) {
  std::sort(points.begin(), points.end(),
            [](const Point &a, const Point &b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
  const auto same = [](const Point &a, const Point &b) { return a.x == b.x && a.y == b.y; };
  points.erase(std::unique(points.begin(), points.end(), same), points.end());
  if (points.size() < 3) return points;
  std::vector<Point> hull;
  // Andrew's monotone chain: the lower side, then the upper one.
  for (const bool upper : {false, true}) {
    const std::size_t base = hull.size();
    for (std::size_t i = 0; i < points.size(); ++i) {
      const Point &point = points[upper ? points.size() - 1 - i : i];
      while (hull.size() >= base + 2 && cross(hull[hull.size() - 2], hull.back(), point) <= 0) hull.pop_back();
      hull.push_back(point);
    }
    hull.pop_back();  // is the first of the other side
  }
  return hull;
}

Quad smallest_rectangle(const std::vector<Point> &points) {
  const std::vector<Point> hull = convex_hull(points);
  if (hull.empty()) return {};
  Quad best{hull[0], hull[0], hull[0], hull[0]};
  double best_area = std::numeric_limits<double>::infinity();
  // A side of the rectangle of least area lies on a side of the hull.
  for (std::size_t i = 0; i < hull.size(); ++i) {
    const Point &a = hull[i];
    const Point &b = hull[(i + 1) % hull.size()];
    const double length = distance(a, b);
    if (length == 0) continue;
    const Point u{(b.x - a.x) / length, (b.y - a.y) / length};
    double along_low = 0, along_high = 0, across_low = 0, across_high = 0;
    for (const Point &p : hull) {
      const double along = (p.x - a.x) * u.x + (p.y - a.y) * u.y;
      const double across = (p.y - a.y) * u.x - (p.x - a.x) * u.y;
      along_low = std::min(along_low, along);
      along_high = std::max(along_high, along);
      across_low = std::min(across_low, across);
      across_high = std::max(across_high, across);
    }
    const double area = (along_high - along_low) * (across_high - across_low);
    if (area >= best_area) continue;
    best_area = area;
    const auto corner = [&](double along, double across) {
      return Point{a.x + along * u.x - across * u.y, a.y + along * u.y + across * u.x};
    };
    best = {corner(along_low, across_low), corner(along_high, across_low), corner(along_high, across_high),
            corner(along_low, across_high)};
  }
  return best;
}

Quad grown(const Quad &rectangle, double by) {
  const double width = distance(rectangle[0], rectangle[1]);
  const double height = distance(rectangle[1], rectangle[2]);
  const auto unit = [](const Point &a, const Point &b, double length) {
    return length == 0 ? Point{} : Point{(b.x - a.x) / length, (b.y - a.y) / length};
  };
  const Point u = unit(rectangle[0], rectangle[1], width);
  const Point v = unit(rectangle[1], rectangle[2], height);
  const auto moved = [&](const Point &p, double along, double across) {
    return Point{p.x + by * (along * u.x + across * v.x), p.y + by * (along * u.y + across * v.y)};
  };
  return {moved(rectangle[0], -1, -1), moved(rectangle[1], 1, -1), moved(rectangle[2], 1, 1),
          moved(rectangle[3], -1, 1)};
}

std::vector<TextBox> text_boxes(std::span<const float> map, int width, int height, const BoxOptions &options) {
  std::vector<TextBox> boxes;
  for (const std::vector<Point> &region : regions(map, width, height, options.threshold)) {
    if (boxes.size() == options.largest) break;
    const Quad tight = ordered(smallest_rectangle(region));
    const double w = distance(tight[0], tight[1]);
    const double h = distance(tight[1], tight[2]);
    if (std::min(w, h) < options.smallest_side) continue;
    TextBox box;
    box.score = mean_inside(map, width, height, tight);
    if (box.score < options.score) continue;
    box.corners = grown(tight, w * h * options.growth / (2 * (w + h)));
    boxes.push_back(box);
  }
  const auto middle = [](const TextBox &box) {
    return std::accumulate(box.corners.begin(), box.corners.end(), Point{}, [](const Point &sum, const Point &p) {
      return Point{sum.x + p.x / 4, sum.y + p.y / 4};
    });
  };
  std::stable_sort(boxes.begin(), boxes.end(),
                   [&](const TextBox &a, const TextBox &b) { return middle(a).y < middle(b).y; });
  // Boxes of one line: their middles differ by less than half of the first one's height.
  for (std::size_t first = 0; first < boxes.size();) {
    const double half = distance(boxes[first].corners[1], boxes[first].corners[2]) / 2;
    std::size_t last = first + 1;
    while (last < boxes.size() && middle(boxes[last]).y - middle(boxes[first]).y < half) ++last;
    std::stable_sort(boxes.begin() + static_cast<std::ptrdiff_t>(first),
                     boxes.begin() + static_cast<std::ptrdiff_t>(last),
                     [&](const TextBox &a, const TextBox &b) { return middle(a).x < middle(b).x; });
    first = last;
  }
  return boxes;
}

Picture straightened(const Picture &picture, const Quad &quad) {
  const int width =
      std::max(1, static_cast<int>(std::lround(std::max(distance(quad[0], quad[1]), distance(quad[3], quad[2])))));
  const int height =
      std::max(1, static_cast<int>(std::lround(std::max(distance(quad[0], quad[3]), distance(quad[1], quad[2])))));
  const std::array<double, 9> m = projection(quad, width, height);
  Picture out{width, height, std::vector<uint8_t>(std::size_t{3} * width * height)};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double w = m[6] * x + m[7] * y + m[8];
      const auto pixel = sample(picture, (m[0] * x + m[1] * y + m[2]) / w, (m[3] * x + m[4] * y + m[5]) / w);
      for (int c = 0; c < 3; ++c) {
        out.rgb[(std::size_t(y) * width + x) * 3 + c] = static_cast<uint8_t>(std::lround(pixel[c]));
      }
    }
  }
  constexpr double kUpright = 1.5;
  if (height < kUpright * width) return out;
  Picture turned{height, width, std::vector<uint8_t>(out.rgb.size())};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      // Counter-clockwise: the right column becomes the top row.
      std::copy_n(&out.rgb[(std::size_t(y) * width + x) * 3], 3,
                  &turned.rgb[(std::size_t(width - 1 - x) * height + y) * 3]);
    }
  }
  return turned;
}

Picture turned_by_180(const Picture &picture) {
  Picture out{picture.width, picture.height, std::vector<uint8_t>(picture.rgb.size())};
  const std::size_t pixels = picture.rgb.size() / 3;
  for (std::size_t i = 0; i < pixels; ++i) std::copy_n(&picture.rgb[i * 3], 3, &out.rgb[(pixels - 1 - i) * 3]);
  return out;
}

void draw(Picture &picture, const Quad &quad, int number, const std::array<uint8_t, 3> &colour) {
  for (int i = 0; i < 4; ++i) {
    const Point &a = quad[i];
    const Point &b = quad[(i + 1) % 4];
    const int steps = std::max(1, static_cast<int>(std::ceil(2 * distance(a, b))));
    for (int s = 0; s <= steps; ++s) {
      const double t = static_cast<double>(s) / steps;
      const int x = static_cast<int>(std::lround(a.x + t * (b.x - a.x)));
      const int y = static_cast<int>(std::lround(a.y + t * (b.y - a.y)));
      for (const auto &[dx, dy] : {std::pair{0, 0}, std::pair{1, 0}, std::pair{0, 1}, std::pair{1, 1}}) {
        set_pixel(picture, x + dx, y + dy, colour);
      }
    }
  }
  constexpr int kScale = 3;
  const std::string text = std::to_string(number);
  // Left of the box, or in it at the border.
  int left = static_cast<int>(quad[0].x) - static_cast<int>(text.size()) * 4 * kScale - 4;
  left = std::max(left, 1);
  const int top = std::max(static_cast<int>(quad[0].y), 1);
  for (const char digit : text) {
    if (digit < '0' || digit > '9') continue;
    for (int y = 0; y < 5 * kScale; ++y) {
      for (int x = 0; x < 3 * kScale; ++x) {
        const int bit = 14 - (y / kScale * 3 + x / kScale);
        if ((kDigits[digit - '0'] >> bit & 1) != 0) set_pixel(picture, left + x, top + y, colour);
      }
    }
    left += 4 * kScale;
  }
}

}  // namespace cx::tools

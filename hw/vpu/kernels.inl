// Included by one file for each backend, inside an unnamed namespace. The backend supplies GCC vector types F, I, U of
// kLanes lanes and fma, floor, ceil, round, trunc on F, and includes integers.inl before. Nothing inline from the
// standard library is used here: code compiled for a newer host could replace the one that the rest of the program
// runs.

template <class B>
struct Rows {
  using F = typename B::F;
  using I = typename B::I;
  using U = typename B::U;
  static constexpr size_t kLanes = B::kLanes;

  static inline F set(float x) {
    F r;
    for (size_t i = 0; i < kLanes; ++i) r[i] = x;
    return r;
  }
  static inline F load(const float *x) {
    F r;
    __builtin_memcpy(&r, x, sizeof r);
    return r;
  }
  static inline void store(float *x, F v) { __builtin_memcpy(x, &v, sizeof v); }
  static inline F load_some(const float *x, size_t n) {
    F r{};
    __builtin_memcpy(&r, x, n * sizeof(float));
    return r;
  }
  static inline void store_some(float *x, F v, size_t n) { __builtin_memcpy(x, &v, n * sizeof(float)); }

  static inline F nan() { return (F)(U{} + 0x7FC00000u); }
  static inline F abs(F x) { return (F)((U)x & 0x7FFFFFFFu); }
  static inline F max(F a, F b) {
    const F r = (a > b) ? a : ((a == b) ? (F)((U)a & (U)b) : b);
    return ((a != a) | (b != b)) ? nan() : r;
  }
  static inline F min(F a, F b) {
    const F r = (a < b) ? a : ((a == b) ? (F)((U)a | (U)b) : b);
    return ((a != a) | (b != b)) ? nan() : r;
  }
  /// a - trunc(a / b) * b, which is a number of the format.
  static inline F remainder(F a, F b) {
    F r;
    for (size_t i = 0; i < kLanes; ++i) r[i] = __builtin_fmodf(a[i], b[i]);
    return r;
  }
  static inline F flag(I mask) { return (F)((U)mask & 0x3F800000u); }

  template <class Function>
  static inline __attribute__((always_inline)) void map(const float *x, float *out, size_t n, Function f) {
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(x + i)));
    if (i < n) store_some(out + i, f(load_some(x + i, n - i)), n - i);
  }
  template <class Function>
  static inline __attribute__((always_inline)) void map(const float *a, const float *b, float *out, size_t n,
                                                        Function f) {
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(a + i), load(b + i)));
    if (i < n) store_some(out + i, f(load_some(a + i, n - i), load_some(b + i, n - i)), n - i);
  }

  static void unary(isa::Unary f, const float *x, float *out, size_t n, float imm0, float imm1) {
    using isa::Unary;
    const F p = set(imm0);
    const F q = set(imm1);
    const F zero = set(0.0f);
    const F one = set(1.0f);
    switch (f) {
      case Unary::NEG:
        return map(x, out, n, [](F v) { return -v; });
      case Unary::ABS:
        return map(x, out, n, [](F v) { return abs(v); });
      case Unary::RELU:
        return map(x, out, n, [=](F v) { return max(v, zero); });
      case Unary::LEAKY_RELU:
        return map(x, out, n, [=](F v) { return (v < zero) ? p * v : v; });
      case Unary::CLAMP:
        return map(x, out, n, [=](F v) { return min(max(v, p), q); });
      case Unary::AFFINE:
        return map(x, out, n, [=](F v) { return v * p + q; });
      case Unary::HARD_SIGMOID:
        return map(x, out, n, [=](F v) { return max(zero, min(one, p * v + q)); });
      case Unary::HARD_SWISH:
        return map(x, out, n, [=](F v) { return v * min(max(v + 3.0f, zero), set(6.0f)) / 6.0f; });
      case Unary::FLOOR:
        return map(x, out, n, [](F v) { return B::floor(v); });
      case Unary::CEIL:
        return map(x, out, n, [](F v) { return B::ceil(v); });
      case Unary::ROUND:
        return map(x, out, n, [](F v) { return B::round(v); });
      case Unary::SIGN:
        return map(x, out, n, [=](F v) {
          const F r = (v > zero) ? one : ((v < zero) ? -one : zero);
          return (v != v) ? v : r;
        });
      case Unary::TRUNC:
        return map(x, out, n, [](F v) { return B::trunc(v); });
      case Unary::IS_NAN:
        return map(x, out, n, [](F v) { return flag(v != v); });
      case Unary::IS_INF: {
        const F inf = set(__builtin_inff());
        if (imm0 > 0.0f) return map(x, out, n, [=](F v) { return flag(v == inf); });
        if (imm0 < 0.0f) return map(x, out, n, [=](F v) { return flag(v == -inf); });
        return map(x, out, n, [=](F v) { return flag(abs(v) == inf); });
      }
      default:
        return;
    }
  }

  static void binary(isa::Binary f, const float *a, const float *b, float *out, size_t n) {
    using isa::Binary;
    switch (f) {
      case Binary::ADD:
        return map(a, b, out, n, [](F v, F w) { return v + w; });
      case Binary::SUB:
        return map(a, b, out, n, [](F v, F w) { return v - w; });
      case Binary::MUL:
        return map(a, b, out, n, [](F v, F w) { return v * w; });
      case Binary::MAX:
        return map(a, b, out, n, [](F v, F w) { return max(v, w); });
      case Binary::MIN:
        return map(a, b, out, n, [](F v, F w) { return min(v, w); });
      case Binary::PRELU:
        return map(a, b, out, n, [](F v, F w) { return (v < 0.0f) ? v * w : v; });
      case Binary::EQ:
        return map(a, b, out, n, [](F v, F w) { return flag(v == w); });
      case Binary::LT:
        return map(a, b, out, n, [](F v, F w) { return flag(v < w); });
      case Binary::LE:
        return map(a, b, out, n, [](F v, F w) { return flag(v <= w); });
      case Binary::NE:
        return map(a, b, out, n, [](F v, F w) { return flag(v != w); });
      case Binary::MOD:
        return map(a, b, out, n, [](F v, F w) {
          const F r = remainder(v, w);
          const I other = ((I)r ^ (I)w) < 0;
          return (r == 0.0f) ? (F)((U)w & 0x80000000u) : ((other & (r == r)) ? r + w : r);
        });
      case Binary::FMOD:
        return map(a, b, out, n, [](F v, F w) { return remainder(v, w); });
      default:
        return;
    }
  }

  static void activate(isa::Activation act, float *x, size_t n, float lo, float hi) {
    const F p = set(lo);
    const F q = set(hi);
    const F zero = set(0.0f);
    switch (act) {
      case isa::Activation::RELU:
        return map(x, x, n, [=](F v) { return max(v, zero); });
      case isa::Activation::CLAMP:
        return map(x, x, n, [=](F v) { return min(max(v, p), q); });
      case isa::Activation::NONE:
        return;
    }
  }

  static void canonicalise(const float *x, float *out, size_t n) {
    map(x, out, n, [](F v) { return (v != v) ? nan() : v; });
  }

  template <isa::Reduce kF>
  static inline F combine(F acc, F x) {
    using isa::Reduce;
    if constexpr (kF == Reduce::SUM) return acc + x;
    if constexpr (kF == Reduce::MAX) return max(acc, x);
    if constexpr (kF == Reduce::MIN) return min(acc, x);
    if constexpr (kF == Reduce::PROD) return acc * x;
    if constexpr (kF == Reduce::SUMSQ) return acc + x * x;
    if constexpr (kF == Reduce::ABSSUM) return acc + abs(x);
  }
  template <isa::Reduce kF>
  static inline void accumulate_of(float *acc, const float *x, size_t n) {
    map(acc, x, acc, n, [](F v, F w) { return combine<kF>(v, w); });
  }
  static void accumulate(isa::Reduce f, float *acc, const float *x, size_t n) {
    using isa::Reduce;
    switch (f) {
      case Reduce::SUM:
        return accumulate_of<Reduce::SUM>(acc, x, n);
      case Reduce::MAX:
        return accumulate_of<Reduce::MAX>(acc, x, n);
      case Reduce::MIN:
        return accumulate_of<Reduce::MIN>(acc, x, n);
      case Reduce::PROD:
        return accumulate_of<Reduce::PROD>(acc, x, n);
      case Reduce::SUMSQ:
        return accumulate_of<Reduce::SUMSQ>(acc, x, n);
      case Reduce::ABSSUM:
        return accumulate_of<Reduce::ABSSUM>(acc, x, n);
    }
  }

  template <isa::Reduce kF>
  static inline void partials_of(float *acc, const float *x, size_t n) {
    constexpr size_t kVectors = kPartials / kLanes;
    F v[kVectors];
    for (size_t k = 0; k < kVectors; ++k) v[k] = load(acc + k * kLanes);
    size_t i = 0;
    for (; i + kPartials <= n; i += kPartials) {
      for (size_t k = 0; k < kVectors; ++k) v[k] = combine<kF>(v[k], load(x + i + k * kLanes));
    }
    for (size_t k = 0; k < kVectors; ++k) store(acc + k * kLanes, v[k]);
    accumulate_of<kF>(acc, x + i, n - i);
  }
  static void partials(isa::Reduce f, float *acc, const float *x, size_t n) {
    using isa::Reduce;
    switch (f) {
      case Reduce::SUM:
        return partials_of<Reduce::SUM>(acc, x, n);
      case Reduce::MAX:
        return partials_of<Reduce::MAX>(acc, x, n);
      case Reduce::MIN:
        return partials_of<Reduce::MIN>(acc, x, n);
      case Reduce::PROD:
        return partials_of<Reduce::PROD>(acc, x, n);
      case Reduce::SUMSQ:
        return partials_of<Reduce::SUMSQ>(acc, x, n);
      case Reduce::ABSSUM:
        return partials_of<Reduce::ABSSUM>(acc, x, n);
    }
  }

  // The lanes, n places further on.
  static inline F turned(F x, size_t n) {
#ifdef __clang__
    F result;
    for (size_t i = 0; i < kLanes; ++i) result[i] = x[(i + n) % kLanes];
    return result;
#else
    I from;
    for (size_t i = 0; i < kLanes; ++i) from[i] = static_cast<int32_t>((i + n) % kLanes);
    return __builtin_shuffle(x, from);
#endif
  }

  template <isa::Reduce kF>
  static inline float join_of(const float *acc) {
    F v[kPartials / kLanes];
    for (size_t k = 0; k < kPartials / kLanes; ++k) v[k] = load(acc + k * kLanes);
    for (size_t n = kPartials / kLanes / 2; n > 0; n /= 2) {
      for (size_t k = 0; k < n; ++k) v[k] = combine<kF>(v[k], v[k + n]);
    }
    for (size_t n = kLanes / 2; n > 0; n /= 2) {
      v[0] = combine<kF>(v[0], turned(v[0], n));
    }
    return v[0][0];
  }
  static float join(isa::Reduce f, const float *acc) {
    using isa::Reduce;
    switch (f) {
      case Reduce::MAX:
        return join_of<Reduce::MAX>(acc);
      case Reduce::MIN:
        return join_of<Reduce::MIN>(acc);
      case Reduce::PROD:
        return join_of<Reduce::PROD>(acc);
      case Reduce::SUM:
      case Reduce::SUMSQ:
      case Reduce::ABSSUM:
        break;
    }
    return join_of<Reduce::SUM>(acc);
  }

  template <isa::Window kF>
  static inline F tap(F acc, F x, const float *w, size_t n) {
    if constexpr (kF == isa::Window::MAX) return max(acc, x);
    if constexpr (kF == isa::Window::SUM) return acc + x;
    if constexpr (kF == isa::Window::MAC) return B::fma(x, n == kLanes ? load(w) : load_some(w, n), acc);
  }
  template <isa::Window kF>
  static inline void window_of(const float *const *taps, size_t tap_count, const float *w, float *out,
                               size_t channels) {
    constexpr size_t kVectors = 4;
    const F start = set(kF == isa::Window::MAX ? -__builtin_inff() : 0.0f);
    size_t c = 0;
    for (; c + kVectors * kLanes <= channels; c += kVectors * kLanes) {
      F acc[kVectors] = {start, start, start, start};
      for (size_t t = 0; t < tap_count; ++t) {
        const float *x = taps[t] + c;
        for (size_t k = 0; k < kVectors; ++k) {
          acc[k] = tap<kF>(acc[k], load(x + k * kLanes), w + t * channels + c + k * kLanes, kLanes);
        }
      }
      for (size_t k = 0; k < kVectors; ++k) store(out + c + k * kLanes, acc[k]);
    }
    for (; c + kLanes <= channels; c += kLanes) {
      F acc = start;
      for (size_t t = 0; t < tap_count; ++t) acc = tap<kF>(acc, load(taps[t] + c), w + t * channels + c, kLanes);
      store(out + c, acc);
    }
    if (c < channels) {
      const size_t n = channels - c;
      F acc = start;
      for (size_t t = 0; t < tap_count; ++t) acc = tap<kF>(acc, load_some(taps[t] + c, n), w + t * channels + c, n);
      store_some(out + c, acc, n);
    }
  }
  static void window(isa::Window f, const float *const *taps, size_t tap_count, const float *w, float *out,
                     size_t channels) {
    switch (f) {
      case isa::Window::MAX:
        return window_of<isa::Window::MAX>(taps, tap_count, w, out, channels);
      case isa::Window::SUM:
        return window_of<isa::Window::SUM>(taps, tap_count, w, out, channels);
      case isa::Window::MAC:
        return window_of<isa::Window::MAC>(taps, tap_count, w, out, channels);
    }
  }

  static constexpr Kernels table() {
    return {unary,
            binary,
            activate,
            canonicalise,
            accumulate,
            partials,
            join,
            window,
            Integers::extend,
            Integers::truncate,
            Integers::unary,
            Integers::binary,
            Integers::accumulate,
            Integers::select,
            Integers::keys_of_floats,
            Integers::keys_of_integers,
            Integers::extreme};
  }
};

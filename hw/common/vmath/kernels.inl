// Definitions of the functions over a vector of floats. Included by one file for each backend, which supplies
//   Backend::F, I, U   GCC vectors of float, int32_t, uint32_t with the same number of lanes, and kLanes
//   fma(a, b, c)       one rounding
//   sqrt(a)            correctly rounded
// A product followed by a sum is two roundings unless fma is written. Coefficients: tools/fit.py.

template <class Backend>
struct Definition {
  using F = typename Backend::F;
  using I = typename Backend::I;
  using U = typename Backend::U;

  static inline F set(float x) {
    F r;
    for (size_t i = 0; i < Backend::kLanes; ++i) r[i] = x;
    return r;
  }
  static inline F fma(F a, F b, F c) { return Backend::fma(a, b, c); }
  static inline F fma(F a, float b, F c) { return Backend::fma(a, set(b), c); }
  static inline F fma(F a, F b, float c) { return Backend::fma(a, b, set(c)); }
  static inline F fma(F a, float b, float c) { return Backend::fma(a, set(b), set(c)); }
  static inline F abs(F x) { return (F)((U)x & 0x7FFFFFFFu); }
  static inline F with_sign(F magnitude, F sign) { return (F)((U)magnitude | ((U)sign & 0x80000000u)); }
  static inline F canonical(F x, F r) { return (x != x) ? (F)(U{} + kCanonicalNan) : r; }
  static inline F to_float(I x) { return __builtin_convertvector(x, F); }

  /// Horner with one fused step for each coefficient, given lowest power first.
  template <size_t N>
  static inline F poly(F x, const float (&c)[N]) {
    F r = set(c[N - 1]);
    for (size_t i = N - 1; i-- > 0;) r = fma(r, x, c[i]);
    return r;
  }

  // Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits (ties to even), for |x| < 2^22.
  static constexpr float kMagic = 12582912.0f;
  static constexpr uint32_t kMagicBits = 0x4B400000u;

  /// m * 2^n. m is in [2^-24, 2^24] and the first of the two products is exact: |n| <= 200.
  static inline F scale(F m, I n) {
    const I half = n >> 1;
    const F a = (F)((U)(half + 127) << 23);
    const F b = (F)((U)(n - half + 127) << 23);
    return (m * a) * b;
  }

  struct Exp {
    F m;  ///< e^x = m * 2^n, m in [0.7, 1.42]
    F q;  ///< m - 1 before its rounding
    I n;
  };
  /// Of x + x_lo; |x| <= 138, x_lo below the last place of x.
  static inline Exp exp_parts(F x, F x_lo = F{}) {
    const F t = fma(x, 0x1.715476p+0f, kMagic);
    const F n = t - kMagic;
    F r = fma(n, -0x1.62e43p-1f, x);
    r = fma(n, 0x1.05c61p-29f, r) + x_lo;
    static constexpr float c[] = {0x1.fffffcp-2f, 0x1.55548cp-3f, 0x1.555858p-5f, 0x1.123dep-7f, 0x1.6ac74ep-10f};
    const F q = fma(r * r, poly(r, c), r);
    return {q + 1.0f, q, (I)((U)t - kMagicBits)};
  }
  static inline F exp_in_range(F x) {
    const Exp e = exp_parts(x);
    return scale(e.m, e.n);
  }
  static inline F upper(F x, float limit) { return (x > limit) ? set(limit) : x; }
  static inline F lower(F x, float limit) { return (x < limit) ? set(limit) : x; }

  static inline F exp(F x) { return canonical(x, exp_in_range(lower(upper(x, 89.0f), -104.0f))); }

  struct Log {
    F f;  ///< x = (1 + f) * 2^n, 1 + f in [sqrt 0.5, sqrt 2)
    F n;
  };
  /// x is positive and finite.
  static inline Log log_parts(F x) {
    const I small = x < 0x1p-126f;
    const U bits = (U)(small ? x * 0x1p24f : x) - 0x3F3504F3u;
    const I n = ((I)bits >> 23) - (small & 24);
    return {(F)((bits & 0x7FFFFFu) + 0x3F3504F3u) - 1.0f, to_float(n)};
  }

  static inline F log(F x) {
    const Log p = log_parts(x);
    static constexpr float c[] = {0x1.555548p-2f,  -0x1.00000ap-2f, 0x1.99a43ep-3f,  -0x1.555bbcp-3f, 0x1.23417ap-3f,
                                  -0x1.fc29eap-4f, 0x1.e6547ep-4f,  -0x1.de1e4ep-4f, 0x1.15cbbp-4f};
    const F z = p.f * p.f;
    F r = fma(z, -0.5f, (p.f * z) * poly(p.f, c));
    r = fma(p.n, -0x1.05c61p-29f, r);
    r = fma(p.n, 0x1.62e43p-1f, p.f + r);
    r = (x == 0.0f) ? set(-__builtin_inff()) : r;
    r = (x == __builtin_inff()) ? x : r;
    r = (x < 0.0f) ? (F)(U{} + kCanonicalNan) : r;
    return canonical(x, r);
  }

  static inline F sqrt(F x) {
    const F r = Backend::sqrt(x);
    return canonical(r, r);
  }
  static inline F recip(F x) { return canonical(x, 1.0f / x); }
  static inline F div(F a, F b) {
    const F r = a / b;
    return canonical(r, r);
  }

  static inline F sigmoid(F x) {
    const F e = exp_in_range(-upper(abs(x), 104.0f));
    const F s = e + 1.0f;
    const F s_lo = e - (s - 1.0f);
    const F num = (x < 0.0f) ? e : set(1.0f);
    const F q = num / s;
    const F rest = fma(-q, s_lo, fma(-q, s, num));
    return canonical(x, q + rest / s);
  }

  static inline F tanh(F x) {
    const F a = abs(x);
    static constexpr float c[] = {-0x1.555554p-2f, 0x1.111082p-3f,  -0x1.b9f3a6p-5f,
                                  0x1.63bb18p-6f,  -0x1.0ca356p-7f, 0x1.1a152ap-9f};
    const F z = a * a;
    const F small = fma(a * z, poly(z, c), a);
    const F e = exp_in_range(2.0f * upper(a, 10.0f));
    const F large = 1.0f - 2.0f / (e + 1.0f);
    return canonical(x, with_sign((a < 0.55f) ? small : large, x));
  }

  static inline F erf(F x) {
    const F a = abs(x);
    static constexpr float c[] = {0x1.06eba8p-3f, -0x1.812740p-2f,  0x1.ce2d60p-4f, -0x1.b80088p-6f,
                                  0x1.544332p-8f, -0x1.a5c63ep-11f, 0x1.4e7d92p-14f};
    const F small = fma(a, poly(a * a, c), a);
    static constexpr float d[] = {-0x1.20e994p+0f, -0x1.456930p-1f, -0x1.af9bf4p-4f, 0x1.756668p-6f,
                                  -0x1.8978a6p-9f, 0x1.3cd2d2p-14f, 0x1.53ae3ap-15f, -0x1.2f6354p-18f};
    const F t = upper(a, 3.95f);
    const F large = 1.0f - exp_in_range(t * poly(t, d));
    return canonical(x, with_sign((a < 0.9375f) ? small : large, x));
  }

  static inline F silu(F x) {
    const F v = lower(x, -120.0f);
    const Exp e = exp_parts(-upper(abs(v), 120.0f));
    const F s = scale(e.m, e.n) + 1.0f;
    const F negative = scale(fma(v, e.q, v) / s, e.n);
    F r = (x < 0.0f) ? negative : x / s;
    r = (x == -__builtin_inff()) ? (F)(U{} + kCanonicalNan) : r;
    return canonical(x, r);
  }

  static inline F gelu(F x) {
    // g = |x| * Phi(-|x|), Phi(-a) = exp(-a^2 / 2) * t * S(1 - t), t = 6 / (a + 3). GELU(x) = x - g for x > 0,
    // -g below.
    const F a = upper(abs(x), 15.0f);
    const F h = a * a;
    const F h_lo = fma(a, a, -h);
    const Exp e = exp_parts(-0.5f * h, -0.5f * h_lo);
    static constexpr float c[] = {0x1.f1b89cp-4f,   -0x1.5bb436p-4f, 0x1.3a0d14p-5f,  -0x1.021f2cp-7f,
                                  -0x1.c931f6p-10f, 0x1.30b576p-10f, 0x1.687aecp-13f, -0x1.6c7fbep-13f,
                                  -0x1.6484d4p-15f, 0x1.822316p-16f, 0x1.51fa14p-17f};
    const F t = 6.0f / (a + 3.0f);
    const F g = scale(fma(a, e.q, a) * (t * poly(1.0f - t, c)), e.n);
    F r = (x < 0.0f) ? -g : x - g;
    r = (x == -__builtin_inff()) ? (F)(U{} + kCanonicalNan) : r;
    return canonical(x, r);
  }

  static inline F softplus(F x) {
    // max(x, 0) + log(1 + e), e = exp(-|x|); log(1 + e) = 2 atanh(e / (2 + e)).
    const F e = exp_in_range(-upper(abs(x), 104.0f));
    const F s = (e + e) / (e + 2.0f);
    const F z = (s * s) * 0.25f;
    static constexpr float c[] = {0x1.555556p-2f, 0x1.9998fep-3f, 0x1.24a8a4p-3f,
                                  0x1.c4863cp-4f, 0x1.814602p-4f, 0x1.57726cp-4f};
    const F l = fma(s * z, poly(z, c), s);
    return canonical(x, ((x > 0.0f) ? x : set(0.0f)) + l);
  }

  template <uint32_t kShift>
  static inline F sin_shifted(F x) {
    const F a = abs(x);
    const F t = fma(x, 0x1.45f306p-1f, kMagic);
    const F n = t - kMagic;
    U quadrant = (U)t - kMagicBits;
    const F r1 = fma(n, -0x1.921fb6p+0f, x);  // exact
    const F p = n * 0x1.777a5cp-25f;
    F r = r1 + p;
    const F part = r - r1;
    F lo = ((r1 - (r - part)) + (p - part)) + fma(n, 0x1.777a5cp-25f, -p);
    lo = fma(n, 0x1.ee59dap-50f, lo);
    const I large = a >= 0x1p17f;
    if (Backend::any(large)) {
      for (size_t i = 0; i < Backend::kLanes; ++i) {
        if (large[i] && a[i] < __builtin_inff()) {
          const detail::Reduced reduced = detail::payne_hanek(x[i]);
          quadrant[i] = reduced.quadrant;
          r[i] = reduced.hi;
          lo[i] = reduced.lo;
        }
      }
    }
    quadrant += kShift;
    static constexpr float s[] = {-0x1.555556p-3f, 0x1.111176p-7f, -0x1.a05bbap-13f, 0x1.7cd83ep-19f};
    static constexpr float c[] = {0x1.555556p-5f, -0x1.6c1762p-10f, 0x1.a075e8p-16f, -0x1.372438p-22f};
    const F z = r * r;
    const F sine = r + fma(r * z, poly(z, s), lo);
    // 1 - z / 2 is rounded once; what it loses goes into the sum.
    const F h = z * 0.5f;
    const F w = 1.0f - h;
    const F tail = fma(z * z, poly(z, c), ((1.0f - w) - h) - r * lo);
    const F cosine = w + tail;
    const F v = ((quadrant & 1u) != 0u) ? cosine : sine;
    F result = (F)((U)v ^ ((quadrant & 2u) << 30));
    if constexpr (kShift == 0) result = (x == 0.0f) ? x : result;
    return canonical(x - x, result);
  }
  static inline F sin(F x) { return sin_shifted<0>(x); }
  static inline F cos(F x) { return sin_shifted<1>(x); }

  static inline F atan(F x) {
    // atan(t), t = min(a, 1 / a), and pi / 2 - atan(t) above 1 with what pi / 2 - t loses.
    const F a = abs(x);
    const I outer = a > 1.0f;
    const F t = outer ? 1.0f / a : a;
    static constexpr float c[] = {-0x1.555552p-2f, 0x1.999824p-3f,  -0x1.2476c8p-3f, 0x1.c51c2ep-4f,  -0x1.6981a4p-4f,
                                  0x1.157c0ap-4f,  -0x1.71d65ep-5f, 0x1.7790ccp-6f,  -0x1.eb4446p-8f, 0x1.2d39a6p-10f};
    const F z = t * t;
    const F cubic = t * z;
    const F p = poly(z, c);
    const F half_pi = set(0x1.921fb6p+0f);
    const F r = half_pi - t;
    const F rest = ((half_pi - r) - t) - 0x1.777a5cp-25f;
    const F large = r + fma(-cubic, p, rest);
    return canonical(x, with_sign(outer ? large : fma(cubic, p, t), x));
  }

  static inline F pow(F x, F y) {
    const F ax = abs(x);
    const F ay = abs(y);
    const F inf = set(__builtin_inff());
    const I plain = (ax > 0.0f) & (ax < inf);
    const Log p = log_parts(plain ? ax : set(1.0f));
    // log2(1 + f) as a sum of two: 2 / ln 2 * atanh(s), s = f / (2 + f), atanh(s) = s (1 + z / 3 + z^2 P(z)), z = s^2.
    const F t = p.f + 2.0f;
    const F t_lo = p.f - (t - 2.0f);
    const F s = p.f / t;
    const F s_lo = fma(-s, t_lo, fma(-s, t, p.f)) / t;
    const F z = s * s;
    const F z_lo = fma(s + s, s_lo, fma(s, s, -z));
    static constexpr float c[] = {0x1.999998p-3f, 0x1.2493b6p-3f, 0x1.c63da8p-4f, 0x1.9083fep-4f};
    const F w = (z * z) * poly(z, c);
    const F u = z * 0x1.555556p-2f;
    const F u_lo = fma(z, 0x1.555556p-2f, -u) + fma(z_lo, 0x1.555556p-2f, z * -0x1.555556p-27f);
    const F q = u + w;
    const F q_lo = ((u - q) + w) + u_lo;
    const F v = s * q;
    const F v_lo = fma(s, q_lo, fma(s, q, -v));
    const F h = s + v;
    const F h_lo = ((s - h) + v) + (v_lo + fma(s_lo, q, s_lo));
    const F g = h * 0x1.715476p+1f;
    const F g_lo = fma(h, 0x1.715476p+1f, -g) + fma(h_lo, 0x1.715476p+1f, h * 0x1.4ae0cp-25f);
    const F sum = p.n + g;
    const F sum_lo = ((p.n - sum) + g) + g_lo;
    const F hi = sum + sum_lo;
    const F lo = (sum - hi) + sum_lo;
    // 2^(y * (hi + lo)). Beyond 2^33 the exponent decides nothing but overflow and underflow.
    const F yc = with_sign(upper(ay, 0x1p33f), y);
    F e = yc * hi;
    F e_lo = fma(yc, lo, fma(yc, hi, -e));
    const I far = abs(e) > 200.0f;
    e = far ? with_sign(set(200.0f), e) : e;
    e_lo = far ? set(0.0f) : e_lo;
    const F k = e + kMagic;
    const F n = k - kMagic;
    const F r = (e - n) + e_lo;
    static constexpr float d[] = {0x1.62e430p-1f,  0x1.ebfbe0p-3f,  0x1.c6b074p-5f, 0x1.3b2a5ap-7f,
                                  0x1.5d9c70p-10f, 0x1.44118ep-13f, 0x1.ed4342p-17f};
    F result = scale(fma(r, poly(r, d), 1.0f), (I)((U)k - kMagicBits));
    // IEEE 754 pow at the edges.
    result = plain ? result : (((ax == 0.0f) == (y > 0.0f)) ? set(0.0f) : inf);
    const I below = ay < 0x1p24f;
    const F ay_small = below ? ay : set(0.0f);
    const I whole = __builtin_convertvector(ay_small, I);
    const I integer = (~below) | (to_float(whole) == ay);
    const U odd = (U)(integer & below & whole) << 31;
    result = (F)((U)result | ((U)x & odd));
    const I no_result = ((x < 0.0f) & (ax < inf) & ~integer) | (x != x) | (y != y);
    result = no_result ? (F)(U{} + kCanonicalNan) : result;
    return ((x == 1.0f) | (y == 0.0f)) ? set(1.0f) : result;
  }
};

template <class Backend, typename Backend::F (*kFunction)(typename Backend::F)>
void run_unary(const float *x, float *out, size_t n) {
  using F = typename Backend::F;
  size_t i = 0;
  for (; i + Backend::kLanes <= n; i += Backend::kLanes) {
    F v;
    __builtin_memcpy(&v, x + i, sizeof v);
    v = kFunction(v);
    __builtin_memcpy(out + i, &v, sizeof v);
  }
  if (i < n) {
    F v{};
    __builtin_memcpy(&v, x + i, (n - i) * sizeof(float));
    v = kFunction(v);
    __builtin_memcpy(out + i, &v, (n - i) * sizeof(float));
  }
}

template <class Backend, typename Backend::F (*kFunction)(typename Backend::F, typename Backend::F)>
void run_binary(const float *a, const float *b, float *out, size_t n) {
  using F = typename Backend::F;
  size_t i = 0;
  for (; i + Backend::kLanes <= n; i += Backend::kLanes) {
    F v, w;
    __builtin_memcpy(&v, a + i, sizeof v);
    __builtin_memcpy(&w, b + i, sizeof w);
    v = kFunction(v, w);
    __builtin_memcpy(out + i, &v, sizeof v);
  }
  if (i < n) {
    F v{}, w{};
    __builtin_memcpy(&v, a + i, (n - i) * sizeof(float));
    __builtin_memcpy(&w, b + i, (n - i) * sizeof(float));
    v = kFunction(v, w);
    __builtin_memcpy(out + i, &v, (n - i) * sizeof(float));
  }
}

/// In the order of Unary and Binary.
template <class B>
constexpr Kernels make_kernels() {
  using D = Definition<B>;
  return {{run_unary<B, D::exp>, run_unary<B, D::log>, run_unary<B, D::sqrt>, run_unary<B, D::recip>,
           run_unary<B, D::sigmoid>, run_unary<B, D::tanh>, run_unary<B, D::erf>, run_unary<B, D::silu>,
           run_unary<B, D::gelu>, run_unary<B, D::softplus>, run_unary<B, D::sin>, run_unary<B, D::cos>,
           run_unary<B, D::atan>},
          {run_binary<B, D::pow>, run_binary<B, D::div>}};
}

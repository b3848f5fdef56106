// Included by one file for each backend, inside an unnamed namespace: loops over two's complement of 64 bits that the
// compiler turns into vector code for the flags of the including file. Uses nothing inline from the standard library.

/// `kUnsigned` is UINT64: narrower unsigned numbers are positive ones of 64 bits.
struct Integers {
  template <class T>
  struct __attribute__((packed)) Unaligned {
    T value;
  };

  template <class T>
  static void extend_from(const void *from, int64_t *to, size_t n) {
    const auto *x = static_cast<const Unaligned<T> *>(from);
    for (size_t i = 0; i < n; ++i) to[i] = static_cast<int64_t>(x[i].value);
  }
  static void extend(num::DType type, const void *from, int64_t *to, size_t n) {
    using num::DType;
    switch (type) {
      case DType::INT8:
        return extend_from<int8_t>(from, to, n);
      case DType::UINT8:
        return extend_from<uint8_t>(from, to, n);
      case DType::INT16:
        return extend_from<int16_t>(from, to, n);
      case DType::UINT16:
        return extend_from<uint16_t>(from, to, n);
      case DType::INT32:
        return extend_from<int32_t>(from, to, n);
      case DType::UINT32:
        return extend_from<uint32_t>(from, to, n);
      case DType::INT64:
      case DType::UINT64:
        __builtin_memcpy(to, from, n * sizeof(int64_t));
        return;
      default:
        return;
    }
  }

  template <class T>
  static void truncate_to(const int64_t *from, void *to, size_t n) {
    auto *out = static_cast<Unaligned<T> *>(to);
    for (size_t i = 0; i < n; ++i) out[i].value = static_cast<T>(from[i]);
  }
  static void truncate(size_t bytes, const int64_t *from, void *to, size_t n) {
    if (bytes == 1) return truncate_to<uint8_t>(from, to, n);
    if (bytes == 2) return truncate_to<uint16_t>(from, to, n);
    if (bytes == 4) return truncate_to<uint32_t>(from, to, n);
    __builtin_memcpy(to, from, n * sizeof(int64_t));
  }

  static inline uint64_t bits(int64_t x) { return static_cast<uint64_t>(x); }
  static inline int64_t number(uint64_t x) { return static_cast<int64_t>(x); }
  template <bool kUnsigned>
  static inline bool less(int64_t a, int64_t b) {
    return kUnsigned ? bits(a) < bits(b) : a < b;
  }
  template <bool kUnsigned>
  static inline int64_t max(int64_t a, int64_t b) {
    return less<kUnsigned>(a, b) ? b : a;
  }
  template <bool kUnsigned>
  static inline int64_t min(int64_t a, int64_t b) {
    return less<kUnsigned>(b, a) ? b : a;
  }
  template <bool kUnsigned>
  static inline int64_t abs(int64_t x) {
    return kUnsigned || x >= 0 ? x : number(-bits(x));
  }
  /// Toward zero; by 0 all bits one; the least number by -1 is itself.
  template <bool kUnsigned>
  static inline int64_t quotient(int64_t a, int64_t b) {
    if (b == 0) return -1;
    if (kUnsigned) return number(bits(a) / bits(b));
    return b == -1 ? number(-bits(a)) : a / b;
  }
  /// With the sign of a; by 0 a itself.
  template <bool kUnsigned>
  static inline int64_t remainder(int64_t a, int64_t b) {
    if (b == 0) return a;
    if (kUnsigned) return number(bits(a) % bits(b));
    return b == -1 ? 0 : a % b;
  }
  template <bool kUnsigned>
  static inline int64_t modulo(int64_t a, int64_t b) {
    const int64_t r = remainder<kUnsigned>(a, b);
    return !kUnsigned && b != 0 && r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
  template <bool kUnsigned>
  static inline int64_t power(int64_t a, int64_t b) {
    if (!kUnsigned && b < 0) {
      if (a == 1) return 1;
      return a == -1 ? ((b & 1) != 0 ? -1 : 1) : 0;
    }
    uint64_t result = 1;
    uint64_t square = bits(a);
    for (uint64_t left = bits(b); left != 0; left >>= 1) {
      if ((left & 1) != 0) result *= square;
      square *= square;
    }
    return number(result);
  }

  template <class Function>
  static inline __attribute__((always_inline)) void map(const int64_t *x, int64_t *out, size_t n, Function f) {
    for (size_t i = 0; i < n; ++i) out[i] = f(x[i]);
  }
  template <class Function>
  static inline __attribute__((always_inline)) void map(const int64_t *a, const int64_t *b, int64_t *out, size_t n,
                                                        Function f) {
    for (size_t i = 0; i < n; ++i) out[i] = f(a[i], b[i]);
  }

  template <bool kUnsigned>
  static void unary_of(isa::Unary f, const int64_t *x, int64_t *out, size_t n, int64_t p, int64_t q) {
    using isa::Unary;
    switch (f) {
      case Unary::COPY:
        return map(x, out, n, [](int64_t v) { return v; });
      case Unary::NEG:
        return map(x, out, n, [](int64_t v) { return number(-bits(v)); });
      case Unary::ABS:
        return map(x, out, n, [](int64_t v) { return abs<kUnsigned>(v); });
      case Unary::RELU:
        return map(x, out, n, [](int64_t v) { return max<kUnsigned>(v, 0); });
      case Unary::CLAMP:
        return map(x, out, n, [=](int64_t v) { return min<kUnsigned>(max<kUnsigned>(v, p), q); });
      case Unary::SIGN:
        return map(x, out, n, [](int64_t v) { return int64_t{less<kUnsigned>(0, v)} - less<kUnsigned>(v, 0); });
      case Unary::NOT:
        return map(x, out, n, [](int64_t v) { return ~v; });
      default:
        return;
    }
  }
  static void unary(isa::Unary f, bool is_unsigned, const int64_t *x, int64_t *out, size_t n, int64_t p, int64_t q) {
    is_unsigned ? unary_of<true>(f, x, out, n, p, q) : unary_of<false>(f, x, out, n, p, q);
  }

  template <bool kUnsigned>
  static void binary_of(isa::Binary f, unsigned width, const int64_t *a, const int64_t *b, int64_t *out, size_t n) {
    using isa::Binary;
    switch (f) {
      case Binary::ADD:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return number(bits(v) + bits(w)); });
      case Binary::SUB:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return number(bits(v) - bits(w)); });
      case Binary::MUL:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return number(bits(v) * bits(w)); });
      case Binary::DIV:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return quotient<kUnsigned>(v, w); });
      case Binary::MAX:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return max<kUnsigned>(v, w); });
      case Binary::MIN:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return min<kUnsigned>(v, w); });
      case Binary::POW:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return power<kUnsigned>(v, w); });
      case Binary::EQ:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return int64_t{v == w}; });
      case Binary::NE:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return int64_t{v != w}; });
      case Binary::LT:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return int64_t{less<kUnsigned>(v, w)}; });
      case Binary::LE:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return int64_t{!less<kUnsigned>(w, v)}; });
      case Binary::AND:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return v & w; });
      case Binary::OR:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return v | w; });
      case Binary::XOR:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return v ^ w; });
      case Binary::SHL:
        return map(a, b, out, n, [=](int64_t v, int64_t w) {
          const uint64_t shifted = bits(v) << (bits(w) & 63);
          return number(bits(w) < width ? shifted : 0);
        });
      case Binary::SHR:
        return map(a, b, out, n, [=](int64_t v, int64_t w) {
          const int64_t beyond = !kUnsigned && v < 0 ? -1 : 0;
          const int64_t shifted = kUnsigned ? number(bits(v) >> (bits(w) & 63)) : v >> (bits(w) & 63);
          return bits(w) < width ? shifted : beyond;
        });
      case Binary::MOD:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return modulo<kUnsigned>(v, w); });
      case Binary::FMOD:
        return map(a, b, out, n, [](int64_t v, int64_t w) { return remainder<kUnsigned>(v, w); });
      default:
        return;
    }
  }
  static void binary(isa::Binary f, bool is_unsigned, unsigned width, const int64_t *a, const int64_t *b, int64_t *out,
                     size_t n) {
    is_unsigned ? binary_of<true>(f, width, a, b, out, n) : binary_of<false>(f, width, a, b, out, n);
  }

  template <bool kUnsigned>
  static void accumulate_of(isa::Reduce f, int64_t *acc, const int64_t *x, size_t n) {
    using isa::Reduce;
    switch (f) {
      case Reduce::SUM:
        return map(acc, x, acc, n, [](int64_t v, int64_t w) { return number(bits(v) + bits(w)); });
      case Reduce::MAX:
        return map(acc, x, acc, n, [](int64_t v, int64_t w) { return max<kUnsigned>(v, w); });
      case Reduce::MIN:
        return map(acc, x, acc, n, [](int64_t v, int64_t w) { return min<kUnsigned>(v, w); });
      case Reduce::PROD:
        return map(acc, x, acc, n, [](int64_t v, int64_t w) { return number(bits(v) * bits(w)); });
      case Reduce::SUMSQ:
        return map(acc, x, acc, n, [](int64_t v, int64_t w) { return number(bits(v) + bits(w) * bits(w)); });
      case Reduce::ABSSUM:
        return map(acc, x, acc, n, [](int64_t v, int64_t w) { return number(bits(v) + bits(abs<kUnsigned>(w))); });
    }
  }
  static void accumulate(isa::Reduce f, bool is_unsigned, int64_t *acc, const int64_t *x, size_t n) {
    is_unsigned ? accumulate_of<true>(f, acc, x, n) : accumulate_of<false>(f, acc, x, n);
  }

  template <class T>
  static void select_of(const uint8_t *cond, const void *a, const void *b, void *out, size_t n) {
    const auto *x = static_cast<const Unaligned<T> *>(a);
    const auto *y = static_cast<const Unaligned<T> *>(b);
    auto *z = static_cast<Unaligned<T> *>(out);
    for (size_t i = 0; i < n; ++i) {
      const T mask = static_cast<T>(T{0} - static_cast<T>(cond[i] != 0));
      z[i].value = static_cast<T>(y[i].value ^ ((x[i].value ^ y[i].value) & mask));
    }
  }
  static void select(size_t bytes, const uint8_t *cond, const void *a, const void *b, void *out, size_t n) {
    if (bytes == 1) return select_of<uint8_t>(cond, a, b, out, n);
    if (bytes == 2) return select_of<uint16_t>(cond, a, b, out, n);
    if (bytes == 4) return select_of<uint32_t>(cond, a, b, out, n);
    return select_of<uint64_t>(cond, a, b, out, n);
  }

  /// FP32 numbers as integers in the same order, the largest first if not `smallest`: -0 is +0, NaN comes before all.
  static void keys_of_floats(const float *x, bool smallest, int64_t *keys, size_t n) {
    const int32_t flip = smallest ? -1 : 0;
    for (size_t i = 0; i < n; ++i) {
      const float v = x[i] + 0.0f;
      const int32_t raw = __builtin_bit_cast(int32_t, v);
      const int32_t ordered = (raw ^ ((raw >> 31) & 0x7FFFFFFF)) ^ flip;
      keys[i] = v != v ? INT32_MAX : ordered;
    }
  }
  static void keys_of_integers(const int64_t *x, bool is_unsigned, bool smallest, int64_t *keys, size_t n) {
    const uint64_t flip = (is_unsigned ? uint64_t{1} << 63 : 0) ^ (smallest ? ~uint64_t{0} : 0);
    for (size_t i = 0; i < n; ++i) keys[i] = number(bits(x[i]) ^ flip);
  }

  /// best[i], where[i]: the largest key so far and its index; of equal ones the first, or the last.
  static void extreme(const int64_t *keys, int64_t index, bool last, int64_t *best, int64_t *where, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const bool take = last ? keys[i] >= best[i] : keys[i] > best[i];
      best[i] = take ? keys[i] : best[i];
      where[i] = take ? index : where[i];
    }
  }
};

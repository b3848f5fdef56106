#!/usr/bin/python3
"""Computes the polynomial coefficients of hw/common/vmath/kernels.inl.

Minimises the largest weighted error |w(x) * (p(x) - f(x))| by Remez exchange in the Chebyshev basis, in 80-bit floats.
Coefficients are rounded to FP32 one at a time, from the most significant down; after each rounding the rest is fitted
again, so that the remaining coefficients absorb the rounding error.

    /usr/bin/python3 hw/common/vmath/tools/fit.py
"""
import math
from fractions import Fraction

import numpy as np

L = np.longdouble
PI = L("3.14159265358979323846264338327950288")
LN2 = L("0.693147180559945309417232121458176568")
# For constants that are split into more than 64 bits.
PI_EXACT = Fraction("3.14159265358979323846264338327950288419716939937510582097494459")
LN2_EXACT = Fraction("0.693147180559945309417232121458176568075500134360255254120680009")


def solve(a, b):
    """Linear solve with pivoting in longdouble (numpy.linalg works in double only)."""
    a, b, n = a.copy(), b.copy(), len(b)
    for i in range(n):
        p = i + int(np.argmax(np.abs(a[i:, i])))
        a[[i, p]], b[[i, p]] = a[[p, i]], b[[p, i]]
        for r in range(i + 1, n):
            m = a[r, i] / a[i, i]
            a[r, i:] -= m * a[i, i:]
            b[r] -= m * b[i]
    x = np.zeros(n, L)
    for i in range(n - 1, -1, -1):
        x[i] = (b[i] - np.dot(a[i, i + 1:], x[i + 1:])) / a[i, i]
    return x


def minimax(f, w, lo, hi, powers):
    """Coefficients of sum c_k x^powers[k] with equal weighted extremes on [lo, hi]; returns (c, largest error)."""
    n = len(powers)
    grid = (L(lo) + L(hi)) / 2 + (L(hi) - L(lo)) / 2 * np.cos(PI * np.arange(0, 4001, dtype=L) / 4000)[::-1]
    basis = np.stack([grid**k for k in powers], 1)
    fv, wv = f(grid), w(grid)
    idx = np.round((1 - np.cos(np.pi * np.arange(n + 1) / n)) / 2 * 4000).astype(int)
    best = None
    for _ in range(60):
        sign = np.array([(-1)**i for i in range(n + 1)], L)
        a = np.concatenate([basis[idx] * wv[idx, None], sign[:, None]], 1)
        scale = np.abs(a).max(0)
        c = solve(a / scale, fv[idx] * wv[idx]) / scale
        err = (basis @ c[:n] - fv) * wv
        worst = np.abs(err).max()
        if best is None or worst < best[1]:
            best = (c[:n], worst)
        # one extreme for each run of equal sign
        cuts = np.flatnonzero(np.diff(np.sign(err)) != 0)
        runs = np.split(np.arange(len(err)), cuts + 1)
        ext = [r[int(np.argmax(np.abs(err[r])))] for r in runs]
        while len(ext) > n + 1:
            ext.pop(0 if abs(err[ext[0]]) < abs(err[ext[-1]]) else -1)
        if len(ext) < n + 1 or list(ext) == list(idx):
            break
        idx = np.array(ext)
    return best


def fit(name, f, w, lo, hi, powers, fixed=None):
    """Prints FP32 coefficients, lowest power first. fixed: {power: value} not to be fitted."""
    done = dict(fixed or {})
    todo = [p for p in powers if p not in done]
    while todo:
        g = lambda x: f(x) - sum((L(v) * x**k for k, v in done.items()), L(0) * x)
        c, _ = minimax(g, w, lo, hi, todo)
        done[todo[0]] = np.float32(c[0])
        todo = todo[1:]
    x = np.linspace(L(lo), L(hi), 20001, dtype=L)
    err = np.abs((sum(L(v) * x**k for k, v in done.items()) - f(x)) * w(x)).max()
    print(f"// {name} on [{float(lo):.6g}, {float(hi):.6g}]: 2^{math.log2(float(err)):.1f}")
    for k in powers:
        print(f"  {float(done[k]).hex():>24}  // {k}: {float(done[k]):.9g}")


def split(name, v, parts):
    """v as a sum of FP32 numbers."""
    out = []
    for _ in range(parts):
        e = math.floor(math.log2(abs(float(v)))) - 23
        h = Fraction(round(v / Fraction(2)**e)) * Fraction(2)**e
        out.append(h)
        v -= h
    print(f"// {name}: " + " + ".join(float(h).hex() for h in out))


def erfcx(t):
    """exp(t^2) * erfc(t), t >= 0, by Taylor series below 2 and a continued fraction above."""
    out = np.empty_like(t)
    for i, v in enumerate(t):
        v = L(v)
        if v < 2:
            term, total, n = v, v, 0
            while abs(term) > abs(total) * L(1e-22):
                n += 1
                term = term * 2 * v * v / (2 * n + 1)
                total += term
            # erf(v) = 2/sqrt(pi) exp(-v^2) * total
            out[i] = np.exp(v * v) - 2 / np.sqrt(PI) * total
        else:
            k = L(0)
            for n in range(400, 0, -1):
                k = L(n) / 2 / (v + k)
            out[i] = 1 / np.sqrt(PI) / (v + k)
    return out


def atanh_tail(z):
    """(atanh(s) / s - 1) / s^2 with z = s^2."""
    total = np.zeros_like(z)
    for k in range(60, -1, -1):
        total = total * z + L(1) / (2 * k + 3)
    return total


def series(z, first, count, step):
    total = np.zeros_like(z)
    for k in range(count, -1, -1):
        total = total * z + step(k)
    return total


one = lambda x: np.ones_like(x)
half = LN2 / 2 * L(1.0001)


def main():
    split("ln2", LN2_EXACT, 2)
    split("log2 e", 1 / LN2_EXACT, 2)
    split("2 / ln2", 2 / LN2_EXACT, 2)
    split("pi / 2", PI_EXACT / 2, 3)
    split("2 / pi", 2 / PI_EXACT, 2)
    split("1/3", Fraction(1, 3), 2)
    # exp(r) = 1 + r + r^2 Q(r)
    fact = lambda k: L(1) / L(math.factorial(k))
    fit("EXP: (e^r - 1 - r) / r^2", lambda r: series(r, 0, 30, lambda k: fact(k + 2)), lambda r: r * r * np.exp(-r), -half, half, range(5))
    # 2^r - 1 = r Q(r)
    l2 = lambda k: LN2**(k + 1) / L(math.factorial(k + 1))
    fit("EXP2: (2^r - 1) / r", lambda r: series(r, 0, 30, l2), lambda r: np.abs(r) + L(1e-3), -0.5001, 0.5001, range(7))
    # log(1 + f) = f - f^2 / 2 + f^3 P(f)
    lo, hi = np.sqrt(L(0.5)) - 1, np.sqrt(L(2)) - 1
    g = lambda f: np.array([(np.log1p(v) - v + v * v / 2) / v**3 if abs(v) > L(0.02) else sum((-1)**k * v**k / L(k + 3) for k in range(18)) for v in f], L)
    fit("LOG: (log(1 + f) - f + f^2 / 2) / f^3", g, lambda f: np.abs(f * f * f / np.where(f == 0, L(1), np.log1p(f))), lo, hi, range(9))
    # atanh, for POW (|s| <= 0.1716) and SOFTPLUS (s <= 1/3)
    zmax = ((np.sqrt(L(2)) - 1) / (np.sqrt(L(2)) + 1))**2
    tail = lambda z: series(z, 0, 60, lambda k: L(1) / (2 * k + 5))
    fit("POW: (atanh(s) / s - 1 - z / 3) / z^2", tail, lambda z: z * z, 0, zmax * L(1.0001), range(4))
    fit("SOFTPLUS: (atanh(s) / s - 1) / z, z = s^2", atanh_tail, lambda z: z, 0, L(1.0001) / 9, range(6))
    # sin, cos on [-pi/4, pi/4]
    zq = (PI / 4)**2 * L(1.0001)
    fit("SIN: (sin r - r) / r^3", lambda z: series(z, 0, 20, lambda k: (-1)**(k + 1) * fact(2 * k + 3)), lambda z: z, 0, zq, range(4))
    fit("COS: (cos r - 1 + z / 2) / z^2", lambda z: series(z, 0, 20, lambda k: (-1)**k * fact(2 * k + 4)), lambda z: z * z, 0, zq, range(4))
    # tanh on [0, 0.55]: (tanh(x) / x - 1) / x^2
    def tanh_tail(z):
        x = np.sqrt(z)
        big = z > L(0.01)
        xs = np.where(big, x, L(1))
        taylor = -L(1) / 3 + z * (L(2) / 15 + z * (-L(17) / 315 + z * (L(62) / 2835 + z * (-L(1382) / 155925 + z * (L(21844) / 6081075 - z * L(929569) / 638512875)))))
        return np.where(big, (np.tanh(xs) / xs - 1) / (xs * xs), taylor)
    fit("TANH: (tanh(x) / x - 1) / z", tanh_tail, lambda z: z, 0, L("0.3026"), range(6))
    # erf on [0, 0.9375]: (erf(x) / x - 1)
    def erf_ratio(z):
        return 2 / np.sqrt(PI) * series(z, 0, 40, lambda k: (-1)**k * fact(k) / (2 * k + 1)) - 1
    fit("ERF small: erf(x) / x - 1", erf_ratio, lambda z: one(z), 0, L("0.8790"), range(7))
    # log(erfc(t)) + t on [0.9375, 3.95] divided by t
    def lerfc(t):
        return (np.log(erfcx(t)) - t * t) / t
    fit("ERF large: log(erfc(t)) / t", lerfc, lambda t: t * erfcx(t) * np.exp(-t * t), L("0.9370"), L("3.95"), range(8))
    # Phi(-a) = exp(-a^2 / 2) * (1 - u) * S(u), u = (a - 3) / (a + 3), 0 <= a <= 15; Phi(-a) = exp(-a^2 / 2) erfcx(a / sqrt 2) / 2
    def s_of_u(u):
        a = 3 * (1 + u) / (1 - u)
        return erfcx(a / np.sqrt(L(2))) / 2 / (1 - u)
    fit("GELU: S(u)", s_of_u, lambda u: 1 / s_of_u(u), -1, L(15 - 3) / L(15 + 3), range(11))
    # atan on [0, 1]: (atan(t) / t - 1) / t^2, z = t^2
    def atan_tail(z):
        big = z > L(0.02)
        t = np.sqrt(np.where(big, z, L(1)))
        taylor = series(z, 0, 14, lambda k: (-1)**(k + 1) / L(2 * k + 3))
        return np.where(big, (np.arctan(t) / t - 1) / (t * t), taylor)
    fit("ATAN: (atan(t) / t - 1) / z", atan_tail, lambda z: z, 0, L(1), range(10))


if __name__ == "__main__":
    main()

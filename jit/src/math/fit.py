"""Fits the polynomials of this folder: minimax by Lawson's reweighting, coefficients rounded to
f32 one by one from the lowest, the rest refitted after each. Prints Rust arrays and the error
of the rounded polynomial against f64."""

import math
import numpy as np

V = np.vectorize


def minimax(lo, hi, basis, target, n):
    """Finds c with max |sum_j c[j]*basis(x, j) - target(x)| small on [lo, hi]; c and that maximum."""
    x = (lo + hi) / 2 + (hi - lo) / 2 * np.cos((np.arange(3000) + 0.5) * math.pi / 3000)
    cols = np.stack([basis(x, j) for j in range(n)], 1)
    t = target(x)
    coefs = []
    for k in range(n):
        w = np.ones_like(x)
        rest = t - cols[:, :k] @ np.array(coefs, dtype=float) if k else t
        a = cols[:, k:]
        best, best_c = np.inf, None
        for _ in range(300):
            s = np.sqrt(w)[:, None]
            scale = np.abs(a * s).max(0)
            c = np.linalg.lstsq(a * s / scale, rest * s[:, 0], rcond=None)[0] / scale
            e = np.abs(a @ c - rest)
            if e.max() < best:
                best, best_c = e.max(), c
            w = w * (e + 1e-3 * e.max())
            w /= w.mean()
        coefs.append(float(np.float32(best_c[0])))
    return coefs, np.abs(cols @ np.array(coefs) - t).max()


def fit(name, lo, hi, basis, target, n):
    """Prints the polynomial on [lo, hi]."""
    coefs, err = minimax(lo, hi, basis, target, n)
    print(f"// {name} on [{lo:.6g}, {hi:.6g}]: 2^{math.log2(err):.2f}")
    bits = ", ".join(str(np.float32(c)) for c in coefs)
    print(f"const {name}: [f32; {n}] = [{bits}];")


def table(name, f, step, n, linear, nudge):
    """Prints 16 polynomials: f(x) = sum_j c[j] d^j around the multiples of step, d the distance. The first has no constant
    and is of f(x) - linear*d; on the last one the target is nudged, so that f at its end rounds to 1."""
    rows, worst = [], 0.0
    for i in range(16):
        c, h = i * step, step / 2
        lo, first = (1e-4, 1) if i == 0 else (c - h, 0)
        aside = linear if i == 0 else 0.0
        bump = nudge if i == 15 else 0.0
        coefs, err = minimax(lo, c + h, lambda x, j: (x - c) ** (first + j) / f(x),
                             lambda x: (f(x) - aside * (x - c) + bump * (x - c + h) / step) / f(x), n - first)
        rows.append([0.0] * first + coefs)
        worst = max(worst, err)
    print(f"// {name}, steps of {step}: 2^{math.log2(worst):.2f}")
    print(f"const {name}: [[f32; 16]; {n}] = [")
    for column in zip(*rows):
        print("    [" + ", ".join(str(np.float32(c)) for c in column) + "],")
    print("];")


L2 = math.log(2)
erf, erfc = V(math.erf), V(math.erfc)
for n in (5, 6):
    fit(f"EXPM1_{n}", -L2 / 2 - 1e-6, L2 / 2 + 1e-6, lambda x, j: x ** (2 + j) / np.expm1(x),
        lambda x: (np.expm1(x) - x) / np.expm1(x), n)
for n in (8, 9):
    fit(f"LOG_{n}", -1 / 3, 1 / 3, lambda x, j: x ** (2 + j) / np.log1p(x),
        lambda x: (np.log1p(x) - x) / np.log1p(x), n)
for s, c in (("LOG2", 1 / L2), ("LOG10", 1 / math.log(10))):
    fit(s, -1 / 3, 1 / 3, lambda x, j: x ** (2 + j) / (c * np.log1p(x)),
        lambda x: (c * np.log1p(x) - c * x) / (c * np.log1p(x)), 9)
for n in (5, 6):
    fit(f"TANH_{n}", 1e-4, 0.65, lambda x, j: x ** (3 + 2 * j) / np.tanh(x),
        lambda x: (np.tanh(x) - x) / np.tanh(x), n)
for n in (6, 7):
    fit(f"ERF_{n}", 1e-4, 0.95, lambda x, j: x ** (1 + 2 * j) / erf(x),
        lambda x: (erf(x) - x) / erf(x), n)
for n in (7, 8):
    fit(f"ERFC_{n}", 0.92, 4.0, lambda x, j: x ** j * erfc(x) / erf(x),
        lambda x: np.log(erfc(x)) * erfc(x) / erf(x), n)
for n in (3, 4):
    fit(f"SIN_{n}", 1e-4, math.pi / 4 + 1e-3, lambda x, j: x ** (3 + 2 * j) / np.sin(x),
        lambda x: (np.sin(x) - x) / np.sin(x), n)
    fit(f"COS_{n}", 1e-4, math.pi / 4 + 1e-3, lambda x, j: x ** (4 + 2 * j) / np.cos(x),
        lambda x: (np.cos(x) - 1 + x * x / 2) / np.cos(x), n)
fit("ATANH", 1e-4, 0.2001, lambda x, j: x ** (3 + 2 * j) / (2 * np.arctanh(x)),
    lambda x: (2 * np.arctanh(x) - 2 * x) / (2 * np.arctanh(x)), 4)
ERF_SLOPE = 2 / math.sqrt(math.pi)
table("ERF", erf, 0.25, 6, ERF_SLOPE - float(np.float32(ERF_SLOPE)), 4e-8)
table("TANH", np.tanh, 0.625, 8, 0.0, 0.0)

# pow_table: c near 16/(16 + i), of so few bits that c*m - 1 is exact in f32 for all m around 1 + i/16.
inverse, ends = [], []
for i in range(16):
    a, b = (1 - 1 / 64 if i == 0 else 1 + (i - 0.5) / 16), 1 + (i + 0.5) / 16
    reach = lambda c: max(abs(a * c - 1), abs(b * c - 1))
    short = lambda j: reach(j / 64) < (1 / 16 if j % 2 == 0 else 1 / 32)
    c = 1.0 if i == 0 else min((j / 64 for j in range(32, 65) if short(j)), key=reach)
    inverse.append(c)
    ends.append((a, b))
kept = [round(math.log2(c) * 2 ** 15) / 2 ** 15 for c in inverse]
print("INVERSE", inverse)
print("LOG2", [str(np.float32(x)) for x in kept])
print("LOG2_LOW", [str(np.float32(k - math.log2(c))) for k, c in zip(kept, inverse)])
print("EXP2", [str(np.float32(2 ** (i / 16))) for i in range(16)])


def smallest_log(r):
    """The least |log2| of a number whose table entry leaves r."""
    least = np.full_like(r, np.inf)
    for c, (a, b) in zip(inverse, ends):
        x = (1 + r) / c
        for k in (-1, 0):
            here = (x >= a - 1e-4) & (x <= b + 1e-4)
            least = np.where(here, np.minimum(least, np.abs(np.log2(x) + k) + 1e-5), least)
    return np.where(np.isinf(least), 1, least)


log_tail = lambda x: sum((-1) ** (k + 1) * x ** k / k for k in range(3, 25)) / L2
reached = [e * c - 1 for c, pair in zip(inverse, ends) for e in pair]
fit("P", min(reached), max(reached), lambda x, j: x ** (3 + j) / smallest_log(x), lambda x: log_tail(x) / smallest_log(x), 4)
fit("Q", -1 / 32 - 1e-6, 1 / 32 + 1e-6, lambda x, j: x ** (1 + j), lambda x: np.expm1(x * L2), 3)

# exp_table
print("INVERSE_LESS_1", [str(np.float32(2 ** (-i % 16 / 16) - 1)) for i in range(16)])
fit("P", -L2 / 32 - 1e-6, L2 / 32 + 1e-6, lambda x, j: x ** (1 + j) * np.exp(-x), lambda x: np.expm1(x) * np.exp(-x), 3)

# log_table: c near 1/m over the middle of a sixteenth of 1..1.5 or a thirty-second of 0.75..1, of so few bits that c*m - 1 is exact.
middles = [(1 + (i + 0.5) / 16) / (1 if i < 8 else 2) for i in range(16)]
inverse = [1.0 if i in (0, 15) else round(128 / m) / 128 for i, m in enumerate(middles)]
print("INVERSE", inverse)
print("LOG", [str(np.float32(-math.log(c))) for c in inverse])
fit("P", -1 / 16, 1 / 16, lambda x, j: x ** (2 + j) / np.log1p(x), lambda x: (np.log1p(x) - x) / np.log1p(x), 5)

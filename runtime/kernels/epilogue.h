// What is done to a product before it is stored, chosen by specialization constants:
//   x = activate(x * scale + bias + residual), or the residual after the activation; each part may be absent.
int __attribute__((overloadable)) __spirv_SpecConstant(int id, int otherwise);

// 0: none, 1: relu, 2: gelu (erf), 3: gelu (tanh), 4: silu
#define ACTIVATION __spirv_SpecConstant(0, 0)
// A vector that is added first: 0 none, 1 a number for each column, 2 for each row.
#define BIAS __spirv_SpecConstant(1, 0)
// A matrix that is added: 0 none, 1 after the activation, 2 before it.
#define RESIDUAL __spirv_SpecConstant(2, 0)
// A vector of floats that multiplies before, alike; and whether the one that is added is of floats too.
#define SCALE __spirv_SpecConstant(3, 0)
#define FLOATS __spirv_SpecConstant(4, 0)

// The device's own exponential is good enough beside rounding to 16 bits, and not where results are floats.
#if !defined(EXP)
#define EXP native_exp
#endif
// Abramowitz and Stegun 7.1.26, below 1.5e-7 off: the library's erf is hundreds of instructions, in each of a tile's elements.
#define ACTIVATE(T)                                                                                                    \
  static inline T __attribute__((overloadable)) erf_of(T x) {                                                          \
    T z = fabs(x), t = 1.f / (1.f + 0.3275911f * z);                                                                   \
    T p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));      \
    return copysign(1.f - p * EXP(-z * z), x);                                                                  \
  }                                                                                                                    \
  static inline T __attribute__((overloadable)) activate(T x) {                                                        \
    int kind = ACTIVATION;                                                                                             \
    if (kind == 1) return x < 0.f ? (T)0.f : x; /* a NaN stays one */                                                  \
    if (kind == 2) return 0.5f * x * (1.f + erf_of(x * 0.70710678f));                                                  \
    if (kind == 3) return x * (1.f - 1.f / (1.f + EXP(1.59576912f * (x + 0.044715f * x * x * x)))); /* tanh */  \
    if (kind == 4) return x / (1.f + EXP(-x));                                                                  \
    return x;                                                                                                          \
  }
ACTIVATE(float)
ACTIVATE(float8)

// The i-th number of a vector of floats or of what WIDEN takes to floats.
#define NUMBER(v, i) (FLOATS ? ((const __global float *)(v))[i] : WIDEN((v)[i]))
// The epilogue of the element at `row` and `column`; `at` is its place in the residual.
#define FINISH(x, row, column, at)                             \
  {                                                            \
    if (SCALE) x *= scale[SCALE == 2 ? (row) : (column)];      \
    if (BIAS) x += NUMBER(bias, BIAS == 2 ? (row) : (column)); \
    if (RESIDUAL == 2) x += WIDEN(residual[at]);               \
    x = activate(x);                                           \
    if (RESIDUAL == 1) x += WIDEN(residual[at]);               \
  }

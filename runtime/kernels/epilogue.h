// What is done to a product before it is stored, chosen by specialization constants.
int __attribute__((overloadable)) __spirv_SpecConstant(int id, int otherwise);

// 0: none, 1: relu, 2: gelu (erf), 3: gelu (tanh), 4: silu
#define ACTIVATION __spirv_SpecConstant(0, 0)
// Whether a row of biases is added before, and a matrix after.
#define BIAS __spirv_SpecConstant(1, 0)
#define RESIDUAL __spirv_SpecConstant(2, 0)

// Abramowitz and Stegun 7.1.26, below 1.5e-7 off: the library's erf is hundreds of instructions, in each of a tile's elements.
static inline float erf_of(float x) {
  float z = fabs(x), t = 1.f / (1.f + 0.3275911f * z);
  float p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  return copysign(1.f - p * native_exp(-z * z), x);
}
static inline float tanh_of(float x) { return 1.f - 2.f / (1.f + native_exp(2.f * x)); }
static inline float activate(float x) {
  int kind = ACTIVATION;
  if (kind == 1) return fmax(x, 0.f);
  if (kind == 2) return 0.5f * x * (1.f + erf_of(x * 0.70710678f));
  if (kind == 3) return 0.5f * x * (1.f + tanh_of(0.79788456f * (x + 0.044715f * x * x * x)));
  if (kind == 4) return x / (1.f + native_exp(-x));
  return x;
}

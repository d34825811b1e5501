// Elements of -DF32, -DF16 or -DBF16 as floats.
#if defined(F32)
typedef float element;
static inline float wide(float x) { return x; }
static inline float narrow(float x) { return x; }
#elif defined(F16)
typedef ushort element;
static inline float wide(ushort x) { return (float)as_half(x); }
static inline ushort narrow(float x) { return as_ushort((half)x); }
#elif defined(BF16)
typedef ushort element;
static inline float wide(ushort x) { return as_float((uint)x << 16); }
// To nearest even; a NaN stays one.
static inline ushort narrow(float x) {
  uint bits = as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (ushort)(bits >> 16 | 0x40);
  return (ushort)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
#endif

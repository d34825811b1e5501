// A float as bf16, to nearest even; a NaN stays one.
static inline ushort to_bf16(float x) {
  uint bits = as_uint(x), rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  return (ushort)(select(rounded, bits | 0x400000u, (uint)((bits & 0x7fffffffu) > 0x7f800000u ? ~0u : 0u)) >> 16);
}

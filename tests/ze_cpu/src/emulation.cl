// Matrix instructions (DPAS) and loads of 2D blocks as OpenCL C, linked with each module that imports them. One step multiplies 8 rows of A by a block of B
// with as many columns as the sub-group has lanes. Lane n holds column n of the sums, and of B the elements k of that column packed into
// eight words. A lane holds of each row of A one word (sub-group of 8) or half a word (16) of consecutive elements k.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define NAMED __attribute__((overloadable))
#define STEP __attribute__((overloadable, noinline))

float f16_of(uint x) { return (float)as_half((ushort)x); }
float bf16_of(uint x) { return as_float(x << 16); }

float dot_f16(uint a, uint b) { return f16_of(a) * f16_of(b) + f16_of(a >> 16) * f16_of(b >> 16); }
float dot_bf16(uint a, uint b) { return bf16_of(a) * bf16_of(b) + bf16_of(a >> 16) * bf16_of(b >> 16); }
int dot_i8(uint a, uint b) {
  char4 x = as_char4(a), y = as_char4(b);
  return x.s0 * y.s0 + x.s1 * y.s1 + x.s2 * y.s2 + x.s3 * y.s3;
}

// The i-th word of a row of A, from the lanes that hold it.
uint NAMED word(int row, int i) { return (uint)sub_group_broadcast(row, i); }
uint NAMED word(short row, int i) {
  uint low = (ushort)sub_group_broadcast((int)row, 2 * i), high = (ushort)sub_group_broadcast((int)row, 2 * i + 1);
  return low | high << 16;
}

#define MULTIPLY(NAME, DOT, ROW, SUM)                                     \
  SUM##8 STEP NAME(ROW##8 a, int8 b, SUM##8 c) {                          \
    ROW rows[8];                                                          \
    uint words[8];                                                        \
    SUM sums[8];                                                          \
    vstore8(a, 0, rows);                                                  \
    vstore8(as_uint8(b), 0, words);                                       \
    vstore8(c, 0, sums);                                                  \
    for (int i = 0; i < 8; i++)                                           \
      for (int m = 0; m < 8; m++) sums[m] += DOT(word(rows[m], i), words[i]); \
    return vload8(0, sums);                                               \
  }
MULTIPLY(intel_sub_group_f16_f16_matrix_mad_k16, dot_f16, int, float)
MULTIPLY(intel_sub_group_f16_f16_matrix_mad_k16, dot_f16, short, float)
MULTIPLY(intel_sub_group_bf16_bf16_matrix_mad_k16, dot_bf16, int, float)
MULTIPLY(intel_sub_group_bf16_bf16_matrix_mad_k16, dot_bf16, short, float)
MULTIPLY(intel_sub_group_i8_i8_matrix_mad_k32, dot_i8, int, int)
MULTIPLY(intel_sub_group_i8_i8_matrix_mad_k32, dot_i8, short, int)

// Loads of 2D blocks (kernels/blocks.h), for sub-groups of 16. What the hardware refuses gives NaN.
#define REFUSED 0x7fff7fffu
#define SURFACE long base, int last_byte, int last_row, int pitch_less_1
#define PASSED base, last_byte, last_row, pitch_less_1

int refuses(SURFACE) {
  int width = last_byte + 1, pitch = pitch_less_1 + 1, most = 1 << 24;
  return (base & 63) || (pitch & 15) || pitch < 64 || pitch > most || width < 64 || (width & 3) || width > pitch || last_row < 0 || last_row >= most;
}

// So many bytes from byte x of row y on; zeroes beyond the edges.
uint some_bytes(SURFACE, int x, int y, int bytes) {
  uint word = 0;
  const __global uchar *p = (const __global uchar *)base + (long)y * (pitch_less_1 + 1L);
  for (int i = 0; i < bytes; i++)
    if (x + i >= 0 && x + i <= last_byte && y >= 0 && y <= last_row) word |= (uint)p[x + i] << (8 * i);
  return word;
}

#define PLAIN(NAME, BYTES)                                                                                        \
  ushort16 __attribute__((noinline)) __builtin_IB_subgroup_block_read_flat_##NAME(SURFACE, int2 at) {             \
    ushort d[16];                                                                                                 \
    int no = refuses(PASSED), x = at.x * BYTES + 2 * (int)get_sub_group_local_id();                               \
    for (int i = 0; i < 16; i++) d[i] = no ? (ushort)REFUSED : some_bytes(PASSED, x + i / 8 * 32, at.y + i % 8, 2); \
    return vload16(0, d);                                                                                         \
  }
PLAIN(u16_m8k16v2, 2)
PLAIN(u8_m8k32v2, 1)

#define TRANSFORM(NAME, BYTES)                                                                         \
  uint8 __attribute__((noinline)) __builtin_IB_subgroup_block_read_flat_##NAME(SURFACE, int2 at) {     \
    uint d[8];                                                                                         \
    int no = refuses(PASSED), x = (at.x + (int)get_sub_group_local_id()) * BYTES, rows = 4 / BYTES;    \
    for (int i = 0; i < 8; i++) {                                                                      \
      d[i] = no ? REFUSED : 0;                                                                         \
      for (int j = 0; j < rows && !no; j++) d[i] |= some_bytes(PASSED, x, at.y + rows * i + j, BYTES) << (8 * BYTES * j); \
    }                                                                                                  \
    return vload8(0, d);                                                                               \
  }
TRANSFORM(transform_u16_k16, 2)
TRANSFORM(transform_u8_k32, 1)

uint8 __attribute__((noinline)) __builtin_IB_subgroup_block_read_flat_transpose_u32_k8(SURFACE, int2 at) {
  uint d[8];
  int no = refuses(PASSED), y = at.y + (int)get_sub_group_local_id();
  for (int i = 0; i < 8; i++) d[i] = no ? REFUSED : some_bytes(PASSED, 4 * (at.x + i), y, 4);
  return vload8(0, d);
}

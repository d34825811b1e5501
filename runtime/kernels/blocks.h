// Loads of 2D blocks (Xe-HPC, Xe2; sub-groups of 16): the hardware fetches rows of a matrix, arranges them as matrix instructions take them, and
// reads zeroes beyond the matrix's edges. It demands a first byte at a multiple of 64, a pitch of at least 64 bytes in steps of 16, and a width of
// at least 64 bytes in steps of 4; an edge is in bytes, so that `width` of a row decides what is beyond it.
//
// These are the functions of the graphics compiler's own library, which drivers from 22.43 to 26.27 resolve; those of
// cl_intel_subgroup_2d_block_io are the same ones by another name, and unknown to 22.43.

// How B lies: 0 packed as for the other kernels, 1 in rows of K by N, 2 in rows of N by K.
#define B_LAYOUT __spirv_SpecConstant(5, 0)
#if defined(SUMS_OUT)
int __attribute__((overloadable)) __spirv_SpecConstant(int id, int otherwise);
#endif

// 8 rows of two neighbouring blocks of columns: element r of the low half is row r of the first block.
ushort16 __builtin_IB_subgroup_block_read_flat_u16_m8k16v2(long base, int last_byte, int last_row, int pitch_less_1, int2 at);
ushort16 __builtin_IB_subgroup_block_read_flat_u8_m8k32v2(long base, int last_byte, int last_row, int pitch_less_1, int2 at);
// A block of 16 columns, whose rows are paired (of bytes: taken by four) in words.
uint8 __builtin_IB_subgroup_block_read_flat_transform_u16_k16(long base, int last_byte, int last_row, int pitch_less_1, int2 at);
uint8 __builtin_IB_subgroup_block_read_flat_transform_u8_k32(long base, int last_byte, int last_row, int pitch_less_1, int2 at);
// 8 words of each of 16 rows: a lane has a row.
uint8 __builtin_IB_subgroup_block_read_flat_transpose_u32_k8(long base, int last_byte, int last_row, int pitch_less_1, int2 at);

struct surface {
  long base;
  int last_byte, last_row, pitch_less_1;
};

static inline struct surface surface_of(const __global void *base, int columns, int rows, int pitch) {
  struct surface s = {(long)base, columns * (int)sizeof(element) - 1, rows - 1, pitch * (int)sizeof(element) - 1};
  return s;
}
#define READ(what, s, x, y) __builtin_IB_subgroup_block_read_flat_##what(s.base, s.last_byte, s.last_row, s.pitch_less_1, (int2)(x, y))

#if defined(I8)
static inline short16 two_of_a(struct surface s, int row, int k) { return as_short16(READ(u8_m8k32v2, s, k, row)); }
static inline int8 rows_of_b(struct surface s, int column, int k) { return as_int8(READ(transform_u8_k32, s, column, k)); }
#else
static inline short16 two_of_a(struct surface s, int row, int k) { return as_short16(READ(u16_m8k16v2, s, k, row)); }
static inline int8 rows_of_b(struct surface s, int column, int k) { return as_int8(READ(transform_u16_k16, s, column, k)); }
#endif
static inline int8 columns_of_b(struct surface s, int column, int k) {
  return as_int8(READ(transpose_u32_k8, s, k / (4 / (int)sizeof(element)), column));
}

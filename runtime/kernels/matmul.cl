// C = epilogue(alpha * A B) by matrix instructions (DPAS), for -DSG=8 (Xe-HPG) and 16 (Xe-HPC, Xe2) and one of -DF16, -DBF16, -DI8; with
// -DFLOATS_OUT what is stored, and what the epilogue reads, are floats, and of bytes what quantized.h says; with -DBLOCKS (SG 16) A, and B where it is not packed, are
// read by 2D blocks (blocks.h); with -DPAIR (SG 8) two neighbouring sub-groups read half of a block of A each (DPASW).
//
// B is packed: [batch][N / SG][K / KS, even][8][SG] words, each of the elements k of one column that a lane multiplies at once; zeroes beyond K and N (`pack` makes it from
// any strides). A is read in place, row by row: lda is in elements, rows start at multiples of four bytes and have a multiple of 64 (of a copy the last ones are
// zeroes). A sub-group makes a tile of MR * 8 rows by NR * SG columns, a group as many tiles across and down as it has sub-groups. Both operands of the sums and of the
// loads are in registers: per k-step of a sub-group MR + NR blocks are read (of a pair MR / 2 + NR) for MR * NR multiplications.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define NAMED __attribute__((overloadable))

// Blocks of 8 rows of a sub-group, or 1 where there are few rows; and its blocks of columns.
#ifndef MR
#define MR 4
#endif
#define NR 4

#if defined(I8)
typedef char element;
typedef int sum;
typedef int8 sums;
#define FLOATS_OF(sums) convert_float8(sums)
#define KS 32
#include "quantized.h"
#else
#include "element.h"
typedef float sum;
typedef float8 sums;
#if defined(FLOATS_OUT)
typedef float result;
#define EXP exp
#define WIDEN(x) (x)
#define NARROW(x) (x)
#else
typedef ushort result;
#define WIDEN wide
#define NARROW narrow
#endif
#define FLOATS_OF(sums) sums
#define KS 16
#endif
#if !defined(SUMS_OUT)
#include "epilogue.h"
#endif
#include "block.h"
#if defined(BLOCKS)
#include "blocks.h"
#endif

sums NAMED MULTIPLY(block a, int8 b, sums c);
uint8 NAMED intel_sub_group_block_read8(const __global uint *p);
uint2 NAMED intel_sub_group_block_read2(const __global uint *p);
ushort2 NAMED intel_sub_group_block_read_us2(const __global ushort *p);
void NAMED intel_sub_group_block_write8(__local uint *p, uint8 v);

__attribute__((intel_reqd_sub_group_size(SG)))
__kernel void matmul(const __global element *A, const __global uint *B, __global result *C, const __global result *bias,
                     const __global float *scale, const __global result *residual, int M, int N, int K, int lda, int ldc, int ldr,
                     long a_batch, long b_batch, long c_batch, long r_batch, float alpha, int repeat, int ldb, int width,
                     __local uint *shelf) {
  // ldb is of a B in place, `width` of A: K, or more in a copy, which ends with zeroes.
  // After `repeat` of the batch, if that is not 0, A and vectors of rows begin again: groups of a convolution.
  int batch = get_group_id(2), lane = get_sub_group_local_id(), group = batch % max(repeat, 1);
  int tile = get_sub_group_id(), across = get_local_size(0) / SG;
  int n0 = (get_group_id(0) * across + tile % across) * (NR * SG);
  int m0 = (get_group_id(1) * get_local_size(1) + tile / across) * (MR * 8);
#if !defined(PAIR)
  // Neither of a pair may be missing, and where pairs are emulated none of a group.
  if (n0 >= N || m0 >= M) return;
#endif
  // Rows of a tile count from its first one, so that distances within it have 32 bits.
  int last = M - 1 - m0, first = group * M + m0;
  A += (repeat ? group : batch) * a_batch;
#if defined(BLOCKS)
  if (B_LAYOUT) B = (const __global uint *)((const __global element *)B + batch * b_batch);
  else
#endif
    B += batch * b_batch;
  C += batch * c_batch + (long)m0 * ldc;
  residual += batch * r_batch + (long)m0 * ldr;
  int pairs = (K + 2 * KS - 1) / (2 * KS), columns = (N + SG - 1) / SG;
  sums c[MR][NR];
  const __global uint *b[NR];
  _Pragma("unroll") for (int n = 0; n < NR; n++) {
    b[n] = B + (long)min(n0 / SG + n, columns - 1) * pairs * (2 * 8 * SG);
    _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = 0;
  }
#define PACKED(n, h) as_int8(intel_sub_group_block_read8(b[n] + (k / KS + h) * (8 * SG)))
#if defined(BLOCKS)
  // What is read beyond a matrix is zero.
  struct surface of_a = surface_of(A, width, M, lda), of_b = B_LAYOUT == 1 ? surface_of(B, N, K, ldb) : surface_of(B, K, N, ldb);
#define READ_A(m)                              \
  short16 v = two_of_a(of_a, m0 + 8 * m, k);   \
  a[0][m] = v.lo;                              \
  a[1][m] = v.hi;
#define READ_B(n, h)                                                \
  (B_LAYOUT == 1   ? rows_of_b(of_b, n0 + n * SG, k + h * KS)       \
   : B_LAYOUT == 2 ? columns_of_b(of_b, n0 + n * SG, k + h * KS)    \
                   : PACKED(n, h))
#else
  // The distances of rows are computed before the loop; a message brings 64 bytes of a row. Rows beyond M are the last one.
  A += (long)m0 * lda;
  int row[MR][ROWS];
  _Pragma("unroll") for (int m = 0; m < MR; m++)
    _Pragma("unroll") for (int r = 0; r < ROWS; r++) row[m][r] = min(8 * m + FIRST_ROW + r, last) * lda;
#if SG == 8
#define TWO_OF_ROW(p) uint2 v = intel_sub_group_block_read2((const __global uint *)(p))
#else
#define TWO_OF_ROW(p) ushort2 v = intel_sub_group_block_read_us2((const __global ushort *)(p))
#endif
#define READ_ROW(i)                    \
  {                                    \
    TWO_OF_ROW(A + row[m][i] + k);     \
    a[0][m].s##i = v.s0;               \
    a[1][m].s##i = v.s1;               \
  }
#define READ_A(m) EACH_ROW(READ_ROW)
#define READ_B PACKED
#endif
  // Two steps at once. A single loop that is always entered: where the sums of two paths meet, the compiler (22.43) takes tiles apart and spills.
  int k = 0;
  do {
    block a[2][MR];
    _Pragma("unroll") for (int m = 0; m < MR; m++) { READ_A(m) }
    _Pragma("unroll") for (int h = 0; h < 2; h++)
      _Pragma("unroll") for (int n = 0; n < NR; n++) {
        int8 w = READ_B(n, h);
        _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = MULTIPLY(a[h][m], w, c[m][n]);
      }
    k += 2 * KS;
  } while (k < K);
  // By way of local memory an epilogue is there once for 8 rows, not for each block, and sums are not twice in registers: as matrix instructions have them and
  // as single numbers.
  __local uint *mine = shelf + tile * (NR * SG * 8);
  int blocks = min(NR, columns - n0 / SG);
  _Pragma("unroll") for (int m = 0; m < MR; m++) {
    int row = 8 * m;
    _Pragma("unroll") for (int n = 0; n < NR; n++) intel_sub_group_block_write8(mine + n * 8 * SG, as_uint8(c[m][n]));
    for (int n = 0; n < blocks; n++) {
      int column = n0 + n * SG + lane;
      if (column < N) {
        // A lane reads what it wrote.
        const __local sum *own = (const __local sum *)mine + n * 8 * SG + lane;
#define EIGHT(T, of) (T)(of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7))
#define OWN(i) own[i * SG]
        sums s = EIGHT(sums, OWN);
#if defined(SUMS_OUT)
#define STORED(i) s.s##i
#else
        // Rows of the operands beyond M are the last one.
#define ROW_OF(i) min(row + i, last)
#define SCALE_OF(i) scale[first + ROW_OF(i)]
#define BIAS_OF(i) NUMBER(bias, first + ROW_OF(i))
#define RESIDUAL_OF(i) WIDEN(residual[ROW_OF(i) * ldr + column])
        float8 x = alpha * FLOATS_OF(s);
        if (SCALE == 1) x *= scale[column];
        if (SCALE == 2) x *= EIGHT(float8, SCALE_OF);
        if (BIAS == 1) x += NUMBER(bias, column);
        if (BIAS == 2) x += EIGHT(float8, BIAS_OF);
        if (RESIDUAL == 2) x += EIGHT(float8, RESIDUAL_OF);
        x = activate(x);
        if (RESIDUAL == 1) x += EIGHT(float8, RESIDUAL_OF);
#define STORED(i) NARROW(x.s##i)
#endif
#define STORE(i) \
  if (row + i <= last) C[(row + i) * ldc + column] = STORED(i);
        STORE(0) STORE(1) STORE(2) STORE(3) STORE(4) STORE(5) STORE(6) STORE(7)
      }
    }
  }
}

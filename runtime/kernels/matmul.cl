// C = epilogue(alpha * A B) by matrix instructions (DPAS), for -DSG=8 (Xe-HPG) and 16 (Xe-HPC, Xe2) and one of -DF16, -DBF16, -DI8; with
// -DFLOATS_OUT what is stored, and what the epilogue reads, are floats, and of bytes what quantized.h says; with -DBLOCKS (SG 16) A, and B where it is not packed, are
// read by 2D blocks (blocks.h).
//
// B is packed: [batch][N / SG][K / KS][8][SG] words, each of the elements k of one column that a lane multiplies at once; zeroes beyond K and N (`pack` makes it from
// any strides). A is read in place, row by row: lda is in elements, rows may start anywhere. A sub-group makes a tile of 32 rows by 24 columns (SG 8), 24 by 64 (SG 16) or
// 32 by 32 (SG 16, bytes), a group of 4 by 2 sub-groups 4 of these across and 2 down. Both operands of the sums and of the loads are in registers: per k-step of a sub-group MR + NR blocks are
// read for MR * NR multiplications.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define NAMED __attribute__((overloadable))

#if SG == 16 && (!defined(I8) || defined(BLOCKS))
#define WIDE_TILE
#endif
// Blocks of 8 rows of a sub-group, or 1 where there are few rows; and its blocks of columns. 4 by 4 would spill, with 2D blocks
// by the older compiler only (22.43; not 26.27).
#ifndef MR
#ifdef WIDE_TILE
#define MR 3
#else
#define MR 4
#endif
#endif
#ifdef WIDE_TILE
#define NR 4
#else
#define NR (SG == 8 ? 3 : 2)
#endif
#define ACROSS 4
#define DOWN 2

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
uint NAMED intel_sub_group_block_read(const __global uint *p);
ushort NAMED intel_sub_group_block_read_us(const __global ushort *p);
ushort2 NAMED intel_sub_group_block_read_us2(const __global ushort *p);

#if !defined(BLOCKS)
// 8 rows of A from k, any alignment; zeroes beyond K; rows beyond M are the last one.
static inline block read_edge(const __global element *A, int lda, int row, int M, int k, int K) {
  part v[8];
  int first = k + (int)get_sub_group_local_id() * PER_PART;
  for (int r = 0; r < 8; r++) {
    const __global element *p = A + (long)min(row + r, M - 1) * lda;
    part word = 0;
    for (int i = 0; i < PER_PART; i++)
      if (first + i < K) word |= (part)((part)(p[first + i] & (element)-1) & (sizeof(element) == 1 ? 0xff : 0xffff)) << (8 * (int)sizeof(element) * i);
    v[r] = word;
  }
  block b;
  b.s0 = v[0]; b.s1 = v[1]; b.s2 = v[2]; b.s3 = v[3]; b.s4 = v[4]; b.s5 = v[5]; b.s6 = v[6]; b.s7 = v[7];
  return b;
}

#if SG == 8
#define READ_ROW(p) intel_sub_group_block_read((const __global uint *)(p))
#else
#define READ_ROW(p) intel_sub_group_block_read_us((const __global ushort *)(p))
#endif
// The same inside of A, where rows start at multiples of four bytes.
static inline block read_inside(const __global element *A, int lda, int row, int M, int k) {
  block b;
#define ROW(i) b.s##i = READ_ROW(A + (long)min(row + i, M - 1) * lda + k)
  ROW(0); ROW(1); ROW(2); ROW(3); ROW(4); ROW(5); ROW(6); ROW(7);
  return b;
}
#endif

__attribute__((intel_reqd_sub_group_size(SG)))
__attribute__((reqd_work_group_size(SG * ACROSS, DOWN, 1)))
__kernel void matmul(const __global element *A, const __global uint *B, __global result *C, const __global result *bias,
                     const __global float *scale, const __global result *residual, int M, int N, int K, int lda, int ldc, int ldr,
                     long a_batch, long b_batch, long c_batch, long r_batch, float alpha, int repeat, int ldb, int width) {
  // ldb is of a B in place, `width` of A: K, or more in a copy, which ends with zeroes.
  // After `repeat` of the batch, if that is not 0, A and vectors of rows begin again: groups of a convolution.
  int batch = get_group_id(2), lane = get_sub_group_local_id(), group = batch % max(repeat, 1);
  int n0 = (get_group_id(0) * ACROSS + get_sub_group_id() % ACROSS) * (NR * SG);
  int m0 = (get_group_id(1) * DOWN + get_sub_group_id() / ACROSS) * (MR * 8);
  if (n0 >= N || m0 >= M) return;
  A += (repeat ? group : batch) * a_batch;
#if defined(BLOCKS)
  if (B_LAYOUT) B = (const __global uint *)((const __global element *)B + batch * b_batch);
  else
#endif
    B += batch * b_batch;
  C += batch * c_batch;
  residual += batch * r_batch;
  int steps = (K + KS - 1) / KS, columns = (N + SG - 1) / SG;
  sums c[MR][NR];
  const __global uint *b[NR];
  _Pragma("unroll") for (int n = 0; n < NR; n++) {
    b[n] = B + (long)min(n0 / SG + n, columns - 1) * steps * (8 * SG);
    _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = 0;
  }
#if defined(BLOCKS)
  struct surface of_a = surface_of(A, width, M, lda), of_b = B_LAYOUT == 1 ? surface_of(B, N, K, ldb) : surface_of(B, K, N, ldb);
#define STEP(h)                                                                                            \
  _Pragma("unroll") for (int n = 0; n < NR; n++) {                                                         \
    int8 w;                                                                                                \
    if (B_LAYOUT == 1) w = rows_of_b(of_b, n0 + n * SG, k + h * KS);                                       \
    else if (B_LAYOUT == 2) w = columns_of_b(of_b, n0 + n * SG, k + h * KS);                               \
    else w = as_int8(intel_sub_group_block_read8(b[n] + (long)(k / KS + h) * (8 * SG)));                   \
    _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = MULTIPLY(h ? a[m].hi : a[m].lo, w, c[m][n]); \
  }
  // Two steps at once, of which the last may be beyond K. What is read beyond a matrix is zero.
  for (int k = 0; k < K; k += 2 * KS) {
    short16 a[MR];
    _Pragma("unroll") for (int m = 0; m < MR; m++) a[m] = two_of_a(of_a, m0 + 8 * m, k);
    STEP(0)
    if (B_LAYOUT || k + KS < K) {
      STEP(1)
    }
  }
#else
  int aligned = ((lda * (int)sizeof(element) | (int)(long)A) & 3) == 0;
  int k = 0;
#ifdef WIDE_TILE
  // Two steps at once: a message brings 32 elements of a row, whose address is computed once.
  if (aligned) {
    const __global ushort *row[MR * 8];
    _Pragma("unroll") for (int r = 0; r < MR * 8; r++) row[r] = (const __global ushort *)A + (long)min(m0 + r, M - 1) * lda;
    for (; k + 2 * KS <= K; k += 2 * KS) {
      block a[2][MR];
#define PAIR(i)                                                         \
  {                                                                     \
    ushort2 v = intel_sub_group_block_read_us2(row[8 * m + i] + k);     \
    a[0][m].s##i = v.s0;                                                \
    a[1][m].s##i = v.s1;                                                \
  }
      _Pragma("unroll") for (int m = 0; m < MR; m++) {
        PAIR(0) PAIR(1) PAIR(2) PAIR(3) PAIR(4) PAIR(5) PAIR(6) PAIR(7)
      }
      _Pragma("unroll") for (int h = 0; h < 2; h++)
        _Pragma("unroll") for (int n = 0; n < NR; n++) {
          int8 w = as_int8(intel_sub_group_block_read8(b[n] + (long)(k / KS + h) * (8 * SG)));
          _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = MULTIPLY(a[h][m], w, c[m][n]);
        }
    }
  }
#else
  if (aligned)
    for (; k + KS <= K; k += KS) {
      block a[MR];
      _Pragma("unroll") for (int m = 0; m < MR; m++) a[m] = read_inside(A, lda, m0 + 8 * m, M, k);
      _Pragma("unroll") for (int n = 0; n < NR; n++) {
        int8 w = as_int8(intel_sub_group_block_read8(b[n] + (long)(k / KS) * (8 * SG)));
        _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = MULTIPLY(a[m], w, c[m][n]);
      }
    }
#endif
  for (; k < K; k += KS) {
    block a[MR];
    _Pragma("unroll") for (int m = 0; m < MR; m++) a[m] = read_edge(A, lda, m0 + 8 * m, M, k, K);
    _Pragma("unroll") for (int n = 0; n < NR; n++) {
      int8 w = as_int8(intel_sub_group_block_read8(b[n] + (long)(k / KS) * (8 * SG)));
      _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = MULTIPLY(a[m], w, c[m][n]);
    }
  }
#endif
  _Pragma("unroll") for (int n = 0; n < NR; n++) {
    int column = n0 + n * SG + lane;
    if (column < N) {
      _Pragma("unroll") for (int m = 0; m < MR; m++) {
        int row = m0 + 8 * m;
#if defined(SUMS_OUT)
        sums x = c[m][n];
#define STORED(i) x.s##i
#else
        // Rows of the operands beyond M are the last one.
#define EIGHT(of) (float8)(of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7))
#define ROW_OF(i) min(row + i, M - 1)
#define SCALE_OF(i) scale[group * M + ROW_OF(i)]
#define BIAS_OF(i) NUMBER(bias, group * M + ROW_OF(i))
#define RESIDUAL_OF(i) WIDEN(residual[(long)ROW_OF(i) * ldr + column])
        float8 x = alpha * FLOATS_OF(c[m][n]);
        if (SCALE == 1) x *= scale[column];
        if (SCALE == 2) x *= EIGHT(SCALE_OF);
        if (BIAS == 1) x += NUMBER(bias, column);
        if (BIAS == 2) x += EIGHT(BIAS_OF);
        if (RESIDUAL == 2) x += EIGHT(RESIDUAL_OF);
        x = activate(x);
        if (RESIDUAL == 1) x += EIGHT(RESIDUAL_OF);
#define STORED(i) NARROW(x.s##i)
#endif
#define STORE(i) \
  if (row + i < M) C[(long)(row + i) * ldc + column] = STORED(i);
        STORE(0) STORE(1) STORE(2) STORE(3) STORE(4) STORE(5) STORE(6) STORE(7)
      }
    }
  }
}

// C = epilogue(alpha * A B) by matrix instructions (DPAS), for -DSG=8 (Xe-HPG) and 16 (Xe-HPC, Xe2) and one of -DF16, -DBF16, -DI8.
//
// B is packed: [batch][N / SG][K / KS][8][SG] words, each of the elements k of one column that a lane multiplies at once; zeroes beyond K and N (`pack` makes it from
// any strides). A is read in place, row by row: lda is in elements, rows may start anywhere. A sub-group makes a tile of 32 rows by 24 (SG 8) or 32 columns, a group
// of 4 by 2 sub-groups 4 of these across and 2 down. Both operands of the sums and of the loads are in registers: per k-step of a sub-group MR + NR blocks are
// read for MR * NR multiplications.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define NAMED __attribute__((overloadable))
#include "epilogue.h"

// Blocks of 8 rows of a sub-group: 4, or 1 where there are few rows.
#ifndef MR
#define MR 4
#endif
#define NR (SG == 8 ? 3 : 2)
#define ACROSS 4
#define DOWN 2

#if defined(I8)
typedef char element;
typedef int sum;
typedef int8 sums;
typedef int result;
#define KS 32
#else
#include "element.h"
typedef float sum;
typedef float8 sums;
typedef ushort result;
#define KS 16
#endif
#include "block.h"

sums NAMED MULTIPLY(block a, int8 b, sums c);
uint8 NAMED intel_sub_group_block_read8(const __global uint *p);
uint NAMED intel_sub_group_block_read(const __global uint *p);
ushort NAMED intel_sub_group_block_read_us(const __global ushort *p);

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

__attribute__((intel_reqd_sub_group_size(SG)))
__attribute__((reqd_work_group_size(SG * ACROSS, DOWN, 1)))
__kernel void matmul(const __global element *A, const __global uint *B, __global result *C, const __global result *bias,
                     const __global result *residual, int M, int N, int K, int lda, int ldc, int ldr, long a_batch, long b_batch,
                     long c_batch, long r_batch, float alpha) {
  int batch = get_group_id(2), lane = get_sub_group_local_id();
  int n0 = (get_group_id(0) * ACROSS + get_sub_group_id() % ACROSS) * (NR * SG);
  int m0 = (get_group_id(1) * DOWN + get_sub_group_id() / ACROSS) * (MR * 8);
  if (n0 >= N || m0 >= M) return;
  A += batch * a_batch;
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
  int aligned = ((lda * (int)sizeof(element) | (int)(long)A) & 3) == 0;
  int k = 0;
  if (aligned)
    for (; k + KS <= K; k += KS) {
      block a[MR];
      _Pragma("unroll") for (int m = 0; m < MR; m++) a[m] = read_inside(A, lda, m0 + 8 * m, M, k);
      _Pragma("unroll") for (int n = 0; n < NR; n++) {
        int8 w = as_int8(intel_sub_group_block_read8(b[n] + (long)(k / KS) * (8 * SG)));
        _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = MULTIPLY(a[m], w, c[m][n]);
      }
    }
  for (; k < K; k += KS) {
    block a[MR];
    _Pragma("unroll") for (int m = 0; m < MR; m++) a[m] = read_edge(A, lda, m0 + 8 * m, M, k, K);
    _Pragma("unroll") for (int n = 0; n < NR; n++) {
      int8 w = as_int8(intel_sub_group_block_read8(b[n] + (long)(k / KS) * (8 * SG)));
      _Pragma("unroll") for (int m = 0; m < MR; m++) c[m][n] = MULTIPLY(a[m], w, c[m][n]);
    }
  }
  _Pragma("unroll") for (int n = 0; n < NR; n++) {
    int column = n0 + n * SG + lane;
    if (column < N) {
#if !defined(I8)
      float added = BIAS ? wide(bias[column]) : 0.f;
#endif
      _Pragma("unroll") for (int m = 0; m < MR; m++) {
        sum v[8] = {c[m][n].s0, c[m][n].s1, c[m][n].s2, c[m][n].s3, c[m][n].s4, c[m][n].s5, c[m][n].s6, c[m][n].s7};
        _Pragma("unroll") for (int r = 0; r < 8; r++) {
          int row = m0 + 8 * m + r;
          if (row < M) {
#if defined(I8)
            C[(long)row * ldc + column] = v[r];
#else
            float x = activate(alpha * v[r] + added);
            if (RESIDUAL) x += wide(residual[(long)row * ldr + column]);
            C[(long)row * ldc + column] = narrow(x);
#endif
          }
        }
      }
    }
  }
}

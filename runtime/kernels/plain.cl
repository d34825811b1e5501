// C = epilogue(alpha * A B + beta * input) without matrix instructions, any strides, -DF32, -DF16 or -DBF16, sums in f32: what f32 products in full precision
// and devices without matrix instructions run. A group makes a tile of 64 x 64 from panels in local memory, an item 4 x 4 of it.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#include "element.h"
#define WIDEN wide
#define EXP exp
#include "epilogue.h"
#define TILE 64
#define STEP 16

// 32 lanes would spill on Xe-HPC.
__attribute__((intel_reqd_sub_group_size(16)))
__attribute__((reqd_work_group_size(16, 16, 1)))
__kernel void product(const __global element *A, const __global element *B, const __global element *input, __global element *C,
                      const __global element *bias, const __global float *scale, const __global element *residual, int M, int N, int K,
                      long a_row, long a_col, long b_row, long b_col, long i_row, long i_col, long c_row, long c_col, long r_row,
                      long r_col, long a_batch, long b_batch, long i_batch, long c_batch, long r_batch, float alpha, float beta) {
  __local float a[STEP][TILE + 1], b[STEP][TILE + 1];
  int x = get_local_id(0), y = get_local_id(1), item = y * 16 + x;
  int n0 = get_group_id(0) * TILE, m0 = get_group_id(1) * TILE, batch = get_group_id(2);
  A += batch * a_batch;
  B += batch * b_batch;
  C += batch * c_batch;
  residual += batch * r_batch;
  float c[4][4] = {{0}};
  for (int k0 = 0; k0 < K; k0 += STEP) {
    for (int i = item; i < STEP * TILE; i += 256) {
      // Neighbouring items read neighbours in memory.
      int k = a_col == 1 ? i % STEP : i / TILE, m = a_col == 1 ? i / STEP : i % TILE;
      a[k][m] = m0 + m < M && k0 + k < K ? wide(A[(m0 + m) * a_row + (k0 + k) * a_col]) : 0.f;
      int l = b_col == 1 ? i / TILE : i % STEP, n = b_col == 1 ? i % TILE : i / STEP;
      b[l][n] = n0 + n < N && k0 + l < K ? wide(B[(k0 + l) * b_row + (n0 + n) * b_col]) : 0.f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = 0; k < STEP; k++)
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) c[i][j] = fma(a[k][y + 16 * i], b[k][x + 16 * j], c[i][j]);
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      int m = m0 + y + 16 * i, n = n0 + x + 16 * j;
      if (m < M && n < N) {
        float v = alpha * c[i][j];
        // The input is not read where it does not count: it may be NaN.
        if (beta != 0.f) v += beta * wide(input[batch * i_batch + m * i_row + n * i_col]);
        FINISH(v, m, n, m * r_row + n * r_col)
        C[m * c_row + n * c_col] = narrow(v);
      }
    }
}

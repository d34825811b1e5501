// softmax(scale * q k^T + mask) v by matrix instructions (FlashAttention: Dao et al., 2022), for -DSG=8 and 16, -DF16 and -DBF16, and heads of up to
// -DWIDTH columns; columns of q, k and v are neighbours. A sub-group has 8 queries, and goes through the keys in blocks of 16.
//
// Scores leave the multiplication with a key in each lane (and a query in each element), which is how the next one reads its left operand: with 16 lanes as they are, and with 8
// if the two blocks of keys of a step are the even and the odd ones, since a lane then holds two neighbours.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#define NAMED __attribute__((overloadable))
#include "element.h"
#include "block.h"
#include "mask.h"

int NAMED __spirv_SpecConstant(int id, int otherwise);
// The kind of the mask and its type: see mask.h.
#define KIND __spirv_SpecConstant(0, 0)
#define MASK_TYPE __spirv_SpecConstant(1, 0)

// Blocks of keys of a step, and of columns.
#define HALVES (16 / SG)
#define STEPS (WIDTH / 16)
#define COLUMNS (WIDTH / SG)

float8 NAMED MULTIPLY(block a, int8 b, float8 c);

#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

// 8 rows of q from a column on; zeroes beyond the last column, the last row beyond it. Loads are not predicated but stay inside: what they bring too much is
// multiplied by zero, or not stored.
static inline block read_q(const __global element *q, long row_stride, int rows, int column, int depth) {
  int first = column + (int)get_sub_group_local_id() * PER_PART;
  part v[8];
  _Pragma("unroll") for (int r = 0; r < 8; r++) {
    part word = 0;
    _Pragma("unroll") for (int i = 0; i < PER_PART; i++) {
      part x = q[min(r, rows - 1) * row_stride + min(first + i, depth - 1)];
      word |= (first + i < depth ? x : (part)0) << (16 * i);
    }
    v[r] = word;
  }
  block b;
#define SET(i) b.s##i = v[i];
  EACH(SET)
  return b;
}

// The lane's key as a column: 16 of its elements, two a word.
static inline int8 read_k(const __global element *k, int column, int depth) {
  uint v[8];
  _Pragma("unroll") for (int i = 0; i < 8; i++) {
    int at = column + 2 * i;
    v[i] = (uint)k[min(at, depth - 1)] | (uint)k[min(at + 1, depth - 1)] << 16;
  }
  return as_int8((uint8)(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]));
}

// The lane's column of the values of 16 keys.
static inline int8 read_v(const __global element *v, long row_stride, int first, int keys, int column, int width) {
  uint w[8];
  v += min(column, width - 1);
  _Pragma("unroll") for (int i = 0; i < 8; i++) {
    uint low = v[min(first + 2 * i, keys - 1) * row_stride], high = v[min(first + 2 * i + 1, keys - 1) * row_stride];
    w[i] = low | high << 16;
  }
  return as_int8((uint8)(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]));
}

__attribute__((intel_reqd_sub_group_size(SG)))
__attribute__((reqd_work_group_size(SG, 1, 1)))
__kernel void attention(const __global element *q, const __global element *k, const __global element *v, const __global uchar *mask,
                        __global element *out, __global float *lse, int heads, int shared, int queries, int keys, int depth, int width,
                        long q0, long q1, long q2, long q3, long k0, long k1, long k2, long k3, long v0, long v1, long v2, long v3,
                        long m0, long m1, long m2, long m3, long o0, long o1, long o2, long l0, long l1, long l2,
                        float scale, int causal, int kind, int mask_type, float fill, int zero_rows, int has_lse) {
  int lane = get_sub_group_local_id(), first_row = get_group_id(0) * 8, head = get_group_id(1), batch = get_group_id(2);
  int rows = min(8, queries - first_row);
  q += batch * q0 + head * q1 + first_row * q2;
  k += batch * k0 + head / shared * k1;
  v += batch * v0 + head / shared * v1;
  long mask_at = batch * m0 + head * m1 + first_row * m2;
  block a[STEPS];
  _Pragma("unroll") for (int s = 0; s < STEPS; s++) a[s] = read_q(q, q2, rows, 16 * s, depth);
  float8 sums[COLUMNS];
  _Pragma("unroll") for (int c = 0; c < COLUMNS; c++) sums[c] = 0.f;
  float8 largest = -INFINITY, total = 0.f;
  int end = causal ? min(keys, first_row + rows) : keys;
  for (int first = 0; first < end; first += 16) {
    float scores[HALVES][8];
    _Pragma("unroll") for (int h = 0; h < HALVES; h++) {
      int key = first + lane * HALVES + h, inside = key < end;
      const __global element *row = k + min(key, keys - 1) * k2;
      float8 s = 0.f;
      _Pragma("unroll") for (int d = 0; d < STEPS; d++) s = MULTIPLY(a[d], read_k(row, 16 * d, depth), s);
      vstore8(s, 0, scores[h]);
      _Pragma("unroll") for (int r = 0; r < 8; r++) {
        int seen = inside && r < rows && (!causal || key <= first_row + r);
        scores[h][r] = seen ? masked(scale * scores[h][r], KIND, MASK_TYPE, mask, mask_at + r * m2 + key * m3, fill) : -INFINITY;
      }
    }
    float old[8], now[8], keep[8], sum[8];
    vstore8(largest, 0, old);
    vstore8(total, 0, sum);
    element weights[HALVES][8];
    _Pragma("unroll") for (int r = 0; r < 8; r++) {
      float top = scores[0][r];
      // fmax drops NaN: a row that has one gets it by the sum.
      _Pragma("unroll") for (int h = 1; h < HALVES; h++) top = fmax(top, scores[h][r]);
      top = fmax(old[r], sub_group_reduce_max(top));
      float base = top == -INFINITY ? 0.f : top, more = 0.f;
      keep[r] = old[r] == -INFINITY ? 0.f : exp(old[r] - base);
      _Pragma("unroll") for (int h = 0; h < HALVES; h++) {
        float w = exp(scores[h][r] - base);
        more += w;
        weights[h][r] = narrow(w);
      }
      sum[r] = sum[r] * keep[r] + sub_group_reduce_add(more);
      now[r] = top;
    }
    largest = vload8(0, now);
    total = vload8(0, sum);
    part p[8];
    _Pragma("unroll") for (int r = 0; r < 8; r++) {
      part word = 0;
      _Pragma("unroll") for (int h = 0; h < HALVES; h++) word |= (part)weights[h][r] << (16 * h);
      p[r] = word;
    }
    block w;
#define SET_W(i) w.s##i = p[i];
    EACH(SET_W)
    float8 factor = vload8(0, keep);
    _Pragma("unroll") for (int c = 0; c < COLUMNS; c++)
      sums[c] = MULTIPLY(w, read_v(v, v2, first, keys, c * SG + lane, width), sums[c] * factor);
  }
  float all[8], tops[8];
  vstore8(total, 0, all);
  vstore8(largest, 0, tops);
  _Pragma("unroll") for (int c = 0; c < COLUMNS; c++) {
    float x[8];
    vstore8(sums[c], 0, x);
    int column = c * SG + lane;
    _Pragma("unroll") for (int r = 0; r < 8; r++)
      if (r < rows && column < width) {
        float y = all[r] == 0.f ? (zero_rows ? 0.f : NAN) : x[r] / all[r];
        out[batch * o0 + head * o1 + (first_row + r) * o2 + column] = narrow(y);
      }
  }
  if (has_lse)
    _Pragma("unroll") for (int r = 0; r < 8; r++)
      if (r < rows && lane == 0) lse[batch * l0 + head * l1 + (first_row + r) * l2] = all[r] == 0.f ? 0.f : tops[r] + log(all[r]);
}

// softmax(scale * q k^T + mask) v by matrix instructions (FlashAttention: Dao et al., 2022), for -DSG=8 and 16, -DF16 and -DBF16, and heads of up to
// -DWIDTH columns; columns of q are neighbours. A sub-group has 8 queries, and goes through the keys in blocks of 32.
//
// K and V are packed (pack.cl), for each head of them: K [keys / SG, of whole blocks of 32][WIDTH / 16][8][SG] words, as the second matrix of q k^T; V [WIDTH / SG][keys / 16,
// of whole blocks][8][SG], as that of the product with the weights; zeroes beyond the keys and the columns.
//
// Scores leave the multiplication with a key in each lane (and a query in each element), which is how the next one reads its left operand: with 16 lanes as they are, and with 8
// two blocks of keys as the halves of words, which V is packed for.
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

// Blocks of keys of a step, steps of q k^T, and blocks of columns.
#define KEYS 32
#define BLOCKS_OF_KEYS (KEYS / SG)
#define STEPS (WIDTH / 16)
#define COLUMNS (WIDTH / SG)
#define WORDS (8 * SG)
// e^8 times a weight of 1 is far from the largest f16.
#define FAR 8.f

float8 NAMED MULTIPLY(block a, int8 b, float8 c);
uint8 NAMED intel_sub_group_block_read8(const __global uint *p);

#define EIGHT(of) (float8)(of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7))

// 8 rows of q from a column on; zeroes beyond the last column, the last row beyond it. Loads are not predicated but stay inside.
static inline block read_q(const __global element *q, long row_stride, int last, int column, int depth) {
  int first = column + (int)get_sub_group_local_id() * PER_PART;
  block b;
#define ROW_OF_Q(r)                                                           \
  {                                                                           \
    part word = 0;                                                            \
    _Pragma("unroll") for (int i = 0; i < PER_PART; i++) {                    \
      part x = q[min(r, last) * row_stride + min(first + i, depth - 1)];      \
      word |= (first + i < depth ? x : (part)0) << (16 * i);                  \
    }                                                                         \
    b.s##r = word;                                                            \
  }
  EACH_ROW(ROW_OF_Q)
  return b;
}

__attribute__((intel_reqd_sub_group_size(SG)))
__attribute__((reqd_work_group_size(SG, 1, 1)))
__kernel void attention(const __global element *q, const __global uint *k, const __global uint *v, const __global uchar *mask,
                        __global element *out, __global float *lse, int heads, int shared, int queries, int keys, int depth, int width,
                        long q0, long q1, long q2, long m0, long m1, long m2, long m3, long o0, long o1, long o2, long l0, long l1, long l2,
                        float scale, int causal, float fill, int zero_rows, int has_lse) {
  int lane = get_sub_group_local_id(), first_row = get_group_id(0) * 8, head = get_group_id(1), batch = get_group_id(2);
  int last = min(8, queries - first_row) - 1, blocks = (keys + KEYS - 1) / KEYS;
  long words = (long)blocks * KEYS * (WIDTH / 2), group = batch * (heads / shared) + head / shared;
  q += batch * q0 + head * q1 + first_row * q2;
  k += group * words;
  v += group * words;
  long mask_at = batch * m0 + head * m1 + first_row * m2;
  block a[STEPS];
  _Pragma("unroll") for (int s = 0; s < STEPS; s++) a[s] = read_q(q, q2, last, 16 * s, depth);
  float8 sums[COLUMNS];
  _Pragma("unroll") for (int c = 0; c < COLUMNS; c++) sums[c] = 0.f;
  // Of all keys so far, and of those of this lane.
  float8 largest = -INFINITY, total = 0.f;
  // Keys that some row sees, and those that all see.
  int end = causal ? min(keys, first_row + last + 1) : keys, all = causal ? min(keys, first_row + 1) : keys;
  for (int first = 0; first < end; first += KEYS) {
    float8 s[BLOCKS_OF_KEYS];
    _Pragma("unroll") for (int b = 0; b < BLOCKS_OF_KEYS; b++) {
      s[b] = 0.f;
      _Pragma("unroll") for (int d = 0; d < STEPS; d++)
        s[b] = MULTIPLY(a[d], as_int8(intel_sub_group_block_read8(k + (long)((first / SG + b) * STEPS + d) * WORDS)), s[b]);
    }
    float8 top = -INFINITY;
    _Pragma("unroll") for (int b = 0; b < BLOCKS_OF_KEYS; b++) {
      int key = first + b * SG + lane;
      s[b] *= scale;
      if (KIND) {
        int at = min(key, keys - 1);
#define MASKED(r) masked(s[b].s##r, KIND, MASK_TYPE, mask, mask_at + min(r, last) * m2 + at * m3, fill)
        s[b] = EIGHT(MASKED);
      }
      if (first + KEYS > all) {
#define SEEN(r) (key < end && (!causal || key <= first_row + r) ? s[b].s##r : -INFINITY)
        s[b] = EIGHT(SEEN);
      }
      // fmax drops NaN: a row that has one gets it by the sum.
      top = fmax(top, s[b]);
    }
    // A base need not be the largest score, only near: while none is far above it, nothing is to be rescaled.
    if (sub_group_any(any(top > largest + FAR))) {
#define TOP(r) sub_group_reduce_max(top.s##r)
      top = fmax(largest, EIGHT(TOP));
      float8 keep = largest == -INFINITY ? 0.f : native_exp(largest - top);
      largest = top;
      total *= keep;
      _Pragma("unroll") for (int c = 0; c < COLUMNS; c++) sums[c] *= keep;
    }
    float8 base = largest == -INFINITY ? 0.f : largest;
    _Pragma("unroll") for (int b = 0; b < BLOCKS_OF_KEYS; b++) {
      s[b] = native_exp(s[b] - base);
      total += s[b];
    }
    _Pragma("unroll") for (int h = 0; h < 2; h++) {
      block w;
#if SG == 8
#define WEIGHT(r) w.s##r = narrow(s[2 * h].s##r) | (uint)narrow(s[2 * h + 1].s##r) << 16;
#else
#define WEIGHT(r) w.s##r = narrow(s[h].s##r);
#endif
      EACH_ROW(WEIGHT)
      _Pragma("unroll") for (int c = 0; c < COLUMNS; c++)
        sums[c] = MULTIPLY(w, as_int8(intel_sub_group_block_read8(v + (long)((c * blocks + first / KEYS) * 2 + h) * WORDS)), sums[c]);
    }
  }
#define SUM(r) sub_group_reduce_add(total.s##r)
  total = EIGHT(SUM);
  // A row that saw nothing.
  float8 none = zero_rows ? 0.f : NAN;
  _Pragma("unroll") for (int c = 0; c < COLUMNS; c++) {
    int column = c * SG + lane;
    float8 y = total == 0.f ? none : sums[c] / total;
#define STORE(r) \
  if (r <= last && column < width) out[batch * o0 + head * o1 + (first_row + r) * o2 + column] = narrow(y.s##r);
    EACH_ROW(STORE)
  }
#define STORE_LSE(r) \
  if (r <= last && lane == 0) lse[batch * l0 + head * l1 + (first_row + r) * l2] = total.s##r == 0.f ? 0.f : largest.s##r + log(total.s##r);
  if (has_lse) { EACH_ROW(STORE_LSE) }
}

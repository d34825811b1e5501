// softmax(scale * q k^T + mask) v for -DF32, -DF16 or -DBF16 without matrix instructions: a group goes through the keys of one query in blocks of
// 64, an item computes the score of a key and then columns of the result (Milakov and Gimelshein, "Online normalizer calculation", 2018).
// Any strides, in elements: batch, head, row, column.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#include "element.h"
#include "mask.h"

#define ITEMS 64
// Columns of the result that an item has.
#define COLUMNS 8

static inline float group_max(__local float *all, int item, float x) {
  all[item] = x;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int span = ITEMS / 2; span > 0; span /= 2) {
    if (item < span) {
      float a = all[item], b = all[item + span];
      all[item] = isnan(a) || a > b ? a : b;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  x = all[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  return x;
}

__attribute__((reqd_work_group_size(ITEMS, 1, 1)))
__kernel void attention(const __global element *q, const __global element *k, const __global element *v, const __global uchar *mask,
                        __global element *out, __global float *lse, int heads, int shared, int queries, int keys, int depth, int width,
                        long q0, long q1, long q2, long q3, long k0, long k1, long k2, long k3, long v0, long v1, long v2, long v3,
                        long m0, long m1, long m2, long m3, long o0, long o1, long o2, long l0, long l1, long l2,
                        float scale, int causal, int kind, int mask_type, float fill, int zero_rows, int has_lse) {
  __local float scores[ITEMS], all[ITEMS];
  int item = get_local_id(0), row = get_group_id(0), head = get_group_id(1), batch = get_group_id(2);
  q += batch * q0 + head * q1 + row * q2;
  k += batch * k0 + head / shared * k1;
  v += batch * v0 + head / shared * v1;
  long mask_row = batch * m0 + head * m1 + row * m2;
  float sums[COLUMNS] = {0}, largest = -INFINITY, total = 0.f;
  int end = causal ? min(keys, row + 1) : keys;
  for (int first = 0; first < end; first += ITEMS) {
    int key = first + item;
    float score = -INFINITY;
    if (key < end) {
      float dot = 0.f;
      for (int d = 0; d < depth; d++) dot = fma(wide(q[d * q3]), wide(k[key * k2 + d * k3]), dot);
      score = masked(scale * dot, kind, mask_type, mask, mask_row + key * m3, fill);
    }
    float now = group_max(all, item, score);
    float top = isnan(largest) || largest > now ? largest : now;
    // A row that has no weight so far has no maximum to subtract either.
    float base = top == -INFINITY ? 0.f : top;
    float keep = largest == -INFINITY ? 0.f : exp(largest - base);
    scores[item] = key < end ? exp(score - base) : 0.f;
    barrier(CLK_LOCAL_MEM_FENCE);
    int count = min(ITEMS, end - first);
    float more = 0.f;
    for (int j = 0; j < count; j++) more += scores[j];
    total = total * keep + more;
    for (int c = 0; c < COLUMNS; c++) {
      int column = c * ITEMS + item;
      if (column < width) {
        float sum = sums[c] * keep;
        for (int j = 0; j < count; j++) sum = fma(scores[j], wide(v[(first + j) * v2 + column * v3]), sum);
        sums[c] = sum;
      }
    }
    largest = top;
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  int empty = total == 0.f;
  for (int c = 0; c < COLUMNS; c++) {
    int column = c * ITEMS + item;
    if (column < width) {
      float x = empty ? (zero_rows ? 0.f : NAN) : sums[c] / total;
      out[batch * o0 + head * o1 + row * o2 + column] = narrow(x);
    }
  }
  if (has_lse && item == 0) lse[batch * l0 + head * l1 + row * l2] = empty ? 0.f : largest + log(total);
}

// B of any strides (in elements of -DELEMENT; -DROUND: of floats, rounded to bf16) packed for matmul.cl and flash.cl: [batch][columns][steps][8][SG] words, with zeroes beyond N
// and K. A batch is of two dimensions. Words have neighbours in k, or, with `halves`, k and k + 8 of a step.
#include "bf16.h"
typedef ELEMENT element;
#if defined(ROUND)
#define BITS(x) ((uint)to_bf16(x))
#define BYTES 2
#else
#define BITS(x) ((uint)(x))
#define BYTES (int)sizeof(element)
#endif
#define PER_WORD (4 / BYTES)

__kernel void pack(const __global element *B, __global uint *packed, int N, int K, int SG, int columns, int steps, int halves, int inner,
                   long k_stride, long n_stride, long batch_stride, long inner_stride) {
  long words = (long)columns * steps * 8 * SG, at = get_global_id(0);
  int batch = get_group_id(2);
  if (at >= words) return;
  int lane = at % SG, i = at / SG % 8, step = at / (8 * SG) % steps;
  int n = (int)(at / ((long)8 * SG * steps)) * SG + lane;
  const __global element *from = B + batch / inner * batch_stride + batch % inner * inner_stride + n * n_stride;
  uint word = 0;
  for (int j = 0; j < PER_WORD; j++) {
    int k = step * 8 * PER_WORD + (halves ? i + 8 * j : i * PER_WORD + j);
    if (n < N && k < K) word |= (BITS(from[k * k_stride]) & (BYTES == 1 ? 0xffu : 0xffffu)) << (8 * BYTES * j);
  }
  packed[batch * words + at] = word;
}

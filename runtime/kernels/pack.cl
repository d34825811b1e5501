// B of any strides (in elements of -DELEMENT; -DROUND: of floats, rounded to bf16) packed for matmul.cl: [batch][ceil(N / SG)][ceil(K / KS), even][8][SG] words.
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

__kernel void pack(const __global element *B, __global uint *packed, int N, int K, int SG, long k_stride, long n_stride, long batch_stride) {
  int steps = (K + 16 * PER_WORD - 1) / (16 * PER_WORD) * 2, columns = (N + SG - 1) / SG;
  long words = (long)columns * steps * 8 * SG, at = get_global_id(0);
  if (at >= words) return;
  int lane = at % SG, i = at / SG % 8, step = at / (8 * SG) % steps;
  int n = (int)(at / ((long)8 * SG * steps)) * SG + lane;
  const __global element *from = B + get_group_id(2) * batch_stride + n * n_stride;
  uint word = 0;
  for (int j = 0; j < PER_WORD; j++) {
    int k = (step * 8 + i) * PER_WORD + j;
    if (n < N && k < K) word |= (BITS(from[k * k_stride]) & (BYTES == 1 ? 0xffu : 0xffffu)) << (8 * BYTES * j);
  }
  packed[get_group_id(2) * words + at] = word;
}

// B of any strides (in elements of -DELEMENT) packed for matmul.cl: [batch][ceil(N / SG)][ceil(K / KS)][8][SG] words.
typedef ELEMENT element;
#define PER_WORD (4 / (int)sizeof(element))

__kernel void pack(const __global element *B, __global uint *packed, int N, int K, int SG, long k_stride, long n_stride, long batch_stride) {
  int steps = (K + 8 * PER_WORD - 1) / (8 * PER_WORD), columns = (N + SG - 1) / SG;
  long words = (long)columns * steps * 8 * SG, at = get_global_id(0);
  if (at >= words) return;
  int lane = at % SG, i = at / SG % 8, step = at / (8 * SG) % steps;
  int n = (int)(at / ((long)8 * SG * steps)) * SG + lane;
  const __global element *from = B + get_group_id(2) * batch_stride + n * n_stride;
  uint word = 0;
  for (int j = 0; j < PER_WORD; j++) {
    int k = (step * 8 + i) * PER_WORD + j;
    if (n < N && k < K) word |= ((uint)from[k * k_stride] & (sizeof(element) == 1 ? 0xffu : 0xffffu)) << (8 * (int)sizeof(element) * j);
  }
  packed[get_group_id(2) * words + at] = word;
}

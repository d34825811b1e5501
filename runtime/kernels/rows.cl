// A of any strides (in elements; -DROUND: of floats, rounded to bf16) as matmul.cl reads it: [batch][M][pitch], zeroes beyond K.
#include "bf16.h"
typedef ELEMENT element;
#if defined(ROUND)
#define BITS to_bf16
typedef ushort copied;
#else
#define BITS(x) (x)
typedef element copied;
#endif

__kernel void rows(const __global element *A, __global copied *dense, int M, int K, int pitch, long row_stride, long k_stride, long batch_stride) {
  long at = get_global_id(0);
  if (at >= (long)M * pitch) return;
  int row = at / pitch, k = at % pitch, batch = get_group_id(2);
  dense[batch * (long)M * pitch + at] = k < K ? BITS(A[batch * batch_stride + row * row_stride + k * k_stride]) : 0;
}

// Weighted sums (convolution) or maxima over a window of images of -DF32, -DF16 or -DBF16, without matrix instructions: an item computes an element of
// 4 neighbouring output channels of a group, in f32. Strides of image, weight and result in elements. Vectors of the epilogue, by either name, are of channels.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#include "element.h"
#define WIDEN wide
#define EXP exp
#include "epilogue.h"
#define CHANNELS 4

__kernel void window(const __global element *image, const __global element *weight, const __global element *added, __global element *result,
                     const __global element *bias, const __global float *scale, const __global element *residual, int images, int groups,
                     int inputs, int outputs, int height, int width, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                     int padding_w, int dilation_h, int dilation_w, int out_h, int out_w, long i0, long i1, long i2, long i3, long w0,
                     long w1, long w2, long w3, long o0, long o1, long o2, long o3, int is_max, int has_bias) {
  int in_group = inputs / groups, out_group = outputs / groups, blocks = (out_group + CHANNELS - 1) / CHANNELS;
  long at = get_global_id(0);
  int x = at % out_w, y = at / out_w % out_h, block = at / ((long)out_w * out_h) % blocks;
  int group = at / ((long)out_w * out_h * blocks) % groups, n = at / ((long)out_w * out_h * blocks * groups);
  if (n >= images) return;
  int first = group * out_group + block * CHANNELS, count = min(CHANNELS, out_group - block * CHANNELS);
  float sums[CHANNELS];
  for (int c = 0; c < CHANNELS; c++) sums[c] = is_max ? -INFINITY : has_bias && c < count ? wide(added[first + c]) : 0.f;
  for (int i = 0; i < in_group; i++)
    for (int r = 0; r < kernel_h; r++) {
      int row = y * stride_h - padding_h + r * dilation_h;
      if (row < 0 || row >= height) continue;
      for (int s = 0; s < kernel_w; s++) {
        int column = x * stride_w - padding_w + s * dilation_w;
        if (column < 0 || column >= width) continue;
        float v = wide(image[n * i0 + (group * in_group + i) * i1 + row * i2 + column * i3]);
        for (int c = 0; c < count; c++) {
          if (is_max) sums[c] = isnan(sums[c]) || sums[c] > v ? sums[c] : v;
          else sums[c] = fma(v, wide(weight[(first + c) * w0 + i * w1 + r * w2 + s * w3]), sums[c]);
        }
      }
    }
  for (int c = 0; c < count; c++) {
    long to = n * o0 + (first + c) * o1 + y * o2 + x * o3;
    float v = sums[c];
    FINISH(v, first + c, first + c, to)
    result[to] = narrow(v);
  }
}

// Windows of images (16 bits an element, any strides) packed as the second matrix of matmul.cl, so that a convolution is weight[outputs, K] times
// it: for each image and group [ceil(N / SG)][ceil(K / 16), even][8][SG] words, N pixels of the result by K elements of a window, zeroes beyond and in the padding.
__kernel void columns(const __global ushort *image, __global uint *packed, int groups, int inputs, int height, int width, int kernel_h,
                      int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w, int out_h,
                      int out_w, long i0, long i1, long i2, long i3, int SG) {
  int taps = kernel_h * kernel_w, K = inputs * taps, N = out_h * out_w, steps = (K + 31) / 32 * 2;
  long words = (long)((N + SG - 1) / SG) * steps * 8 * SG, at = get_global_id(0);
  if (at >= words) return;
  int lane = at % SG, i = at / SG % 8, step = at / (8 * SG) % steps;
  int n = (int)(at / ((long)8 * SG * steps)) * SG + lane, batch = get_group_id(2);
  int y = n / out_w * stride_h - padding_h, x = n % out_w * stride_w - padding_w;
  image += batch / groups * i0 + (long)(batch % groups) * inputs * i1;
  uint word = 0;
  for (int j = 0; j < 2; j++) {
    int k = (step * 8 + i) * 2 + j;
    int channel = k / taps, tap = k % taps;
    int row = y + tap / kernel_w * dilation_h, column = x + tap % kernel_w * dilation_w;
    if (n < N && k < K && row >= 0 && row < height && column >= 0 && column < width)
      word |= (uint)image[channel * i1 + row * i2 + column * i3] << (16 * j);
  }
  packed[batch * words + at] = word;
}

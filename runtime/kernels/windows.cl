// Windows of images (16 bits an element, any strides) as rows of the first matrix of matmul.cl, so that a convolution in channels-last order is they
// times weight[outputs, K]: for each pixel of each result K elements of its window, zeroes in the padding and up to the pitch. They come channel by
// channel, or tap by tap, as the weight's do.
__kernel void windows(const __global ushort *image, __global ushort *rows, int images, int pitch, int by_tap, int inputs, int height, int width,
                      int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w,
                      int out_h, int out_w, long i0, long i1, long i2, long i3) {
  int taps = kernel_h * kernel_w, pixels = out_h * out_w;
  long at = get_global_id(0);
  if (at >= (long)images * pixels * pitch) return;
  int k = at % pitch, pixel = at / pitch % pixels, n = at / ((long)pitch * pixels);
  int channel = by_tap ? k % inputs : k / taps, tap = by_tap ? k / inputs : k % taps;
  int row = pixel / out_w * stride_h - padding_h + tap / kernel_w * dilation_h;
  int column = pixel % out_w * stride_w - padding_w + tap % kernel_w * dilation_w;
  bool inside = k < inputs * taps && row >= 0 && row < height && column >= 0 && column < width;
  rows[at] = inside ? image[n * i0 + channel * i1 + row * i2 + column * i3] : 0;
}

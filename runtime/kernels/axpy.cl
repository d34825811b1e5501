// y = a * x + y: what the tests of streams and memory launch.
__kernel void axpy(const __global float *x, __global float *y, float a, int n) {
  int i = get_global_id(0);
  if (i < n) y[i] += a * x[i];
}

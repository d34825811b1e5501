// Kinds of masks: 0 none, 1 added, 2 a bool that lets or forbids, 3 a bool that keeps or replaces by `fill`.
static inline float masked(float score, int kind, int mask_type, const __global uchar *mask, long at, float fill) {
  if (kind == 0) return score;
  if (kind >= 2) return mask[at] ? score : kind == 2 ? -INFINITY : fill;
  if (mask_type == 0) return score + ((const __global float *)mask)[at];
  ushort x = ((const __global ushort *)mask)[at];
  return score + (mask_type == 1 ? (float)as_half(x) : as_float((uint)x << 16));
}

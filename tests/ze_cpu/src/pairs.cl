// Matrix instructions of a pair of sub-groups (DPASW; Xe-HPG) as OpenCL C, linked with each module that imports them: sub-groups 2i and 2i + 1 of a group hold the first and
// the last 4 rows of A, and each multiplies all 8 by its own B. The halves are exchanged in local memory between barriers, so that here all of a group must come to it, not
// only the pair. A sub-group without the other one gets NaN (of bytes 127 and -1).
#define NAMED __attribute__((overloadable))
#define STEP __attribute__((overloadable, noinline))

// Memory of the group (`pairs.rs`): OpenCL C has none outside of kernels.
__local int *ze_cpu_pairs(void);

int8 both(int4 half_of_a) {
  int at = 32 * get_sub_group_id() + get_sub_group_local_id(), first = at & ~32, second = at | 32;
  __local int *words = ze_cpu_pairs();
  work_group_barrier(CLK_LOCAL_MEM_FENCE);
  for (int i = 0; i < 4; i++) words[at + 8 * i] = i == 0 ? half_of_a.s0 : i == 1 ? half_of_a.s1 : i == 2 ? half_of_a.s2 : half_of_a.s3;
  work_group_barrier(CLK_LOCAL_MEM_FENCE);
  if (get_num_sub_groups() % 2) return 0x7fff7fff;
  return (int8)(words[first], words[first + 8], words[first + 16], words[first + 24], words[second], words[second + 8], words[second + 16], words[second + 24]);
}

#define PAIRED(TYPES, K, SUM)                                                             \
  SUM NAMED intel_sub_group_##TYPES##_matrix_mad_##K(int8 a, int8 b, SUM c);              \
  SUM STEP intel_sub_group_##TYPES##_split_matrix_mad_##K(int4 a, int8 b, SUM c) {        \
    return intel_sub_group_##TYPES##_matrix_mad_##K(both(a), b, c);                       \
  }
PAIRED(f16_f16, k16, float8)
PAIRED(bf16_bf16, k16, float8)
PAIRED(i8_i8, k32, int8)

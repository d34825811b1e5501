// The left operand of a matrix instruction (DPAS), for -DSG=8 and 16: a lane holds of each of its 8 rows one word (SG 8) or half a word (SG 16) of
// neighbours in k. Include after `element` is defined.
//
// With -DPAIR (SG 8) sub-groups 2i and 2i + 1 of a group, which share a pair of fused vector engines, hold the first and the last 4 rows of a block, and their
// instruction (DPASW) takes all 8: both must come to it.
#if SG == 8
typedef uint part;
#else
typedef ushort part;
#endif
#if defined(PAIR)
typedef int4 block;
#define ROWS 4
#define FIRST_ROW (4 * ((int)get_sub_group_id() & 1))
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3)
#define SPLIT _split
#else
#if SG == 8
typedef int8 block;
#else
typedef short8 block;
#endif
#define ROWS 8
#define FIRST_ROW 0
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define SPLIT
#endif
#define PER_PART (int)(sizeof(part) / sizeof(element))

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#if defined(I8)
#define MULTIPLY JOIN(intel_sub_group_i8_i8, SPLIT, _matrix_mad_k32)
#elif defined(F16)
#define MULTIPLY JOIN(intel_sub_group_f16_f16, SPLIT, _matrix_mad_k16)
#else
#define MULTIPLY JOIN(intel_sub_group_bf16_bf16, SPLIT, _matrix_mad_k16)
#endif

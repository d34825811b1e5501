// The left operand of a matrix instruction (DPAS), for -DSG=8 and 16: a lane holds of each of its 8 rows one word (SG 8) or half a word (SG 16) of
// neighbours in k. Include after `element` is defined.
#if SG == 8
typedef int8 block;
typedef uint part;
#else
typedef short8 block;
typedef ushort part;
#endif
#define PER_PART (int)(sizeof(part) / sizeof(element))

#if defined(I8)
#define MULTIPLY intel_sub_group_i8_i8_matrix_mad_k32
#elif defined(F16)
#define MULTIPLY intel_sub_group_f16_f16_matrix_mad_k16
#else
#define MULTIPLY intel_sub_group_bf16_bf16_matrix_mad_k16
#endif

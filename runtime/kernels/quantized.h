// What products of bytes are stored as, and what their epilogues read: floats with -DFLOATS_OUT, f16 with -DF16_OUT, bf16 with -DBF16_OUT,
// else the sums themselves, which have no epilogue.
#include "bf16.h"
#if defined(FLOATS_OUT)
typedef float result;
#define EXP exp
#define WIDEN(x) (x)
#define NARROW(x) (x)
#elif defined(F16_OUT)
typedef ushort result;
#define WIDEN(x) ((float)as_half(x))
#define NARROW(x) as_ushort((half)(x))
#elif defined(BF16_OUT)
typedef ushort result;
#define WIDEN(x) as_float((uint)(x) << 16)
#define NARROW(x) to_bf16(x)
#else
typedef int result;
#define SUMS_OUT
#endif

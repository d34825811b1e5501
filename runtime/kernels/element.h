// Elements of -DF32, -DF16 or -DBF16 as floats.
#include "bf16.h"
#if defined(F32)
typedef float element;
static inline float wide(float x) { return x; }
static inline float narrow(float x) { return x; }
#elif defined(F16)
typedef ushort element;
static inline float wide(ushort x) { return (float)as_half(x); }
static inline ushort narrow(float x) { return as_ushort((half)x); }
#elif defined(BF16)
typedef ushort element;
static inline float wide(ushort x) { return as_float((uint)x << 16); }
static inline ushort narrow(float x) { return to_bf16(x); }
#endif

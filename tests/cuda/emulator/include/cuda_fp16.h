// Numbers of 16 bits as g++ knows them; each operation rounds to the nearest even.
#pragma once
#include "../emulator.h"

using half = _Float16;
using __half = _Float16;

struct alignas(4) __half2 {
  half x, y;
};
using half2 = __half2;

inline float __half2float(half x) { return static_cast<float>(x); }
inline half __float2half(float x) { return emu::bits<half>(emu::f16(x)); }
inline half __float2half_rn(float x) { return __float2half(x); }
inline unsigned short __half_as_ushort(half x) { return emu::bits<unsigned short>(x); }
inline half __ushort_as_half(unsigned short x) { return emu::bits<half>(x); }
inline bool __hgt(half a, half b) { return a > b; }
inline bool __hlt(half a, half b) { return a < b; }
inline half2 make_half2(half x, half y) { return {x, y}; }

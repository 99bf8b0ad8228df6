// bf16: each operation rounds to the nearest even.
#pragma once
#include "../emulator.h"

struct nv_bfloat16 {
  unsigned short code;

  nv_bfloat16() = default;
  template <class T, class = std::enable_if_t<std::is_arithmetic<T>::value>>
  nv_bfloat16(T x) : code(emu::bf16(static_cast<float>(x))) {}
  template <class T, class = decltype(static_cast<float>(std::declval<T>())),
            class = std::enable_if_t<!std::is_arithmetic<T>::value>, class = void>
  explicit nv_bfloat16(T x) : nv_bfloat16(static_cast<float>(x)) {}
  operator float() const { return emu::bits<float>(static_cast<uint32_t>(code) << 16); }
};
using __nv_bfloat16 = nv_bfloat16;

#define EMU_ROUNDED(op)                                                             \
  inline nv_bfloat16 operator op(nv_bfloat16 a, nv_bfloat16 b) {                    \
    return static_cast<float>(a) op static_cast<float>(b);                          \
  }
EMU_ROUNDED(+)
EMU_ROUNDED(-)
EMU_ROUNDED(*)
EMU_ROUNDED(/)
#undef EMU_ROUNDED

struct alignas(4) nv_bfloat162 {
  nv_bfloat16 x, y;

  nv_bfloat162() = default;
  nv_bfloat162(nv_bfloat16 x, nv_bfloat16 y) : x(x), y(y) {}
};
using __nv_bfloat162 = nv_bfloat162;

inline float __bfloat162float(nv_bfloat16 x) { return x; }
inline nv_bfloat16 __float2bfloat16(float x) { return x; }
inline nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline unsigned short __bfloat16_as_ushort(nv_bfloat16 x) { return x.code; }
inline nv_bfloat16 __ushort_as_bfloat16(unsigned short x) {
  nv_bfloat16 out;
  out.code = x;
  return out;
}
inline bool __hgt(nv_bfloat16 a, nv_bfloat16 b) {
  return __bfloat162float(a) > __bfloat162float(b);
}
inline bool __hlt(nv_bfloat16 a, nv_bfloat16 b) {
  return __bfloat162float(a) < __bfloat162float(b);
}
inline nv_bfloat162 make_bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }

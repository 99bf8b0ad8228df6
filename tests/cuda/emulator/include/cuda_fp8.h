// Floats of 8 bits; conversions round to the nearest even and stop at the largest finite number.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"

using __nv_fp8_storage_t = uint8_t;
using __nv_fp8x2_storage_t = uint16_t;
using __nv_fp8x4_storage_t = uint32_t;

namespace emu {

// `mantissa` bits behind an exponent of that `bias`; `most` is the code of the largest number.
template <int mantissa, int bias>
uint8_t narrowed(float x, uint8_t most) {
  if (!(x == x)) return 0x7F;
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  const float size = std::fabs(x);
  const int least = 1 - bias;
  const int exponent = std::isinf(size) || size == 0 ? least : std::ilogb(size);
  const int at = exponent < least ? least : exponent;
  const double steps = std::nearbyint(std::ldexp(static_cast<double>(size), mantissa - at));
  const double code = steps + std::ldexp(static_cast<double>(at - least), mantissa);
  return sign | (code > most ? most : static_cast<uint8_t>(code));
}

template <int mantissa, int bias>
float widened(uint8_t code) {
  const int exponent = code >> mantissa & ((1 << (7 - mantissa)) - 1);
  const int fraction = code & ((1 << mantissa) - 1);
  const int steps = exponent ? fraction | 1 << mantissa : fraction;
  const float size =
      std::ldexp(static_cast<float>(steps), (exponent ? exponent : 1) - bias - mantissa);
  return code & 0x80 ? -size : size;
}

}  // namespace emu

struct __nv_fp8_e5m2 {
  uint8_t __x;

  __nv_fp8_e5m2() = default;
  explicit __nv_fp8_e5m2(float x) : __x(emu::narrowed<2, 15>(x, 0x7B)) {}
  explicit operator float() const {
    if ((__x & 0x7F) > 0x7C) return emu::bits<float>(0x7FFFFFFF);
    if ((__x & 0x7F) == 0x7C) return __x & 0x80 ? -INFINITY : INFINITY;
    return emu::widened<2, 15>(__x);
  }
};

struct __nv_fp8_e4m3 {
  uint8_t __x;

  __nv_fp8_e4m3() = default;
  explicit __nv_fp8_e4m3(float x) : __x(emu::narrowed<3, 7>(x, 0x7E)) {}
  explicit operator float() const {
    return (__x & 0x7F) == 0x7F ? emu::bits<float>(0x7FFFFFFF) : emu::widened<3, 7>(__x);
  }
};

struct __nv_fp8_e8m0 {
  uint8_t __x;

  explicit operator float() const {
    return __x == 0xFF ? emu::bits<float>(0x7FFFFFFF) : std::ldexp(1.0f, __x - 127);
  }
};

#define EMU_SEVERAL(format)                        \
  struct alignas(2) __nv_fp8x2_##format {          \
    __nv_fp8x2_storage_t __x;                      \
  };                                               \
  struct alignas(4) __nv_fp8x4_##format {          \
    __nv_fp8x4_storage_t __x;                      \
  };
EMU_SEVERAL(e5m2)
EMU_SEVERAL(e4m3)
EMU_SEVERAL(e8m0)
#undef EMU_SEVERAL

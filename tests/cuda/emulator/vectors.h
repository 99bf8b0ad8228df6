// CUDA's vectors of two to four numbers.
#pragma once
#include <cstdint>

#define EMU_VECTOR(type, name)                                                           \
  struct alignas(2 * sizeof(type)) name##2 {                                             \
    type x, y;                                                                           \
  };                                                                                     \
  struct name##3 {                                                                       \
    type x, y, z;                                                                        \
  };                                                                                     \
  struct alignas(sizeof(type) < 8 ? 4 * sizeof(type) : 16) name##4 {                     \
    type x, y, z, w;                                                                     \
  };                                                                                     \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                       \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }            \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMU_VECTOR(int8_t, char)
EMU_VECTOR(uint8_t, uchar)
EMU_VECTOR(int16_t, short)
EMU_VECTOR(uint16_t, ushort)
EMU_VECTOR(int32_t, int)
EMU_VECTOR(uint32_t, uint)
EMU_VECTOR(int64_t, longlong)
EMU_VECTOR(uint64_t, ulonglong)
EMU_VECTOR(float, float)
EMU_VECTOR(double, double)
#undef EMU_VECTOR

// Functions of CUDA C.
#pragma once
#include <limits>

#include "emulator.h"

// Of floats the one that is a number, and +0 above -0.
template <class T>
T max(T a, T b) {
  if constexpr (std::is_floating_point<T>::value) {
    if (!(a == a) || !(b == b)) return a == a ? a : b;
    return a > b || (a == b && !std::signbit(a)) ? a : b;
  } else {
    return a > b ? a : b;
  }
}
template <class T>
T min(T a, T b) {
  if constexpr (std::is_floating_point<T>::value) {
    if (!(a == a) || !(b == b)) return a == a ? a : b;
    return a < b || (a == b && std::signbit(a)) ? a : b;
  } else {
    return a < b ? a : b;
  }
}
template <class A, class B>
std::enable_if_t<!std::is_same<A, B>::value, std::common_type_t<A, B>> max(A a, B b) {
  return max<std::common_type_t<A, B>>(a, b);
}
template <class A, class B>
std::enable_if_t<!std::is_same<A, B>::value, std::common_type_t<A, B>> min(A a, B b) {
  return min<std::common_type_t<A, B>>(a, b);
}
// The C library's may return either zero.
#define fmaxf(a, b) (max<float>(a, b))
#define fminf(a, b) (min<float>(a, b))
#define fmax(a, b) (max<double>(a, b))
#define fmin(a, b) (min<double>(a, b))

inline uint32_t __cvta_generic_to_shared(const void* p) { return emu::shared_address(p); }
inline void __trap() { emu::trap(); }

#define EMU_CACHED(load, store)                     \
  template <class T>                                \
  T load(const T* place) {                          \
    return *place;                                  \
  }                                                 \
  template <class T>                                \
  void store(T* place, T value) {                   \
    *place = value;                                 \
  }
EMU_CACHED(__ldcg, __stcg)
EMU_CACHED(__ldcs, __stcs)
EMU_CACHED(__ldca, __stwb)
EMU_CACHED(__ldg, __stwt)
#undef EMU_CACHED

inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  uint32_t result = 0;
  for (int i = 0; i < 32; i += 8)
    result |= static_cast<uint32_t>(bytes >> 8 * (selector >> i / 2 & 7) & 255) << i;
  return result;
}

namespace emu {

template <class A, class B, class Sum>
Sum dot_bytes(uint32_t a, uint32_t b, Sum c) {
  for (int i = 0; i < 32; i += 8)
    c += static_cast<Sum>(static_cast<A>(a >> i) * static_cast<B>(b >> i));
  return c;
}

// A GPU gives the nearest number that there is; NaN gives 0, and where one of both types has 64 bits
// the upper bit alone.
template <class To, class From>
To saturated(From x) {
  using Limits = std::numeric_limits<To>;
  if (!(x == x)) {
    const bool wide = sizeof(From) == 8 || sizeof(To) == 8;
    return wide ? static_cast<To>(1ull << (8 * sizeof(To) - 1)) : 0;
  }
  if (x >= std::ldexp(From(1), Limits::digits)) return Limits::max();
  if (x <= static_cast<From>(Limits::min())) return Limits::min();
  return static_cast<To>(x);
}

}  // namespace emu

inline int __dp4a(int a, int b, int c) { return emu::dot_bytes<int8_t, int8_t>(a, b, c); }
inline int __dp4a(unsigned a, int b, int c) { return emu::dot_bytes<uint8_t, int8_t>(a, b, c); }
inline int __dp4a(int a, unsigned b, int c) { return emu::dot_bytes<int8_t, uint8_t>(a, b, c); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  return emu::dot_bytes<uint8_t, uint8_t>(a, b, c);
}

#define EMU_CONVERSION(from, to, name, rounded) \
  inline to name(from x) { return emu::saturated<to>(std::rounded(x)); }
#define EMU_CONVERSIONS(from, from_name, to, to_name)                     \
  EMU_CONVERSION(from, to, __##from_name##2##to_name##_rn, nearbyint)     \
  EMU_CONVERSION(from, to, __##from_name##2##to_name##_rz, trunc)         \
  EMU_CONVERSION(from, to, __##from_name##2##to_name##_rd, floor)         \
  EMU_CONVERSION(from, to, __##from_name##2##to_name##_ru, ceil)
EMU_CONVERSIONS(float, float, int, int)
EMU_CONVERSIONS(float, float, unsigned, uint)
EMU_CONVERSIONS(float, float, long long, ll)
EMU_CONVERSIONS(float, float, unsigned long long, ull)
EMU_CONVERSIONS(double, double, int, int)
EMU_CONVERSIONS(double, double, unsigned, uint)
EMU_CONVERSIONS(double, double, long long, ll)
EMU_CONVERSIONS(double, double, unsigned long long, ull)
#undef EMU_CONVERSIONS
#undef EMU_CONVERSION

inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return x; }
inline double __ll2double_rn(long long x) { return static_cast<double>(x); }

inline int __float_as_int(float x) { return emu::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emu::bits<unsigned>(x); }
inline float __int_as_float(int x) { return emu::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emu::bits<float>(x); }
inline long long __double_as_longlong(double x) { return emu::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emu::bits<double>(x); }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float a) { return 1 / a; }
inline float rsqrtf(float a) { return static_cast<float>(1 / std::sqrt(static_cast<double>(a))); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline unsigned __brev(unsigned x) {
  unsigned out = 0;
  for (int i = 0; i < 32; ++i) out |= (x >> i & 1) << (31 - i);
  return out;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline int __mulhi(int a, int b) {
  return static_cast<int>(static_cast<int64_t>(a) * b >> 32);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  return static_cast<unsigned>(both << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  return static_cast<unsigned>(both >> (shift & 31));
}

namespace emu {

struct Shuffle {
  uint64_t value, result;
  int other;  // the lane whose value is wanted; -1 is this one
};
void shuffle(void* const* lanes, uint32_t mask);

struct Vote {
  bool mine;
  uint32_t result;
};
void vote(void* const* lanes, uint32_t mask);
void meet(void* const* lanes, uint32_t mask);

struct Gathered {
  uint32_t value;
  uint32_t all[32];
};
void gather(void* const* lanes, uint32_t mask);

inline int lane() { return static_cast<int>(self->number % 32); }

template <class T>
T shuffled(uint32_t mask, T value, int other) {
  static_assert(sizeof(T) <= 8, "a shuffle moves up to 64 bits");
  Shuffle mine{0, 0, other < 0 ? lane() : other};
  std::memcpy(&mine.value, &value, sizeof value);
  collective(shuffle, &mine, mask);
  std::memcpy(&value, &mine.result, sizeof value);
  return value;
}

inline uint32_t ballot(uint32_t mask, bool mine) {
  Vote vote_of_lane{mine, 0};
  collective(vote, &vote_of_lane, mask);
  return vote_of_lane.result;
}

template <class T, class F>
T reduced(uint32_t mask, T value, F both) {
  Gathered mine{bits<uint32_t>(value), {}};
  collective(gather, &mine, mask);
  int first = 0;
  while (!(mask >> first & 1)) ++first;
  T result = bits<T>(mine.all[first]);
  for (int i = first + 1; i < 32; ++i)
    if (mask >> i & 1) result = both(result, bits<T>(mine.all[i]));
  return result;
}

}  // namespace emu

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int first = emu::lane() & ~(width - 1);
  return emu::shuffled(mask, value, first + (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int other = emu::lane() ^ bits, last = emu::lane() | (width - 1);
  return emu::shuffled(mask, value, other <= last ? other : -1);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int other = emu::lane() + static_cast<int>(delta), last = emu::lane() | (width - 1);
  return emu::shuffled(mask, value, other <= last ? other : -1);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int other = emu::lane() - static_cast<int>(delta), first = emu::lane() & ~(width - 1);
  return emu::shuffled(mask, value, other >= first ? other : -1);
}
inline unsigned __ballot_sync(unsigned mask, int mine) { return emu::ballot(mask, mine != 0); }
inline int __any_sync(unsigned mask, int mine) { return emu::ballot(mask, mine != 0) != 0; }
inline int __all_sync(unsigned mask, int mine) { return emu::ballot(mask, mine != 0) == mask; }
#define EMU_REDUCTION(name, type, both)                              \
  inline type __reduce_##name##_sync(unsigned mask, type value) {    \
    return emu::reduced(mask, value, [](type a, type b) -> type { return both; }); \
  }
EMU_REDUCTION(add, unsigned, a + b)
EMU_REDUCTION(add, int, a + b)
EMU_REDUCTION(min, unsigned, min(a, b))
EMU_REDUCTION(min, int, min(a, b))
EMU_REDUCTION(max, unsigned, max(a, b))
EMU_REDUCTION(max, int, max(a, b))
EMU_REDUCTION(and, unsigned, a & b)
EMU_REDUCTION(or, unsigned, a | b)
EMU_REDUCTION(xor, unsigned, a ^ b)
#undef EMU_REDUCTION
inline void __syncwarp(unsigned mask = emu::whole_warp) {
  emu::collective(emu::meet, nullptr, mask);
}
// Blocks run one by one, so that everybody sees what is written.
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace emu {

template <class T, class F>
T atomic(T* place, F made) {
  const T before = *place;
  *place = made(before);
  return before;
}

}  // namespace emu

#define EMU_ATOMIC(name, type, after)                     \
  inline type atomic##name(type* place, type value) {     \
    return emu::atomic(place, [value]([[maybe_unused]] type old) -> type { \
      return after;                                       \
    });                                                   \
  }
#define EMU_ATOMIC_INTEGERS(type)           \
  EMU_ATOMIC(Add, type, old + value)        \
  EMU_ATOMIC(Exch, type, value)             \
  EMU_ATOMIC(Max, type, max(old, value))    \
  EMU_ATOMIC(Min, type, min(old, value))    \
  EMU_ATOMIC(And, type, old & value)        \
  EMU_ATOMIC(Or, type, old | value)         \
  EMU_ATOMIC(Xor, type, old ^ value)        \
  inline type atomicCAS(type* place, type compare, type value) { \
    return emu::atomic(place, [=](type old) { return old == compare ? value : old; }); \
  }
EMU_ATOMIC_INTEGERS(int)
EMU_ATOMIC_INTEGERS(unsigned)
EMU_ATOMIC_INTEGERS(unsigned long long)
EMU_ATOMIC(Add, float, old + value)
EMU_ATOMIC(Add, double, old + value)
EMU_ATOMIC(Exch, float, value)
EMU_ATOMIC(Sub, int, old - value)
EMU_ATOMIC(Sub, unsigned, old - value)
#undef EMU_ATOMIC_INTEGERS
#undef EMU_ATOMIC

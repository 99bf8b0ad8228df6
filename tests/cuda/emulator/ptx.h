// Instructions of PTX: each by its name, operands in its order.
#pragma once
#include "functions.h"

namespace emu {

struct Product {  // of one lane: what it gives to a product of matrices, and its four sums
  uint32_t a[4], b[2], c[4], d[4];
};
enum class Number { u4, s4, u8, s8, f16, bf16 };
template <Number A, Number B>
void multiply(void* const* lanes, uint32_t mask);

struct Matrices {  // of one lane: its part of up to four matrices, and the row that it points to
  uint32_t r[4];
  uint32_t row;
};
template <int count, bool transposed>
void load_matrices(void* const* lanes, uint32_t mask);
template <int count, bool transposed>
void store_matrices(void* const* lanes, uint32_t mask);

inline uint16_t bf16(float x) {
  if (!(x == x)) return 0x7FFF;
  const auto u = bits<uint32_t>(x);
  return static_cast<uint16_t>((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
inline uint16_t f16(float x) {
  return x == x ? bits<uint16_t>(static_cast<_Float16>(x)) : 0x7FFF;
}

// An address with an offset.
inline uint32_t moved(uint32_t address, int bytes) { return address + bytes; }
inline const void* moved(const void* address, int bytes) {
  return static_cast<const char*>(address) + bytes;
}

}  // namespace emu

namespace ptx {

#define EMU_MMA(name, A, B)                                                                     \
  template <class D, class C>                                                                   \
  void mma_sync_aligned_##name(D& d0, D& d1, D& d2, D& d3, uint32_t a0, uint32_t a1, uint32_t a2, \
                               uint32_t a3, uint32_t b0, uint32_t b1, C c0, C c1, C c2, C c3) { \
    const auto u = [](C c) { return emu::bits<uint32_t>(c); };                                  \
    emu::Product mine{{a0, a1, a2, a3}, {b0, b1}, {u(c0), u(c1), u(c2), u(c3)}, {}};            \
    emu::collective(emu::multiply<emu::Number::A, emu::Number::B>, &mine);                      \
    D* const d[] = {&d0, &d1, &d2, &d3};                                                        \
    for (int i = 0; i < 4; ++i) *d[i] = emu::bits<D>(mine.d[i]);                                \
  }
EMU_MMA(m16n8k32_row_col_s32_u8_u8_s32, u8, u8)
EMU_MMA(m16n8k32_row_col_s32_u8_s8_s32, u8, s8)
EMU_MMA(m16n8k32_row_col_s32_s8_u8_s32, s8, u8)
EMU_MMA(m16n8k32_row_col_s32_s8_s8_s32, s8, s8)
EMU_MMA(m16n8k64_row_col_s32_u4_u4_s32, u4, u4)
EMU_MMA(m16n8k64_row_col_s32_u4_s4_s32, u4, s4)
EMU_MMA(m16n8k64_row_col_s32_s4_u4_s32, s4, u4)
EMU_MMA(m16n8k64_row_col_s32_s4_s4_s32, s4, s4)
EMU_MMA(m16n8k16_row_col_f32_f16_f16_f32, f16, f16)
EMU_MMA(m16n8k16_row_col_f32_bf16_bf16_f32, bf16, bf16)
#undef EMU_MMA

// An address is one of shared memory, or a pointer where the instruction names no memory.
inline uint32_t row_address(uint32_t row) { return row; }
inline uint32_t row_address(const void* row) { return emu::shared_address(row); }

template <bool transposed, class... R>
void load_rows(uint32_t row, R&... r) {
  emu::Matrices mine{{}, row};
  emu::collective(emu::load_matrices<sizeof...(R), transposed>, &mine);
  int i = 0;
  ((r = emu::bits<R>(mine.r[i++])), ...);
}
template <bool transposed, class... R>
void store_rows(uint32_t row, R... r) {
  emu::Matrices mine{{emu::bits<uint32_t>(r)...}, row};
  emu::collective(emu::store_matrices<sizeof...(R), transposed>, &mine);
}

#define EMU_MATRICES(form, transposed)                                                    \
  template <class R, class A>                                                             \
  void ldmatrix_sync_aligned_m8n8_x1_##form(R& r0, A row) {                               \
    load_rows<transposed>(row_address(row), r0);                                          \
  }                                                                                       \
  template <class R, class A>                                                             \
  void ldmatrix_sync_aligned_m8n8_x2_##form(R& r0, R& r1, A row) {                        \
    load_rows<transposed>(row_address(row), r0, r1);                                      \
  }                                                                                       \
  template <class R, class A>                                                             \
  void ldmatrix_sync_aligned_m8n8_x4_##form(R& r0, R& r1, R& r2, R& r3, A row) {          \
    load_rows<transposed>(row_address(row), r0, r1, r2, r3);                              \
  }                                                                                       \
  template <class R, class A>                                                             \
  void stmatrix_sync_aligned_m8n8_x1_##form(A row, R r0) {                                \
    store_rows<transposed>(row_address(row), r0);                                         \
  }                                                                                       \
  template <class R, class A>                                                             \
  void stmatrix_sync_aligned_m8n8_x2_##form(A row, R r0, R r1) {                          \
    store_rows<transposed>(row_address(row), r0, r1);                                     \
  }                                                                                       \
  template <class R, class A>                                                             \
  void stmatrix_sync_aligned_m8n8_x4_##form(A row, R r0, R r1, R r2, R r3) {              \
    store_rows<transposed>(row_address(row), r0, r1, r2, r3);                             \
  }
EMU_MATRICES(shared_b16, false)
EMU_MATRICES(b16, false)
EMU_MATRICES(trans_shared_b16, true)
EMU_MATRICES(trans_b16, true)
#undef EMU_MATRICES

// The last operand, where there is one, is how many bytes are copied; zeros fill the rest.
inline void cp_async_ca_shared_global(uint32_t target, const void* source, unsigned bytes,
                                      unsigned given) {
  emu::copy_async(target, source, bytes, given);
}
inline void cp_async_ca_shared_global(uint32_t target, const void* source, unsigned bytes) {
  emu::copy_async(target, source, bytes, bytes);
}
template <class... G>
void cp_async_cg_shared_global(uint32_t target, const void* source, unsigned bytes, G... given) {
  // No other size exists past the first-level cache.
  cp_async_ca_shared_global(target, source, bytes == 16 ? 16 : 0, given...);
}
inline void cp_async_commit_group() { emu::commit_copies(); }
inline void cp_async_wait_group(unsigned left) { emu::await_copies(left); }
inline void cp_async_wait_all() {
  emu::commit_copies();
  emu::await_copies(0);
}

inline void* place_of(uint32_t address, unsigned bytes) {
  return emu::shared_pointer(address, bytes, bytes);
}
inline void* place_of(const void* address, unsigned bytes) {
  emu::check_alignment(address, bytes);
  return const_cast<void*>(address);
}

// Loads and stores of one number or a vector, which is aligned to its size.
#define EMU_ACCESS(load, store, type)                                     \
  template <class A>                                                      \
  void load(type& d, A address) {                                         \
    d = *static_cast<const type*>(place_of(address, sizeof(type)));       \
  }                                                                       \
  template <class A>                                                      \
  void store(A address, type v) {                                         \
    *static_cast<type*>(place_of(address, sizeof(type))) = v;             \
  }
#define EMU_ACCESS_2(load, store, type)                                   \
  template <class A>                                                      \
  void load(type& d0, type& d1, A address) {                              \
    const auto* p = static_cast<const type*>(place_of(address, 2 * sizeof(type))); \
    d0 = p[0], d1 = p[1];                                                 \
  }                                                                       \
  template <class A>                                                      \
  void store(A address, type v0, type v1) {                               \
    auto* p = static_cast<type*>(place_of(address, 2 * sizeof(type)));    \
    p[0] = v0, p[1] = v1;                                                 \
  }
#define EMU_ACCESS_4(load, store, type)                                   \
  template <class A>                                                      \
  void load(type& d0, type& d1, type& d2, type& d3, A address) {          \
    const auto* p = static_cast<const type*>(place_of(address, 4 * sizeof(type))); \
    d0 = p[0], d1 = p[1], d2 = p[2], d3 = p[3];                           \
  }                                                                       \
  template <class A>                                                      \
  void store(A address, type v0, type v1, type v2, type v3) {             \
    auto* p = static_cast<type*>(place_of(address, 4 * sizeof(type)));    \
    p[0] = v0, p[1] = v1, p[2] = v2, p[3] = v3;                           \
  }
#define EMU_ACCESSES(word, type)                                          \
  EMU_ACCESS(ld_shared_##word, st_shared_##word, type)                    \
  EMU_ACCESS(ld_global_##word, st_global_##word, type)                    \
  EMU_ACCESS_2(ld_shared_v2_##word, st_shared_v2_##word, type)            \
  EMU_ACCESS_2(ld_global_v2_##word, st_global_v2_##word, type)            \
  EMU_ACCESS_4(ld_shared_v4_##word, st_shared_v4_##word, type)            \
  EMU_ACCESS_4(ld_global_v4_##word, st_global_v4_##word, type)
EMU_ACCESSES(b32, uint32_t)
EMU_ACCESSES(u32, uint32_t)
EMU_ACCESSES(s32, int32_t)
EMU_ACCESSES(f32, float)
#undef EMU_ACCESSES
#undef EMU_ACCESS_4
#undef EMU_ACCESS_2
#undef EMU_ACCESS

#define EMU_ADDITIONS(word, type)                                             \
  inline void red_global_add_##word(const void* place, type value) {          \
    auto* p = static_cast<type*>(const_cast<void*>(place));                   \
    *p += value;                                                              \
  }                                                                           \
  inline void red_relaxed_gpu_global_add_##word(const void* place, type value) { \
    red_global_add_##word(place, value);                                      \
  }                                                                           \
  inline void red_shared_add_##word(uint32_t address, type value) {           \
    red_global_add_##word(emu::shared_pointer(address, sizeof(type), sizeof(type)), value); \
  }
EMU_ADDITIONS(u32, uint32_t)
EMU_ADDITIONS(s32, int32_t)
EMU_ADDITIONS(u64, uint64_t)
EMU_ADDITIONS(f32, float)
EMU_ADDITIONS(f64, double)
#undef EMU_ADDITIONS

// Unlike `__byte_perm`, the upper bit of a selector's nibble asks for the sign of the byte.
template <class D>
void prmt_b32(D& d, uint32_t a, uint32_t b, uint32_t selector) {
  const uint32_t picked = __byte_perm(a, b, selector);
  uint32_t out = 0;
  for (int i = 0; i < 32; i += 8) {
    const uint32_t byte = picked >> i & 255;
    const bool sign = selector >> (i / 2 + 3) & 1;
    out |= (sign ? (byte & 128 ? 255 : 0) : byte) << i;
  }
  d = emu::bits<D>(out);
}

// Bit i of the table is the result for the bits of a, b and c that make the number i.
template <class D>
void lop3_b32(D& d, uint32_t a, uint32_t b, uint32_t c, unsigned table) {
  uint32_t out = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  d = emu::bits<D>(out);
}

#define EMU_DOT(a_word, a_type, b_word, b_type, sum)                          \
  template <class D>                                                          \
  void dp4a_##a_word##_##b_word(D& d, uint32_t a, uint32_t b, sum c) {        \
    d = emu::bits<D>(emu::dot_bytes<a_type, b_type>(a, b, c));                \
  }
EMU_DOT(s32, int8_t, s32, int8_t, int32_t)
EMU_DOT(s32, int8_t, u32, uint8_t, int32_t)
EMU_DOT(u32, uint8_t, s32, int8_t, int32_t)
EMU_DOT(u32, uint8_t, u32, uint8_t, uint32_t)
#undef EMU_DOT

template <class D>
void cvt_rn_bf16x2_f32(D& d, float high, float low) {
  d = emu::bits<D>(static_cast<uint32_t>(emu::bf16(high)) << 16 | emu::bf16(low));
}
template <class D>
void cvt_rn_f16x2_f32(D& d, float high, float low) {
  d = emu::bits<D>(static_cast<uint32_t>(emu::f16(high)) << 16 | emu::f16(low));
}
template <class D>
void cvt_rn_bf16_f32(D& d, float x) {
  d = emu::bits<D>(emu::bf16(x));
}
template <class D>
void cvt_rn_f16_f32(D& d, float x) {
  d = emu::bits<D>(emu::f16(x));
}
template <class S>
void cvt_f32_f16(float& d, S x) {
  d = static_cast<float>(emu::bits<_Float16>(x));
}
inline void cvta_to_shared_u64(uint64_t& d, const void* pointer) {
  d = emu::shared_address(pointer);
}
template <class D>
void cvt_u32_u64(D& d, uint64_t x) {
  d = static_cast<D>(x);
}

// The segment of a lane is those that agree with it in the bits 8 to 12 of `c`; bits 0 to 4 are its
// last lane, or its first for `up`.
inline int bound_of(uint32_t c) {
  const int segment = c >> 8 & 31;
  return (emu::lane() & segment) | (static_cast<int>(c & 31) & ~segment);
}
#define EMU_SHUFFLE(form, other, within)                                          \
  template <class D, class A>                                                     \
  void shfl_sync_##form##_b32(D& d, A a, uint32_t b, uint32_t c, uint32_t mask) { \
    [[maybe_unused]] const int lane = emu::lane(), segment = c >> 8 & 31;          \
    const int bound = bound_of(c), step = b & 31, j = other;                      \
    d = emu::bits<D>(emu::shuffled(mask, a, within ? j : -1));                    \
  }
EMU_SHUFFLE(up, lane - step, j >= bound)
EMU_SHUFFLE(down, lane + step, j <= bound)
EMU_SHUFFLE(bfly, lane ^ step, j <= bound)
EMU_SHUFFLE(idx, (lane & segment) | (step & ~segment), j <= bound)
#undef EMU_SHUFFLE

inline void vote_sync_all_pred(bool& d, bool mine, uint32_t mask) {
  d = __all_sync(mask, mine);
}
inline void vote_sync_any_pred(bool& d, bool mine, uint32_t mask) {
  d = __any_sync(mask, mine);
}
template <class D>
void vote_sync_ballot_b32(D& d, bool mine, uint32_t mask) {
  d = emu::bits<D>(__ballot_sync(mask, mine));
}

#define EMU_REDUCTION(name, word, type)                                           \
  inline void redux_sync_##name##_##word(type& d, type a, uint32_t mask) {        \
    d = __reduce_##name##_sync(mask, a);                                          \
  }
EMU_REDUCTION(add, u32, unsigned)
EMU_REDUCTION(add, s32, int)
EMU_REDUCTION(min, u32, unsigned)
EMU_REDUCTION(min, s32, int)
EMU_REDUCTION(max, u32, unsigned)
EMU_REDUCTION(max, s32, int)
EMU_REDUCTION(and, b32, unsigned)
EMU_REDUCTION(or, b32, unsigned)
EMU_REDUCTION(xor, b32, unsigned)
#undef EMU_REDUCTION

inline void popc_b32(uint32_t& d, uint32_t a) { d = __popc(a); }
inline void popc_b64(uint32_t& d, uint64_t a) { d = __popcll(a); }

inline void setp_ne_b32(bool& p, uint32_t a, uint32_t b) { p = a != b; }
template <class D>
void selp_b32(D& d, uint32_t a, uint32_t b, bool p) {
  d = emu::bits<D>(p ? a : b);
}

}  // namespace ptx

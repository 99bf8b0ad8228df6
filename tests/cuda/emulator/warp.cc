// What a warp does together: products of matrices, their rows in shared memory, shuffles, votes.
#include "emulator.h"

namespace emu {

namespace {

constexpr int bits_of(Number n) {
  return n == Number::u4 || n == Number::s4 ? 4 : n == Number::u8 || n == Number::s8 ? 8 : 16;
}

constexpr bool is_float(Number n) { return n == Number::f16 || n == Number::bf16; }

template <Number n>
auto number(uint32_t word, int i) {
  const uint32_t code = word >> i * bits_of(n);
  if constexpr (n == Number::u4) return static_cast<int>(code & 15);
  if constexpr (n == Number::s4) return static_cast<int>((code & 15) ^ 8) - 8;
  if constexpr (n == Number::u8) return static_cast<int>(static_cast<uint8_t>(code));
  if constexpr (n == Number::s8) return static_cast<int>(static_cast<int8_t>(code));
  if constexpr (n == Number::f16)
    return static_cast<double>(bits<_Float16>(static_cast<uint16_t>(code)));
  if constexpr (n == Number::bf16) return static_cast<double>(bits<float>(code << 16));
}

uint32_t sum_of(const int16_t* x, const int16_t* y, int depth, uint32_t c) {
  int sum = 0;  // of up to 64 products of 16 bits
  for (int k = 0; k < depth; ++k) sum += x[k] * y[k];
  return c + static_cast<uint32_t>(sum);
}

uint32_t sum_of(const double* x, const double* y, int depth, uint32_t c) {
  double sum = bits<float>(c);
  for (int k = 0; k < depth; ++k) sum += x[k] * y[k];
  return bits<uint32_t>(static_cast<float>(sum));
}

char* row_of(const Matrices* lane) {
  return static_cast<char*>(shared_pointer(lane->row, 16, 16));
}

// Where the two halves of a lane's register lie in matrix `i`: rows are given by eight lanes each.
void places(void* const* lanes, int lane, int i, bool transposed, char** out) {
  for (int j = 0; j < 2; ++j) {
    const int along = lane % 4 * 2 + j, across = lane / 4;
    const int row = transposed ? along : across, column = transposed ? across : along;
    out[j] = row_of(static_cast<const Matrices*>(lanes[8 * i + row])) + 2 * column;
  }
}

}  // namespace

// A lane's registers hold, of `a`, rows g and g + 8 (g = lane / 4) and of `b` column g; along the
// sum each register has neighbours, from lane % 4 on, and the later registers its second half.
template <Number A, Number B>
void multiply(void* const* lanes, uint32_t) {
  constexpr int each = 32 / bits_of(A), depth = 8 * each;
  using T = std::conditional_t<is_float(A), double, int16_t>;
  T a[16][depth], b[8][depth];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* in = static_cast<const Product*>(lanes[lane]);
    const int row = lane / 4, k = lane % 4 * each;
    for (int e = 0; e < each; ++e) {
      for (int i = 0; i < 4; ++i)
        a[row + i % 2 * 8][k + i / 2 * 4 * each + e] = number<A>(in->a[i], e);
      for (int i = 0; i < 2; ++i) b[row][k + i * 4 * each + e] = number<B>(in->b[i], e);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto* mine = static_cast<Product*>(lanes[lane]);
    for (int i = 0; i < 4; ++i)
      mine->d[i] =
          sum_of(a[lane / 4 + i / 2 * 8], b[lane % 4 * 2 + i % 2], depth, mine->c[i]);
  }
}

template void multiply<Number::u8, Number::u8>(void* const*, uint32_t);
template void multiply<Number::u8, Number::s8>(void* const*, uint32_t);
template void multiply<Number::s8, Number::u8>(void* const*, uint32_t);
template void multiply<Number::s8, Number::s8>(void* const*, uint32_t);
template void multiply<Number::u4, Number::u4>(void* const*, uint32_t);
template void multiply<Number::u4, Number::s4>(void* const*, uint32_t);
template void multiply<Number::s4, Number::u4>(void* const*, uint32_t);
template void multiply<Number::s4, Number::s4>(void* const*, uint32_t);
template void multiply<Number::f16, Number::f16>(void* const*, uint32_t);
template void multiply<Number::bf16, Number::bf16>(void* const*, uint32_t);

template <int count, bool transposed>
void load_matrices(void* const* lanes, uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    auto* mine = static_cast<Matrices*>(lanes[lane]);
    for (int i = 0; i < count; ++i) {
      char* half[2];
      places(lanes, lane, i, transposed, half);
      for (int j = 0; j < 2; ++j)
        std::memcpy(reinterpret_cast<char*>(&mine->r[i]) + 2 * j, half[j], 2);
    }
  }
}

template <int count, bool transposed>
void store_matrices(void* const* lanes, uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto* mine = static_cast<const Matrices*>(lanes[lane]);
    for (int i = 0; i < count; ++i) {
      char* half[2];
      places(lanes, lane, i, transposed, half);
      for (int j = 0; j < 2; ++j)
        std::memcpy(half[j], reinterpret_cast<const char*>(&mine->r[i]) + 2 * j, 2);
    }
  }
}

#define EMU_MATRICES(count, transposed)                                      \
  template void load_matrices<count, transposed>(void* const*, uint32_t);    \
  template void store_matrices<count, transposed>(void* const*, uint32_t);
EMU_MATRICES(1, false)
EMU_MATRICES(2, false)
EMU_MATRICES(4, false)
EMU_MATRICES(1, true)
EMU_MATRICES(2, true)
EMU_MATRICES(4, true)
#undef EMU_MATRICES

void shuffle(void* const* lanes, uint32_t mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    auto* mine = static_cast<Shuffle*>(lanes[lane]);
    const int other = mine->other & 31;
    // What a lane that takes no part would give is anything.
    mine->result = mask >> other & 1 ? static_cast<const Shuffle*>(lanes[other])->value
                                     : 0xA5A5A5A5A5A5A5A5;
  }
}

void vote(void* const* lanes, uint32_t mask) {
  uint32_t result = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1 && static_cast<const Vote*>(lanes[lane])->mine) result |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) static_cast<Vote*>(lanes[lane])->result = result;
}

void meet(void* const*, uint32_t) {}

void gather(void* const* lanes, uint32_t mask) {
  for (int lane = 0; lane < 32; ++lane)
    for (int other = 0; other < 32; ++other)
      if (mask >> lane & 1 && mask >> other & 1)
        static_cast<Gathered*>(lanes[lane])->all[other] =
            static_cast<const Gathered*>(lanes[other])->value;
}

}  // namespace emu

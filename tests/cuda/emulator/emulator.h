// CUDA C as TVM writes it, on one CPU thread.
//
// Every thread of a block is a fiber. A fiber runs until it waits: at a barrier of its block, or at
// an instruction of its warp (mma, ldmatrix, a shuffle), which the last lane to arrive carries out
// for all. The source goes through `emulate.py` first: each `asm` becomes calls of the functions of
// these names in `ptx.h`, and shared arrays become places in one block of memory.
#pragma once
#include <math.h>
#include <stdlib.h>

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

namespace emu {

struct Index {
  unsigned x, y, z;
};

// What a fiber knows of itself.
struct Lane {
  Index thread, block;
  unsigned number;  // of the thread in its block
};

extern Lane* self;
extern Index block_size, grid_size;

// What a warp does: for the lanes of `mask`, with the operands of each.
using Op = void (*)(void* const* lanes, uint32_t mask);

constexpr uint32_t whole_warp = 0xFFFFFFFF;

// Carry out `op` once, when all lanes of `mask` have arrived with their operands.
void collective(Op op, void* operands, uint32_t mask = whole_warp);
// Wait for all threads of the block; `site` tells the barriers of a source apart.
void barrier(int site, int line);
// The place of the shared array `site` in the block's memory.
void* shared_array(int site, std::size_t bytes, std::size_t alignment);
void* dynamic_shared(std::size_t alignment);
// Of `bytes` in one array; misaligned or outside of arrays is an error.
void* shared_pointer(uint32_t address, unsigned bytes, unsigned alignment);
void check_alignment(const void* address, unsigned bytes);
uint32_t shared_address(const void* pointer);
[[noreturn]] void trap();
void copy_async(uint32_t target, const void* source, unsigned bytes, unsigned given);
void commit_copies();
void await_copies(unsigned left);

template <class T>
T* shared(int site, std::size_t count, std::size_t alignment) {
  return static_cast<T*>(
      shared_array(site, count * sizeof(T), alignment > alignof(T) ? alignment : alignof(T)));
}

template <class To, class From>
To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "bits are as many as they were");
  To out;
  std::memcpy(&out, &value, sizeof out);
  return out;
}

template <class... P, std::size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
  static_assert((std::is_pointer<P>::value && ...), "arguments of kernels are pointers");
  kernel(*static_cast<P*>(arguments[I])...);
}

template <class... P>
void call(void (*kernel)(P...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<P...>());
}

template <class... P>
constexpr unsigned count(void (*)(P...)) {
  return sizeof...(P);
}

}  // namespace emu

#define EMU_KERNEL(name, threads)                                              \
  extern "C" void emu_##name(void** arguments) { emu::call(name, arguments); } \
  extern "C" const unsigned emu_count_##name = emu::count(name);               \
  extern "C" const unsigned emu_threads_##name = threads;

#define EMULATED 1
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define threadIdx (emu::self->thread)
#define blockIdx (emu::self->block)
#define blockDim (emu::block_size)
#define gridDim (emu::grid_size)
#define __syncthreads() emu::barrier(__COUNTER__, __LINE__)

#include "vectors.h"
// Behind the vectors:
#include "functions.h"
#include "ptx.h"

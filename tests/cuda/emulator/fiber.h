// Switching between stacks, without the operating system.
#pragma once
#include <cstdint>
#include <cstring>

extern "C" void emu_switch(void** save, void* load);

#if defined(__x86_64__)
asm(R"(
  .text
  .globl emu_switch
  .hidden emu_switch
emu_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");
constexpr int saved_words = 8;  // six registers, the address of the first instruction, a pad
constexpr int entry_word = 6;
#elif defined(__aarch64__)
asm(R"(
  .text
  .globl emu_switch
  .hidden emu_switch
emu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
constexpr int saved_words = 20;
constexpr int entry_word = 11;
#else
#error "the emulator switches fibers on x86-64 and aarch64 only"
#endif

// What to load to begin `entry`, which must not return, on an empty stack that ends at `top`.
inline void* begin_fiber(char* top, void (*entry)()) {
  auto end = reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15};
  auto words = reinterpret_cast<void**>(end) - saved_words;
  std::memset(words, 0, saved_words * sizeof(void*));
  words[entry_word] = reinterpret_cast<void*>(entry);
  return words;
}

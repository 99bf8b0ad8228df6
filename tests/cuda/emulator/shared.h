// The shared memory of a block: arrays with canaries around each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace emu {

// Of a block of compute capability 9.0, as are the other limits of this emulator.
constexpr std::size_t static_limit = 48 << 10, shared_limit = 227 << 10;

// Forget all arrays: a launch begins.
void begin_shared(std::size_t dynamic_bytes);
// Give all arrays their pattern: a block begins.
void fill_shared();
// What was written outside of arrays since, in words; empty where nothing was.
std::string overrun();

// Stop the launch, with the reason.
[[noreturn]] void fail(const std::string& why);

}  // namespace emu

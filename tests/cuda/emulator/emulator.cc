// Fibers, warps and blocks: see emulator.h.
#include "emulator.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fiber.h"
#include "shared.h"

namespace emu {

Lane* self;
Index block_size, grid_size;

namespace {

constexpr unsigned warp_size = 32, most_threads = 1024;
constexpr std::size_t stack_bytes = 128 << 10;

using Entry = void (*)(void** arguments);
enum class State { ready, at_barrier, at_collective, returned };

struct Copy {
  uint32_t target;
  const void* source;
  unsigned bytes, given;
};

struct Fiber : Lane {
  State state;
  void* stack_pointer;
  int site, line;
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
};

// An instruction at which lanes wait for others of its mask.
struct Meeting {
  uint32_t mask, arrived;
  Op op;
};

struct Warp {
  void* operands[warp_size];
  std::vector<Meeting> meetings;
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::unique_ptr<char[]> stacks, signal_stack;
unsigned waiting, returned;
Entry entry;
void** arguments;
void* host;
bool backwards, early;
std::string failure;

Fiber* current() { return static_cast<Fiber*>(self); }

void resume(Fiber* next) {
  Fiber* before = current();
  self = next;
  emu_switch(&before->stack_pointer, next->stack_pointer);
}

[[noreturn]] void leave() {
  void* nowhere;
  emu_switch(&nowhere, host);
  std::abort();
}

// Some fiber that can go on: of the same warp first, for its lanes wait for each other.
Fiber* ready() {
  const unsigned count = static_cast<unsigned>(fibers.size()), at = self->number;
  const unsigned first = at / warp_size * warp_size;
  const unsigned size = std::min(warp_size, count - first);
  for (unsigned i = 1; i <= size; ++i) {
    const unsigned step = backwards ? size - i : i;
    Fiber* f = &fibers[first + (at - first + step) % size];
    if (f->state == State::ready) return f;
  }
  for (unsigned i = 1; i <= count; ++i) {
    Fiber* f = &fibers[(at + (backwards ? count - i : i)) % count];
    if (f->state == State::ready) return f;
  }
  return nullptr;
}

[[noreturn]] void fail_stuck() {
  for (const Fiber& f : fibers)
    if (f.state == State::at_collective)
      fail(returned ? "a thread returned while others of its warp wait for it"
                    : "lanes of a warp are at different instructions, and no thread can go on");
  fail("a barrier that not all threads of the block reach");
}

void pause() {
  Fiber* next = ready();
  if (!next) fail_stuck();
  if (next != current()) resume(next);
}

void release_block() {
  if (waiting < fibers.size()) return;
  for (const Fiber& f : fibers)
    if (f.site != fibers[0].site)
      fail("threads of a block wait at different barriers, of lines " +
           std::to_string(std::min(f.line, fibers[0].line)) + " and " +
           std::to_string(std::max(f.line, fibers[0].line)));
  for (Fiber& f : fibers) f.state = State::ready;
  waiting = 0;
}

void run_fiber() {
  entry(arguments);
  current()->state = State::returned;
  if (++returned == fibers.size()) leave();
  Fiber* next = ready();
  if (!next) fail_stuck();
  resume(next);
  std::abort();
}

void carry_out(const Copy& copy) {
  auto target = static_cast<char*>(shared_pointer(copy.target, copy.bytes, copy.bytes));
  if (copy.given) std::memcpy(target, copy.source, copy.given);
  std::memset(target + copy.given, 0, copy.bytes - copy.given);
}

void begin_block(Index block) {
  const Index size = block_size;
  for (Warp& warp : warps) warp.meetings.clear();
  for (unsigned i = 0; i < fibers.size(); ++i) {
    Fiber& f = fibers[i];
    f.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    f.block = block;
    f.number = i;
    f.state = State::ready;
    f.open.clear();
    f.groups.clear();
    f.stack_pointer = begin_fiber(&stacks[(i + 1) * stack_bytes], run_fiber);
  }
  fill_shared();
  waiting = returned = 0;
}

bool run_block(Index block) {
  begin_block(block);
  self = &fibers[backwards ? fibers.size() - 1 : 0];
  emu_switch(&host, current()->stack_pointer);
  if (failure.empty()) {
    failure = overrun();
    if (!failure.empty())
      failure += " (block " + std::to_string(block.x) + "," + std::to_string(block.y) + "," +
                 std::to_string(block.z) + ")";
  }
  self = nullptr;
  return failure.empty();
}

void on_signal(int signal, siginfo_t* info, void*) {
  if (!self) {  // of some other code
    ::signal(signal, SIG_DFL);
    return;
  }
  if (signal == SIGFPE) fail("an integer division by zero, or one that overflows");
  if (signal == SIGILL || signal == SIGTRAP) fail("an access that is not aligned to its size");
  char text[64];
  std::snprintf(text, sizeof text, "an access to %p, which is no memory", info->si_addr);
  fail(text);
}

// Signals of kernels, on a stack of their own, while a launch runs.
class Signals {
 public:
  Signals() {
    if (!signal_stack) signal_stack.reset(new char[size]);
    stack_t stack{};
    stack.ss_sp = signal_stack.get();
    stack.ss_size = size;
    sigaltstack(&stack, &stack_before_);
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < count; ++i) sigaction(kinds[i], &action, &before_[i]);
  }
  ~Signals() {
    for (int i = 0; i < count; ++i) sigaction(kinds[i], &before_[i], nullptr);
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr std::size_t size = 64 << 10;
  static constexpr int kinds[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}, count = 5;
  stack_t stack_before_{};
  struct sigaction before_[count];
};
constexpr int Signals::kinds[];

const char* refused(unsigned bound, std::size_t shared) {
  const Index g = grid_size, b = block_size;
  if (!g.x || !g.y || !g.z || !b.x || !b.y || !b.z) return "a launch without threads";
  if (g.x > 0x7FFFFFFF || g.y > 65535 || g.z > 65535) return "a grid that is too large";
  const std::size_t threads = std::size_t{b.x} * b.y * b.z;
  if (threads > most_threads || b.z > 64) return "more than 1024 threads in a block";
  if (bound && threads > bound) return "more threads than the kernel's launch bounds allow";
  if (shared > shared_limit) return "more shared memory than a block has";
  return nullptr;
}

Index block_of(std::size_t i) {
  const std::size_t x = grid_size.x, y = grid_size.y;
  return {static_cast<unsigned>(i % x), static_cast<unsigned>(i / x % y),
          static_cast<unsigned>(i / (x * y))};
}

void run_grid() {
  const std::size_t count = std::size_t{grid_size.x} * grid_size.y * grid_size.z;
  for (std::size_t i = 0; i < count; ++i)
    if (!run_block(block_of(backwards ? count - 1 - i : i))) return;
}

}  // namespace

void fail(const std::string& why) {
  const Index t = self->thread, b = self->block;
  char where[128];
  std::snprintf(where, sizeof where, " (block %u,%u,%u thread %u,%u,%u)", b.x, b.y, b.z, t.x, t.y,
                t.z);
  failure = why + where;
  leave();
}

void collective(Op op, void* operands, uint32_t mask) {
  Fiber* me = current();
  const unsigned lane = me->number % warp_size, first = me->number - lane;
  Warp& warp = warps[me->number / warp_size];
  const uint64_t there = (uint64_t{1} << std::min<std::size_t>(fibers.size() - first, 32)) - 1;
  if (!(mask >> lane & 1)) fail("a lane that is not in the mask of its own instruction");
  if (mask & ~there) fail("an instruction of a warp for lanes that it has not");
  auto found = std::find_if(warp.meetings.begin(), warp.meetings.end(),
                            [mask](const Meeting& m) { return m.mask == mask; });
  if (found == warp.meetings.end()) found = warp.meetings.insert(found, Meeting{mask, 0, op});
  if (found->op != op) fail("lanes of a warp are at different instructions");
  warp.operands[lane] = operands;
  found->arrived |= 1u << lane;
  if (found->arrived != mask) {
    me->state = State::at_collective;
    pause();
    return;
  }
  warp.meetings.erase(found);
  op(warp.operands, mask);
  for (unsigned i = 0; i < warp_size; ++i)
    if (mask >> i & 1) fibers[first + i].state = State::ready;
}

void barrier(int site, int line) {
  Fiber* me = current();
  me->site = site;
  me->line = line;
  me->state = State::at_barrier;
  ++waiting;
  release_block();
  if (me->state != State::ready) pause();
}

void check_alignment(const void* address, unsigned bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes)
    fail("an address that is not aligned to " + std::to_string(bytes) + " bytes");
}

void trap() { fail("a trap"); }

void copy_async(uint32_t target, const void* source, unsigned bytes, unsigned given) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fail("an asynchronous copy of a size that is none");
  if (given > bytes) fail("an asynchronous copy that is given more bytes than it copies");
  if (target % bytes || (given && reinterpret_cast<uintptr_t>(source) % bytes))
    fail("an asynchronous copy at an address that is no multiple of its size");
  const Copy copy{target, source, bytes, given};
  if (early) carry_out(copy);
  current()->open.push_back(copy);
}

void commit_copies() {
  current()->groups.push_back(std::move(current()->open));
  current()->open.clear();
}

void await_copies(unsigned left) {
  auto& groups = current()->groups;
  for (; groups.size() > left; groups.pop_front())
    if (!early)
      for (const Copy& copy : groups.front()) carry_out(copy);
}

}  // namespace emu

// Run a kernel; nullptr, or what went wrong. With `order` 1 threads and blocks run backwards; with
// `when` 1 asynchronous copies are carried out at once, with 0 as late as allowed. Results must not
// depend on either.
extern "C" const char* emu_launch(emu::Entry kernel, unsigned bound, const unsigned* grid,
                                  const unsigned* block, unsigned shared, void** parameters,
                                  int order, int when) {
  using namespace emu;
  static std::mutex alone;
  std::lock_guard<std::mutex> hold(alone);
  grid_size = {grid[0], grid[1], grid[2]};
  block_size = {block[0], block[1], block[2]};
  if (const char* why = refused(bound, shared)) return why;
  const std::size_t threads = std::size_t{block[0]} * block[1] * block[2];
  if (!stacks) stacks.reset(new char[most_threads * stack_bytes]);
  fibers.resize(threads);
  warps.resize((threads + warp_size - 1) / warp_size);
  entry = kernel;
  arguments = parameters;
  backwards = order;
  early = when;
  failure.clear();
  begin_shared(shared);
  {
    Signals signals;
    run_grid();
  }
  return failure.empty() ? nullptr : failure.c_str();
}

// What the stand-in for a driver knows: devices, contexts, memory, streams, modules.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

using Status = int;
using Address = uint64_t;
using Entry = void (*)(void**);

enum : Status {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  no_device = 100,
  invalid_device = 101,
  invalid_image = 200,
  invalid_context = 201,
  no_binary_for_gpu = 209,
  invalid_ptx = 218,
  invalid_handle = 400,
  not_found = 500,
  not_ready = 600,
  illegal_address = 700,
  misaligned_address = 716,
  launch_failed = 719,
};

// Of the environment, when the driver is initialized: see `standin.py`.
struct Settings {
  Status init = success;
  int devices = 1, version = 12040, capability = 90, other = 0;
  std::size_t memory = std::size_t{1} << 30;
  unsigned seed = 0;
  bool late = false, backwards = false, early = false;
};

struct Context;
struct Stream;

struct Allocation {
  std::size_t size;
  Context* context;
  unsigned char* whole;  // guards around it included
};

struct Event {
  Context* context;
  Stream* stream = nullptr;
  uint64_t recorded = 0, reached = 0;  // how often
  std::chrono::steady_clock::time_point time;
};

// Work of a stream. It waits for `event` to be reached `count` times.
struct Work {
  std::function<Status()> run;
  Event* event = nullptr;
  uint64_t count = 0;
};

struct Stream {
  Context* context;
  std::deque<Work> queue;
};

struct Context {
  explicit Context(int number) : device(number) {}
  int device, users = 0;
  std::size_t used = 0;
  Status lost = success;  // what all calls return from then on
  std::set<Stream*> streams;
  Stream default_stream{this, {}};
};

struct Module {
  Context* context;
  void* library;  // null where it is unloaded
};

struct Function {
  Context* context;
  Module* module;
  Entry entry;
  unsigned parameters, threads;
  unsigned dynamic_limit = 48 << 10;
};

struct Launch {
  Function* function;
  unsigned grid[3], block[3], shared;
  std::vector<uint64_t> arguments;
};

struct Driver {
  Settings settings;
  bool initialized = false;
  int first = 0;  // the number of the first device: another one whenever settings change
  std::map<int, Context*> contexts;  // by number; those of earlier settings stay
  std::map<Address, Allocation> memory;
  std::map<void*, std::size_t> pinned;
  std::mt19937 random;
};

extern Driver driver;
extern thread_local std::vector<Context*> current;

// Ten times the major number and the minor one of a device.
int capability_of(int device);
// The context of the calling thread; a status where it has none, or one that is lost.
Status use_context(Context** context);
// The allocation in which an address lies; null where there is none.
const Allocation* allocation_of(Address address, std::size_t size);
// Whether `size` bytes at an address lie in one allocation of a context.
bool inside(const Context* context, Address address, std::size_t size);
// A stream, or without one the default one; a status where it is another context's.
Status use_stream(Context* context, Stream** stream);
// Put work at the end of a stream, and do it where nothing is to be late.
Status enqueue(Context* context, Stream* stream, std::function<Status()> run);
Status run_kernel(Context* context, const Launch& launch);
Status check_launch(const Launch& launch);

#define API extern "C" __attribute__((visibility("default"))) Status

// A CUDA driver whose devices are this CPU: contexts, memory, streams, events.
//
// Memory of a device is memory of the host between guards, filled with a pattern. A stream does its
// work at once, or, where that is asked for, as late as it may. What belongs to a context is refused
// in another one: streams, events, modules and graphs as CUDA refuses them, addresses also where
// CUDA would find out whose they are, as nothing here means to use another device's.
#include <cstdio>
#include <cstdlib>
#include <cstring>

Driver driver;
thread_local std::vector<Context*> current;

namespace {

constexpr std::size_t guard = 256;
constexpr unsigned char canary = 0xC3, poison = 0xA5;
constexpr int most_shared = 227 << 10;

Settings read_settings() {
  Settings s;
  const char* text = std::getenv("CUDA_STANDIN");
  std::string words = text ? text : "";
  for (char& c : words)
    if (c == ',') c = ' ';
  std::size_t at = 0;
  while (at < words.size()) {
    char name[32];
    long long value = 0;
    int read = 0;
    if (std::sscanf(words.c_str() + at, " %31[a-z]=%lld%n", name, &value, &read) != 2) break;
    at += read;
    const std::string n = name;
    if (n == "init") s.init = static_cast<Status>(value);
    if (n == "devices") s.devices = static_cast<int>(value);
    if (n == "version") s.version = static_cast<int>(value);
    if (n == "capability") s.capability = static_cast<int>(value);
    if (n == "other") s.other = static_cast<int>(value);
    if (n == "memory") s.memory = static_cast<std::size_t>(value);
    if (n == "seed") s.seed = static_cast<unsigned>(value);
    if (n == "late") s.late = value;
    if (n == "backwards") s.backwards = value;
    if (n == "early") s.early = value;
  }
  return s;
}

bool guards_are_whole(const Allocation& a) {
  for (std::size_t i = 0; i < guard; ++i)
    if (a.whole[i] != canary || a.whole[guard + a.size + i] != canary) return false;
  return true;
}

Status lose(Context* context, Status why, const char* text) {
  std::fprintf(stderr, "the emulated device: %s\n", text);
  return context->lost = why;
}

Status advance(Stream* stream);

// Do the work of other streams up to a place in them.
Status reach(Event* event, uint64_t count) {
  while (event->reached < count)
    if (Status status = advance(event->stream)) return status;
  return success;
}

// Do the first work of a stream.
Status advance(Stream* stream) {
  Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (work.event)
    if (Status status = reach(work.event, work.count)) return status;
  return work.run ? work.run() : success;
}

Status drain(Stream* stream) {
  while (!stream->queue.empty())
    if (Status status = advance(stream)) return status;
  return success;
}

Status drain_all(Context* context) {
  Status first = drain(&context->default_stream);
  for (Stream* stream : context->streams)
    if (Status status = drain(stream)) first = first ? first : status;
  return first;
}

Status add(Stream* stream, Work work) {
  stream->queue.push_back(std::move(work));
  return driver.settings.late ? success : drain(stream);
}

}  // namespace

#define USE_CONTEXT                                        \
  Context* context = nullptr;                              \
  if (Status status = use_context(&context)) return status;

Status use_context(Context** context) {
  if (!driver.initialized) return not_initialized;
  if (current.empty()) return invalid_context;
  *context = current.back();
  return (*context)->lost;
}

int capability_of(int device) {
  const Settings& s = driver.settings;
  return s.other && device > driver.first ? s.other : s.capability;
}

const Allocation* allocation_of(Address address, std::size_t size) {
  auto above = driver.memory.upper_bound(address);
  if (above == driver.memory.begin()) return nullptr;
  const auto& [start, allocation] = *--above;
  return address + size <= start + allocation.size ? &allocation : nullptr;
}

bool inside(const Context* context, Address address, std::size_t size) {
  const Allocation* found = allocation_of(address, size);
  return found && found->context == context;
}

Status use_stream(Context* context, Stream** stream) {
  if (!*stream) *stream = &context->default_stream;
  const bool own = *stream == &context->default_stream || context->streams.count(*stream);
  return own ? success : invalid_handle;
}

Status enqueue(Context* context, Stream* stream, std::function<Status()> run) {
  if (Status status = use_stream(context, &stream)) return status;
  return add(stream, {std::move(run)});
}

API cuInit(unsigned) {
  driver.initialized = false;
  driver.settings = read_settings();
  if (driver.settings.init) return driver.settings.init;
  if (driver.settings.devices < 1) return no_device;
  driver.first += 100;
  for (int i = 0; i < driver.settings.devices; ++i)
    driver.contexts[driver.first + i] = new Context(driver.first + i);
  driver.random.seed(driver.settings.seed);
  driver.initialized = true;
  return success;
}
API cuDriverGetVersion(int* version) { return *version = read_settings().version, success; }

API cuGetErrorName(Status status, const char** text) {
  static const std::map<Status, const char*> names = {
      {invalid_value, "CUDA_ERROR_INVALID_VALUE"},
      {out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY"},
      {not_initialized, "CUDA_ERROR_NOT_INITIALIZED"},
      {no_device, "CUDA_ERROR_NO_DEVICE"},
      {invalid_image, "CUDA_ERROR_INVALID_IMAGE"},
      {invalid_context, "CUDA_ERROR_INVALID_CONTEXT"},
      {no_binary_for_gpu, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
      {invalid_ptx, "CUDA_ERROR_INVALID_PTX"},
      {invalid_handle, "CUDA_ERROR_INVALID_HANDLE"},
      {not_found, "CUDA_ERROR_NOT_FOUND"},
      {not_ready, "CUDA_ERROR_NOT_READY"},
      {illegal_address, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {misaligned_address, "CUDA_ERROR_MISALIGNED_ADDRESS"},
      {launch_failed, "CUDA_ERROR_LAUNCH_FAILED"},
  };
  const auto found = names.find(status);
  *text = found == names.end() ? nullptr : found->second;
  return *text ? success : invalid_value;
}
API cuGetErrorString(Status status, const char** text) {
  *text = status == illegal_address ? "an illegal memory access was encountered"
                                    : "a failure of the stand-in";
  return success;
}

API cuDeviceGetCount(int* count) {
  if (!driver.initialized) return not_initialized;
  return *count = driver.settings.devices, success;
}
API cuDeviceGet(int* device, int index) {
  if (index < 0 || index >= driver.settings.devices) return invalid_device;
  return *device = driver.first + index, success;
}
API cuDeviceGetName(char* name, int size, int device) {
  if (!driver.contexts.count(device)) return invalid_device;
  std::snprintf(name, size, "Emulated GPU %d", device - driver.first);
  return success;
}
API cuDeviceTotalMem_v2(std::size_t* size, int device) {
  if (!driver.contexts.count(device)) return invalid_device;
  return *size = driver.settings.memory, success;
}
API cuDeviceGetAttribute(int* value, int which, int device) {
  if (!driver.contexts.count(device)) return invalid_device;
  static const std::map<int, int> fixed = {{13, 1980000}, {16, 132},     {36, 2619000},
                                           {37, 5120},    {38, 50 << 20}, {82, 65536},
                                           {97, most_shared}};
  if (which == 75) return *value = capability_of(device) / 10, success;
  if (which == 76) return *value = capability_of(device) % 10, success;
  const auto found = fixed.find(which);
  if (found == fixed.end()) return invalid_value;
  return *value = found->second, success;
}

API cuDevicePrimaryCtxRetain(Context** context, int device) {
  if (!driver.contexts.count(device)) return invalid_device;
  *context = driver.contexts[device];
  ++(*context)->users;
  return success;
}
API cuDevicePrimaryCtxRelease_v2(int device) {
  if (!driver.contexts.count(device)) return invalid_device;
  return --driver.contexts[device]->users < 0 ? invalid_context : success;
}
API cuCtxPushCurrent_v2(Context* context) {
  if (!context->users) return invalid_context;
  return current.push_back(context), success;
}
API cuCtxPopCurrent_v2(Context** context) {
  if (current.empty()) return invalid_context;
  *context = current.back();
  return current.pop_back(), success;
}
API cuCtxSynchronize() {
  USE_CONTEXT
  return drain_all(context);
}

API cuMemGetInfo_v2(std::size_t* available, std::size_t* total) {
  USE_CONTEXT
  *total = driver.settings.memory;
  *available = *total - context->used;
  return success;
}
API cuMemAlloc_v2(Address* address, std::size_t size) {
  USE_CONTEXT
  if (!size) return invalid_value;
  if (size > driver.settings.memory - context->used) return out_of_memory;
  const std::size_t all = (size + 2 * guard + 255) / 256 * 256;
  auto whole = static_cast<unsigned char*>(std::aligned_alloc(256, all));
  if (!whole) return out_of_memory;
  std::memset(whole, canary, all);
  std::memset(whole + guard, poison, size);
  *address = reinterpret_cast<Address>(whole + guard);
  driver.memory[*address] = {size, context, whole};
  context->used += size;
  return success;
}
API cuMemFree_v2(Address address) {
  USE_CONTEXT
  const auto found = driver.memory.find(address);
  if (found == driver.memory.end() || found->second.context != context) return invalid_value;
  if (Status status = drain_all(context)) return status;
  const Allocation a = found->second;
  const bool whole = guards_are_whole(a);
  driver.memory.erase(found);
  context->used -= a.size;
  std::memset(a.whole, poison, a.size);
  std::free(a.whole);
  return whole ? success : lose(context, illegal_address, "something wrote around memory");
}
API cuMemAllocHost_v2(void** place, std::size_t size) {
  USE_CONTEXT
  if (size > driver.settings.memory) return out_of_memory;
  *place = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  std::memset(*place, poison, size);
  driver.pinned[*place] = size;
  return success;
}
API cuMemFreeHost(void* place) {
  USE_CONTEXT
  if (!driver.pinned.erase(place)) return invalid_value;
  // Nothing says that it waits for copies, nor that unloading a module waits for its kernels.
  return std::free(place), success;
}

API cuMemcpyHtoDAsync_v2(Address target, const void* source, std::size_t size, Stream* stream) {
  USE_CONTEXT
  if (!inside(context, target, size)) return invalid_value;
  return enqueue(context, stream, [=] {
    return std::memcpy(reinterpret_cast<void*>(target), source, size), success;
  });
}
API cuMemcpyDtoHAsync_v2(void* target, Address source, std::size_t size, Stream* stream) {
  USE_CONTEXT
  if (!inside(context, source, size)) return invalid_value;
  return enqueue(context, stream, [=] {
    return std::memcpy(target, reinterpret_cast<void*>(source), size), success;
  });
}
API cuMemcpyDtoDAsync_v2(Address target, Address source, std::size_t size, Stream* stream) {
  USE_CONTEXT
  if (!inside(context, source, size) || !inside(context, target, size)) return invalid_value;
  return cuMemcpyHtoDAsync_v2(target, reinterpret_cast<void*>(source), size, stream);
}
API cuMemsetD8Async(Address target, unsigned char value, std::size_t size, Stream* stream) {
  USE_CONTEXT
  if (!inside(context, target, size)) return invalid_value;
  return enqueue(context, stream, [=] {
    return std::memset(reinterpret_cast<void*>(target), value, size), success;
  });
}

API cuStreamCreate(Stream** stream, unsigned) {
  USE_CONTEXT
  *stream = new Stream{context, {}};
  context->streams.insert(*stream);
  return success;
}
API cuStreamDestroy_v2(Stream* stream) {
  USE_CONTEXT
  if (!context->streams.count(stream)) return invalid_handle;
  const Status status = drain(stream);
  context->streams.erase(stream);
  return delete stream, status;
}
API cuStreamSynchronize(Stream* stream) {
  USE_CONTEXT
  if (Status status = use_stream(context, &stream)) return status;
  const Status status = drain(stream);
  return status ? status : context->lost;
}
API cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
  USE_CONTEXT
  // An event of another device may be waited for.
  if (Status status = use_stream(context, &stream)) return status;
  return add(stream, {nullptr, event, event->recorded});
}

API cuEventCreate(Event** event, unsigned) {
  USE_CONTEXT
  return *event = new Event{context}, success;
}
API cuEventDestroy_v2(Event* event) {
  USE_CONTEXT
  if (event->context != context) return invalid_handle;
  if (Status status = reach(event, event->recorded)) return status;
  // Streams may still have to wait for it, which is over now.
  auto forget = [event](Stream* stream) {
    for (Work& work : stream->queue)
      if (work.event == event) work.event = nullptr;
  };
  for (const auto& [number, other] : driver.contexts) {
    forget(&other->default_stream);
    for (Stream* stream : other->streams) forget(stream);
  }
  return delete event, success;
}
API cuEventRecord(Event* event, Stream* stream) {
  USE_CONTEXT
  if (Status status = use_stream(context, &stream)) return status;
  if (event->context != context) return invalid_handle;
  event->stream = stream;
  ++event->recorded;
  return enqueue(context, stream, [event] {
    ++event->reached;
    return event->time = std::chrono::steady_clock::now(), success;
  });
}
API cuEventSynchronize(Event* event) {
  USE_CONTEXT
  return reach(event, event->recorded);
}
API cuEventElapsedTime(float* milliseconds, Event* first, Event* second) {
  USE_CONTEXT
  if (!first->recorded || !second->recorded) return invalid_handle;
  if (first->reached < first->recorded || second->reached < second->recorded) return not_ready;
  *milliseconds = std::chrono::duration<float, std::milli>(second->time - first->time).count();
  return success;
}

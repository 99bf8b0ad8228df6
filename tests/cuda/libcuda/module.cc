// Modules of the stand-in, and their kernels, which run in the emulator.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>

extern "C" const char* emu_launch(Entry kernel, unsigned bound, const unsigned* grid,
                                  const unsigned* block, unsigned shared, void** parameters,
                                  int order, int when);

Status check_launch(const Launch& launch) {
  std::size_t threads = 1;
  for (int i = 0; i < 3; ++i) {
    if (!launch.grid[i] || !launch.block[i]) return invalid_value;
    threads *= launch.block[i];
  }
  const std::size_t bound = launch.function->threads ? launch.function->threads : 1024;
  if (threads > bound || launch.shared > launch.function->dynamic_limit) return invalid_value;
  return success;
}

Status run_kernel(Context* context, const Launch& launch) {
  if (context->lost) return context->lost;
  if (!launch.function->module->library)
    return lose(context, launch_failed, "a kernel whose module is unloaded");
  std::vector<uint64_t> values = launch.arguments;
  for (uint64_t value : values)
    if (const Allocation* found = allocation_of(value, 0); found && found->context != context)
      return lose(context, illegal_address, "a kernel was given memory of another device");
  std::vector<void*> places;
  for (uint64_t& value : values) places.push_back(&value);
  const char* error = emu_launch(launch.function->entry, launch.function->threads, launch.grid,
                                 launch.block, launch.shared, places.data(),
                                 driver.settings.backwards, driver.settings.early);
  if (error) {
    const std::string text = error;
    if (text.find("no memory") != text.npos) return lose(context, illegal_address, error);
    const bool aligned = text.find("aligned") == text.npos && text.find("multiple") == text.npos;
    return lose(context, aligned ? launch_failed : misaligned_address, error);
  }
  for (const auto& [address, allocation] : driver.memory)
    if (allocation.context == context && !guards_are_whole(allocation))
      return lose(context, illegal_address, "a kernel wrote around its memory");
  return success;
}

// An image is a path behind "emulated:", or behind "emulated@90:" for devices of that capability.
API cuModuleLoadData(Module** module, const char* image) {
  USE_CONTEXT
  const int here = capability_of(context->device);
  int capability = here, path = 0;
  if (!std::strncmp(image, ".version", 8)) return invalid_ptx;
  std::sscanf(image, "emulated:%n", &path);
  if (!path) std::sscanf(image, "emulated@%d:%n", &capability, &path);
  if (!path) return invalid_image;
  if (capability != here) return no_binary_for_gpu;
  void* library = dlopen(image + path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return std::fprintf(stderr, "%s\n", dlerror()), invalid_image;
  return *module = new Module{context, library}, success;
}
API cuModuleUnload(Module* module) {
  USE_CONTEXT
  if (!module->library || module->context != context) return invalid_handle;
  dlclose(module->library);
  return module->library = nullptr, success;
}
API cuModuleGetFunction(Function** function, Module* module, const char* name) {
  USE_CONTEXT
  if (module->context != context) return invalid_handle;
  const auto symbol = [&](const char* kind) {
    return dlsym(module->library, ("emu_" + (kind + std::string(name))).c_str());
  };
  void *entry = symbol(""), *count = symbol("count_"), *threads = symbol("threads_");
  if (!entry || !count || !threads) return not_found;
  *function = new Function{context, module, reinterpret_cast<Entry>(entry),
                           *static_cast<unsigned*>(count), *static_cast<unsigned*>(threads)};
  return success;
}
API cuFuncGetAttribute(int* value, int which, Function* function) {
  USE_CONTEXT
  if (function->context != context) return invalid_handle;
  const unsigned threads = function->threads ? function->threads : 1024;
  const std::map<int, unsigned> known = {
      {0, threads}, {1, 0}, {3, 0}, {4, 32}, {8, function->dynamic_limit}};
  const auto found = known.find(which);
  if (found == known.end()) return invalid_value;
  return *value = static_cast<int>(found->second), success;
}
API cuFuncSetAttribute(Function* function, int which, int value) {
  USE_CONTEXT
  if (function->context != context) return invalid_handle;
  if (which != 8 || value < 0 || value > most_shared) return invalid_value;
  return function->dynamic_limit = static_cast<unsigned>(value), success;
}
API cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned shared, Stream* stream, void** parameters,
                   void** extra) {
  USE_CONTEXT
  if (extra) return invalid_value;
  if (function->context != context) return invalid_handle;
  Launch launch{function, {gx, gy, gz}, {bx, by, bz}, shared, {}};
  for (unsigned i = 0; i < function->parameters; ++i)
    launch.arguments.push_back(*static_cast<uint64_t*>(parameters[i]));
  if (Status status = check_launch(launch)) return status;
  return enqueue(context, stream, [=] { return run_kernel(context, launch); });
}

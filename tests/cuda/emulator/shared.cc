// Shared memory: see shared.h.
#include "shared.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "emulator.h"

namespace emu {

namespace {

constexpr unsigned char poison = 0xA5, canary = 0xC3;
constexpr std::size_t gap = 64, space = 1 << 20;

struct Array {
  int site;
  std::size_t at, bytes;
};

alignas(4096) unsigned char memory[space];
std::vector<Array> arrays;
std::size_t static_bytes, dynamic_bytes, used;
constexpr int dynamic_site = -1;

// At the alignment that it was promised and at no better one, so that luck shows nothing.
void* place(int site, std::size_t bytes, std::size_t alignment) {
  const std::size_t twice = 2 * alignment;
  const std::size_t at = (used + gap + twice - 1) / twice * twice + alignment;
  if (at + bytes + gap > space) fail("more shared memory than a block has");
  std::memset(memory + used, canary, at - used);
  std::memset(memory + at, poison, bytes);
  used = at + bytes;
  std::memset(memory + used, canary, gap);
  arrays.push_back({site, at, bytes});
  return memory + at;
}

}  // namespace

void begin_shared(std::size_t dynamic) {
  arrays.clear();
  used = static_bytes = 0;
  dynamic_bytes = dynamic;
}

void fill_shared() {
  for (const Array& array : arrays) std::memset(memory + array.at, poison, array.bytes);
}

std::string overrun() {
  std::size_t at = 0;
  const auto clean = [&at](std::size_t end) {
    while (at < end && memory[at] == canary) ++at;
    return at >= end;
  };
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (!clean(arrays[i].at))
      return "a write outside of the shared arrays, " + std::to_string(arrays[i].at - at) +
             " bytes ahead of one of " + std::to_string(arrays[i].bytes) + " bytes";
    at = arrays[i].at + arrays[i].bytes;
  }
  if (arrays.empty() || clean(at + gap)) return {};
  return "a write outside of the shared arrays, behind the last of them, which has " +
         std::to_string(arrays.back().bytes) + " bytes";
}

void* shared_array(int site, std::size_t bytes, std::size_t alignment) {
  for (const Array& array : arrays)
    if (array.site == site) return memory + array.at;
  if (site != dynamic_site) {
    static_bytes += bytes;
    if (static_bytes > static_limit) fail("more than 48 KiB of static shared memory");
  }
  if (static_bytes + dynamic_bytes > shared_limit) fail("more shared memory than a block has");
  return place(site, bytes, alignment);
}

void* dynamic_shared(std::size_t alignment) {
  return shared_array(dynamic_site, dynamic_bytes, std::max<std::size_t>(alignment, 16));
}

void* shared_pointer(uint32_t address, unsigned bytes, unsigned alignment) {
  if (address % alignment)
    fail("an address of shared memory that is not aligned to " + std::to_string(alignment) +
         " bytes");
  for (const Array& array : arrays)
    if (address >= array.at && address + std::size_t{bytes} <= array.at + array.bytes)
      return memory + address;
  fail("an address outside of the block's shared arrays");
}

uint32_t shared_address(const void* pointer) {
  const auto at = static_cast<const unsigned char*>(pointer) - memory;
  if (at < 0 || at >= static_cast<std::ptrdiff_t>(space))
    fail("a pointer that is none to shared memory");
  return static_cast<uint32_t>(at);
}

}  // namespace emu

// CUDA's names of numbers; its NaN of f32 has all bits but the sign.
#pragma once
#include <limits>

#include "../emulator.h"

#define CUDART_INF_F (std::numeric_limits<float>::infinity())
#define CUDART_NAN_F (emu::bits<float>(0x7FFFFFFF))
#define CUDART_INF (std::numeric_limits<double>::infinity())
#define CUDART_NAN (emu::bits<double>(uint64_t{0xFFF8} << 48))
#define CUDART_PI_F 3.141592654f
#define CUDART_PI 3.1415926535897931e+0

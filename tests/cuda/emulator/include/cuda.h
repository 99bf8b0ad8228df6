// Kernels take nothing from it.
#pragma once

"""What this target uses of CUDA's driver API: functions, structures and numbers of ``cuda.h``.

All of it is in CUDA 12.0 and later. ``cuda.h`` maps a name of the manual to the symbol with ``_v2``
where there is one; the symbol of the name itself then has an older meaning.
"""

from __future__ import annotations

from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_ubyte,
    c_uint,
    c_uint64,
    c_ulonglong,
    c_void_p,
)
from enum import IntEnum
from typing import Any

HANDLE, ADDRESS, SIZE = c_void_p, c_uint64, c_size_t


class KernelNodeParams(Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2."""

    _fields_ = (
        ("func", HANDLE),
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared_bytes", c_uint),
        ("kernel_params", POINTER(c_void_p)),
        ("extra", c_void_p),
        ("kern", HANDLE),
        ("ctx", HANDLE),
    )


class MemsetNodeParams(Structure):
    """CUDA_MEMSET_NODE_PARAMS_v1; ``width`` counts elements, and one row needs no pitch."""

    _fields_ = (
        ("dst", ADDRESS),
        ("pitch", SIZE),
        ("value", c_uint),
        ("element_size", c_uint),
        ("width", SIZE),
        ("height", SIZE),
    )


class CopyEnd(Structure):
    """Either half of CUDA_MEMCPY3D_v2: where bytes come from or go to."""

    _fields_ = (
        ("x_in_bytes", SIZE),
        ("y", SIZE),
        ("z", SIZE),
        ("lod", SIZE),
        ("memory_type", c_uint),
        ("host", c_void_p),
        ("device", ADDRESS),
        ("array", HANDLE),
        ("reserved", c_void_p),
        ("pitch", SIZE),
        ("height", SIZE),
    )


class CopyParams(Structure):
    """CUDA_MEMCPY3D_v2; one row needs no pitch."""

    _fields_ = (
        ("source", CopyEnd),
        ("target", CopyEnd),
        ("width_in_bytes", SIZE),
        ("height", SIZE),
        ("depth", SIZE),
    )


MEMORYTYPE_DEVICE = 2
STREAM_NON_BLOCKING = 1
EVENT_DISABLE_TIMING = 2


class Status(IntEnum):
    """Those of CUresult that are told apart."""

    SUCCESS = 0
    OUT_OF_MEMORY = 2
    NOT_INITIALIZED = 3
    NO_DEVICE = 100
    INVALID_IMAGE = 200
    NO_BINARY_FOR_GPU = 209
    INVALID_PTX = 218
    UNSUPPORTED_PTX_VERSION = 222
    NOT_FOUND = 500
    SYSTEM_DRIVER_MISMATCH = 803


# Behind each of them all calls fail, as long as the process lives.
LOST = frozenset({226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 911})
FOREIGN_IMAGE = frozenset({200, 209, 218, 222})


class DeviceAttribute(IntEnum):
    """CU_DEVICE_ATTRIBUTE_..."""

    CLOCK_RATE = 13  # kHz
    MULTIPROCESSOR_COUNT = 16
    MEMORY_CLOCK_RATE = 36  # kHz
    GLOBAL_MEMORY_BUS_WIDTH = 37  # bits
    L2_CACHE_SIZE = 38
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76
    MAX_REGISTERS_PER_MULTIPROCESSOR = 82
    MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97


class FunctionAttribute(IntEnum):
    """CU_FUNC_ATTRIBUTE_..."""

    MAX_THREADS_PER_BLOCK = 0
    SHARED_SIZE_BYTES = 1
    LOCAL_SIZE_BYTES = 3
    NUM_REGS = 4
    MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


_OUT_HANDLE, _OUT_INT, _OUT_SIZE = POINTER(HANDLE), POINTER(c_int), POINTER(SIZE)
_OUT_ADDRESS, _OUT_TEXT = POINTER(ADDRESS), POINTER(c_char_p)
# A new node, its graph, and the nodes that it waits for with their number.
_NODE = (_OUT_HANDLE, HANDLE, POINTER(HANDLE), SIZE)

# CUresult of each; Any stands for ctypes' metatype, which has no public name.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, _OUT_TEXT),
    "cuGetErrorString": (c_int, _OUT_TEXT),
    "cuDeviceGetCount": (_OUT_INT,),
    "cuDeviceGet": (_OUT_INT, c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceTotalMem_v2": (_OUT_SIZE, c_int),
    "cuDeviceGetAttribute": (_OUT_INT, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (_OUT_HANDLE, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxPushCurrent_v2": (HANDLE,),
    "cuCtxPopCurrent_v2": (_OUT_HANDLE,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (_OUT_SIZE, _OUT_SIZE),
    "cuMemAlloc_v2": (_OUT_ADDRESS, SIZE),
    "cuMemFree_v2": (ADDRESS,),
    "cuMemAllocHost_v2": (_OUT_HANDLE, SIZE),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (ADDRESS, c_void_p, SIZE, HANDLE),
    "cuMemcpyDtoHAsync_v2": (c_void_p, ADDRESS, SIZE, HANDLE),
    "cuMemcpyDtoDAsync_v2": (ADDRESS, ADDRESS, SIZE, HANDLE),
    "cuMemsetD8Async": (ADDRESS, c_ubyte, SIZE, HANDLE),
    "cuStreamCreate": (_OUT_HANDLE, c_uint),
    "cuStreamDestroy_v2": (HANDLE,),
    "cuStreamSynchronize": (HANDLE,),
    "cuStreamWaitEvent": (HANDLE, HANDLE, c_uint),
    "cuEventCreate": (_OUT_HANDLE, c_uint),
    "cuEventDestroy_v2": (HANDLE,),
    "cuEventRecord": (HANDLE, HANDLE),
    "cuEventSynchronize": (HANDLE,),
    "cuEventElapsedTime": (POINTER(c_float), HANDLE, HANDLE),
    "cuModuleLoadData": (_OUT_HANDLE, c_char_p),
    "cuModuleUnload": (HANDLE,),
    "cuModuleGetFunction": (_OUT_HANDLE, HANDLE, c_char_p),
    "cuFuncGetAttribute": (_OUT_INT, c_int, HANDLE),
    "cuFuncSetAttribute": (HANDLE, c_int, c_int),
    "cuLaunchKernel": (HANDLE, *(c_uint,) * 7, HANDLE, POINTER(c_void_p), POINTER(c_void_p)),
    "cuGraphCreate": (_OUT_HANDLE, c_uint),
    "cuGraphDestroy": (HANDLE,),
    "cuGraphAddKernelNode_v2": (*_NODE, POINTER(KernelNodeParams)),
    "cuGraphAddMemsetNode": (*_NODE, POINTER(MemsetNodeParams), HANDLE),
    "cuGraphAddMemcpyNode": (*_NODE, POINTER(CopyParams), HANDLE),
    "cuGraphInstantiateWithFlags": (_OUT_HANDLE, HANDLE, c_ulonglong),
    "cuGraphExecKernelNodeSetParams_v2": (HANDLE, HANDLE, POINTER(KernelNodeParams)),
    "cuGraphLaunch": (HANDLE, HANDLE),
    "cuGraphExecDestroy": (HANDLE,),
}

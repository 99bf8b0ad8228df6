// Each kernel puts its operands through one kind of instruction. Blocks of one warp.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

__device__ const int table[4] = {3, 1, 4, 1};
__constant__ float halves[2] = {0.5f, 1.5f};

__device__ __forceinline__ unsigned address(const void* place) {
  return (unsigned)__cvta_generic_to_shared(place);
}

__device__ int f(int x) { return table[x & 3] * x; }

extern "C" __global__ void __launch_bounds__(32) functions(const int* x, int* y, float* z) {
  y[threadIdx.x] = f(x[threadIdx.x]);
  z[threadIdx.x] = halves[threadIdx.x & 1];
}

// Eight rows of a matrix for each eight lanes, whole or transposed, loaded and stored again.
#define ROWS                                                                             \
  __shared__ __align__(16) unsigned short rows[32][8];                                   \
  for (int i = 0; i < 8; ++i) rows[threadIdx.x][i] = in[threadIdx.x * 8 + i];            \
  __syncthreads();                                                                       \
  const unsigned row = address(rows[threadIdx.x]);
#define MATRICES unsigned r0 = 0, r1 = 0, r2 = 0, r3 = 0;
#define OUT                                                                              \
  uint4* place = (uint4*)out + threadIdx.x;                                              \
  *place = make_uint4(r0, r1, r2, r3);

extern "C" __global__ void ldmatrix_x4(const unsigned short* in, unsigned* out) {
  ROWS MATRICES
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"(row) : "memory");
  OUT
}
extern "C" __global__ void ldmatrix_x2(const unsigned short* in, unsigned* out) {
  ROWS MATRICES
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r0), "=r"(r1) : "r"(row) : "memory");
  OUT
}
extern "C" __global__ void ldmatrix_x1(const unsigned short* in, unsigned* out) {
  ROWS MATRICES
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared::cta.b16 {%0}, [%1];"
               : "=r"(r0) : "r"(row) : "memory");
  OUT
}
extern "C" __global__ void ldmatrix_x4_trans(const unsigned short* in, unsigned* out) {
  ROWS MATRICES
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"(row) : "memory");
  OUT
}
extern "C" __global__ void ldmatrix_x2_trans(const unsigned short* in, unsigned* out) {
  ROWS MATRICES
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r0), "=r"(r1) : "r"(row) : "memory");
  OUT
}

#define STORED                                                                           \
  __shared__ __align__(16) unsigned short rows[32][8];                                   \
  const uint4 r = ((const uint4*)in)[threadIdx.x];                                       \
  const unsigned row = address(rows[threadIdx.x]);
#define ALL                                                                              \
  __syncthreads();                                                                       \
  for (int i = 0; i < 8; ++i) out[threadIdx.x * 8 + i] = rows[threadIdx.x][i];

extern "C" __global__ void stmatrix_x4(const unsigned* in, unsigned short* out) {
  STORED
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
               : : "r"(row), "r"(r.x), "r"(r.y), "r"(r.z), "r"(r.w) : "memory");
  ALL
}
extern "C" __global__ void stmatrix_x4_trans(const unsigned* in, unsigned short* out) {
  STORED
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
               : : "r"(row), "r"(r.x), "r"(r.y), "r"(r.z), "r"(r.w) : "memory");
  ALL
}

// Each lane copies 16 bytes of shared memory: sizes 4, 8 and 16, whole and with zeros behind.
extern "C" __global__ void copies(const unsigned char* in, unsigned char* out) {
  extern __shared__ __align__(16) unsigned char place[];
  const unsigned mine = address(place + threadIdx.x * 64);
  const unsigned char* from = in + threadIdx.x * 64;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" : : "r"(mine), "l"(from) : "memory");
  asm volatile("cp.async.ca.shared.global [%0+4], [%1 + 4], 4, %2;"
               : : "r"(mine), "l"(from), "r"(threadIdx.x % 5) : "memory");
  asm volatile("cp.async.ca.shared.global.L2::128B [%0+8], [%1+8], 8;"
               : : "r"(mine), "l"(from) : "memory");
  asm volatile("cp.async.commit_group;" : :);
  asm volatile("cp.async.cg.shared.global [%0+16], [%1+16], 16;"
               : : "r"(mine), "l"(from) : "memory");
  asm volatile("cp.async.cg.shared.global [%0+32], [%1+32], 16, %2;"
               : : "r"(mine), "l"(from), "r"(threadIdx.x % 17) : "memory");
  asm volatile("cp.async.commit_group;");
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0;"
               " @p cp.async.ca.shared.global [%0], [%1], 16; }"
               : : "r"(mine + 48), "l"(from + 48), "r"(threadIdx.x % 2) : "memory");
  asm volatile("cp.async.wait_group 1;" : : : "memory");
  for (int i = 0; i < 16; ++i) out[threadIdx.x * 64 + i] = place[threadIdx.x * 64 + i];
  asm volatile("cp.async.wait_group 0;" : : : "memory");
  for (int i = 16; i < 48; ++i) out[threadIdx.x * 64 + i] = place[threadIdx.x * 64 + i];
  asm volatile("cp.async.wait_all;" : : : "memory");
  for (int i = 48; i < 64; ++i)
    out[threadIdx.x * 64 + i] = threadIdx.x % 2 ? place[threadIdx.x * 64 + i] : 0;
}

extern "C" __global__ void bit_operations(const unsigned* a, const unsigned* b, const unsigned* c,
                                          unsigned* out) {
  const int i = threadIdx.x;
  unsigned d;
  asm volatile("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a[i]), "r"(b[i]), "r"(c[i]));
  out[i] = d;
  out[32 + i] = __byte_perm(a[i], b[i], c[i]);
  asm("lop3.b32 %0, %1, %2, %3, 234;" : "=r"(d) : "r"(a[i]), "r"(b[i]), "r"(c[i]));
  out[64 + i] = d;
  asm("lop3.b32 %0, %1, %2, %3, 0x1B;" : "=r"(d) : "r"(a[i]), "r"(b[i]), "r"(c[i]));
  out[96 + i] = d;
  out[128 + i] = __popc(a[i]);
  out[160 + i] = __ffs(a[i] & b[i] & c[i]);
  out[192 + i] = __clz(a[i]);
  out[224 + i] = __brev(a[i]);
  out[256 + i] = __umulhi(a[i], b[i]);
  out[288 + i] = __funnelshift_r(a[i], b[i], c[i]);
}

extern "C" __global__ void dots(const unsigned* a, const unsigned* b, const int* c, int* out) {
  const int i = threadIdx.x;
  int d;
  unsigned u;
  asm volatile("dp4a.s32.s32 %0, %1, %2, %3;"
               : "=r"(d) : "r"((int)a[i]), "r"((int)b[i]), "r"(c[i]));
  out[i] = d;
  asm volatile("dp4a.s32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"((int)a[i]), "r"(b[i]), "r"(c[i]));
  out[32 + i] = d;
  asm volatile("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a[i]), "r"((int)b[i]), "r"(c[i]));
  out[64 + i] = d;
  asm volatile("dp4a.u32.u32 %0, %1, %2, %3;"
               : "=r"(u) : "r"(a[i]), "r"(b[i]), "r"((unsigned)c[i]));
  out[96 + i] = (int)u;
  out[128 + i] = __dp4a((int)a[i], (int)b[i], c[i]);
}

extern "C" __global__ void shuffles(const int* x, const double* y, int* out, double* wide) {
  const int i = threadIdx.x, v = x[i];
  out[i] = __shfl_xor_sync(0xFFFFFFFF, v, 5);
  out[32 + i] = __shfl_down_sync(0xFFFFFFFF, v, 3);
  out[64 + i] = __shfl_sync(0xFFFFFFFF, v, 7);
  out[96 + i] = __shfl_up_sync(0xFFFFFFFF, v, 2);
  out[128 + i] = __shfl_xor_sync(0xFFFFFFFF, v, 1, 8);
  out[160 + i] = __shfl_down_sync(0xFFFFFFFF, v, 3, 8);
  out[192 + i] = (int)__ballot_sync(0xFFFFFFFF, v > 0);
  out[224 + i] = 0;
  // Both halves of a warp at once, each by itself.
  const unsigned half = i < 16 ? 0xFFFFu : 0xFFFF0000u;
  if (i < 16) out[224 + i] = __shfl_xor_sync(half, v, 1) + (int)__ballot_sync(half, v > 0);
  else out[224 + i] = __shfl_xor_sync(half, v, 2);
  __syncwarp();
  wide[i] = __shfl_xor_sync(0xFFFFFFFF, y[i], 16);
}

extern "C" __global__ void atomics(const int* x, int* i, unsigned* u, float* f, double* d) {
  const int v = x[blockIdx.x * 64 + threadIdx.x];
  atomicAdd(i, v);
  atomicAdd(u, (unsigned)v);
  atomicAdd(f, (float)v);
  atomicAdd(d, (double)v);
  asm volatile("red.global.add.u32 [%0], %1;" : : "l"(u + 1), "r"((unsigned)v) : "memory");
  asm volatile("red.global.add.s32 [%0], %1;" : : "l"(i + 1), "r"(v) : "memory");
  atomicMax(i + 2, v);
  atomicMin(i + 3, v);
  atomicOr(u + 2, (unsigned)v);
  __threadfence();
}

extern "C" __global__ void conversions(const float* x, const double* y, int* i, unsigned* u,
                                       unsigned* packed, float* back) {
  const int t = threadIdx.x;
  i[t] = __float2int_rn(x[t]);
  i[32 + t] = __float2int_rz(x[t]);
  i[64 + t] = __float2int_rd(x[t]);
  i[96 + t] = __float2int_ru(x[t]);
  i[128 + t] = __double2int_rn(y[t]);
  u[t] = __float2uint_rn(x[t]);
  asm volatile("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed[t]) : "f"(x[t]), "f"(x[t ^ 1]));
  asm volatile("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed[32 + t]) : "f"(x[t]), "f"(x[t ^ 1]));
  back[t] = __uint_as_float(__float_as_uint(x[t]) ^ 0x80000000u);
  back[32 + t] = fmaxf(x[t], x[t ^ 1]);
  back[64 + t] = min(x[t], x[t ^ 1]);
}

extern "C" __global__ void narrow_floats(const half* x, const nv_bfloat16* y, half* x3,
                                         nv_bfloat16* y3) {
  const int i = threadIdx.x;
  x3[i] = x[i] * x[i] + x[i];
  y3[i] = y[i] * y[i] + y[i];
}

extern "C" __global__ void wide_vectors(const double* x, const long long* y, double* x2,
                                        long long* y2) {
  double2 v = *(const double2*)(x + 2 * threadIdx.x);
  *(double2*)(x2 + 2 * threadIdx.x) = make_double2(v.y, v.x + 1.0);
  longlong2 w = *(const longlong2*)(y + 2 * threadIdx.x);
  *(longlong2*)(y2 + 2 * threadIdx.x) = make_longlong2(w.y * 3, w.x);
}

// Where a thread is: two blocks of 3 x 2 x 5 threads in each of two directions.
__global__ void indices(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * 30 + thread] = 1000 * block + thread;
}

// Vectors of shared and global memory, and cached loads.
extern "C" __global__ void accesses(const unsigned* in, unsigned* out, float* floats) {
  __shared__ __align__(16) unsigned place[32 * 4];
  const unsigned mine = address(place + 4 * threadIdx.x);
  unsigned a, b, c, d;
  float f;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "l"(in + 4 * threadIdx.x) : "memory");
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};"
               : : "r"(mine), "r"(d), "r"(c), "r"(b), "r"(a) : "memory");
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2+8];" : "=r"(a), "=r"(b) : "r"(mine) : "memory");
  asm volatile("st.global.v2.b32 [%0], {%1, %2};"
               : : "l"(out + 4 * threadIdx.x), "r"(a), "r"(b) : "memory");
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(f) : "r"(mine) : "memory");
  floats[threadIdx.x] = f;
  out[4 * threadIdx.x + 2] = __ldg(in + threadIdx.x);
  out[4 * threadIdx.x + 3] = max(3, in[threadIdx.x]);
}

extern "C" __global__ void warp_instructions(const int* x, int* out, int* want) {
  const int i = threadIdx.x, v = x[i];
  const unsigned all = 0xFFFFFFFFu;
  int d;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, %3, %4;"
               : "=r"(d) : "r"(v), "r"(5), "r"(31), "r"(all));
  out[i] = d;
  want[i] = __shfl_xor_sync(all, v, 5);
  asm volatile("shfl.sync.down.b32 %0, %1, %2, %3, %4;"
               : "=r"(d) : "r"(v), "r"(3), "r"(0x181F), "r"(all));
  out[32 + i] = d;
  want[32 + i] = __shfl_down_sync(all, v, 3, 8);
  asm volatile("shfl.sync.up.b32 %0, %1, %2, %3, %4;"
               : "=r"(d) : "r"(v), "r"(2), "r"(0x1800), "r"(all));
  out[64 + i] = d;
  want[64 + i] = __shfl_up_sync(all, v, 2, 8);
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, %3, %4;"
               : "=r"(d) : "r"(v), "r"(9), "r"(0x101F), "r"(all));
  out[96 + i] = d;
  want[96 + i] = __shfl_sync(all, v, 9, 16);
  unsigned u;
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %1, 0; vote.sync.ballot.b32 %0, p, %2; }"
               : "=r"(u) : "r"(v & 1), "r"(all));
  out[128 + i] = (int)u;
  want[128 + i] = (int)__ballot_sync(all, v & 1);
  asm volatile("{ .reg .pred q; .reg .pred p; setp.ne.b32 p, %1, 0;"
               " vote.sync.any.pred q, p, %2; selp.b32 %0, 1, 0, q; }"
               : "=r"(u) : "r"(v), "r"(all));
  out[160 + i] = (int)u;
  want[160 + i] = __any_sync(all, v);
  asm volatile("redux.sync.add.s32 %0, %1, %2;" : "=r"(d) : "r"(v), "r"(all));
  out[192 + i] = d;
  asm volatile("redux.sync.min.s32 %0, %1, %2;" : "=r"(d) : "r"(v), "r"(all));
  out[224 + i] = d;
  asm volatile("redux.sync.max.u32 %0, %1, %2;" : "=r"(u) : "r"((unsigned)v), "r"(all));
  out[256 + i] = (int)u;
  out[288 + i] = (int)__reduce_xor_sync(all, (unsigned)v);
}

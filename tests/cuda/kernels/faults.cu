// Kernels with a fault each, beside some that are sound.
__device__ __forceinline__ unsigned address(const void* place) {
  return (unsigned)__cvta_generic_to_shared(place);
}

// The neighbour's number, read ahead of its write.
extern "C" __global__ void no_barrier_behind_write(const int* in, int* out) {
  __shared__ int place[64];
  place[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = place[(threadIdx.x + 1) % 64];
}

// The neighbour's number, overwritten ahead of its read.
extern "C" __global__ void no_barrier_behind_read(const int* in, int* out) {
  __shared__ int place[64];
  place[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  const int found = place[(threadIdx.x + 1) % 64];
  place[threadIdx.x] = -1;
  out[threadIdx.x] = found;
}

extern "C" __global__ void both_barriers(const int* in, int* out) {
  __shared__ int place[64];
  place[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  const int found = place[(threadIdx.x + 1) % 64];
  __syncthreads();
  place[threadIdx.x] = -1;
  out[threadIdx.x] = found;
}

// A later block reads what an earlier one wrote.
extern "C" __global__ void order_of_blocks(const int* in, int* out) {
  out[blockIdx.x * 64 + threadIdx.x] =
      in[threadIdx.x] + (blockIdx.x ? out[(blockIdx.x - 1) * 64 + threadIdx.x] : 0);
}

extern "C" __global__ void barrier_in_a_branch(const int* in, int* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = in[threadIdx.x];
}

extern "C" __global__ void two_barriers(const int* in, int* out) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = in[threadIdx.x];
}

extern "C" __global__ void returned_early(const int* in, int* out) {
  if (threadIdx.x == 63) return;
  __syncthreads();
  out[threadIdx.x] = in[threadIdx.x];
}

#define COPY(size)                                                                       \
  __shared__ __align__(16) int place[64][4];                                             \
  const unsigned mine = address(place[threadIdx.x]);

extern "C" __global__ void copy_not_awaited(const int* in, int* out) {
  COPY(4)
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;"
               : : "r"(mine), "l"(in + threadIdx.x) : "memory");
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 1;" : : : "memory");
  out[threadIdx.x] = place[threadIdx.x][0];
}

// What is copied is overwritten by the thread itself, ahead of the copy or behind.
extern "C" __global__ void copy_too_early(const int* in, int* out) {
  COPY(4)
  place[threadIdx.x][0] = 5;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;"
               : : "r"(mine), "l"(in + threadIdx.x) : "memory");
  asm volatile("cp.async.commit_group;");
  out[threadIdx.x] = place[threadIdx.x][0];
  asm volatile("cp.async.wait_group 0;" : : : "memory");
  out[threadIdx.x] += place[threadIdx.x][0] - 5;
}

extern "C" __global__ void misaligned_copy(const int* in, int* out) {
  COPY(16)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               : : "r"(mine), "l"(in + threadIdx.x) : "memory");
  asm volatile("cp.async.wait_all;");
  out[threadIdx.x] = place[threadIdx.x][0];
}

extern "C" __global__ void copy_of_eight_past_the_cache(const int* in, int* out) {
  COPY(8)
#ifdef EMULATED
  asm volatile("cp.async.cg.shared.global [%0], [%1], 8;" : : "r"(mine), "l"(in) : "memory");
#endif
  out[threadIdx.x] = (int)mine;
}

extern "C" __global__ void misaligned_matrix(const int* in, int* out) {
  COPY(16)
  unsigned r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(r) : "r"(mine + 8) : "memory");
  out[threadIdx.x] = (int)r;
}

// Aligned on a GPU by luck alone.
extern "C" __global__ void matrix_without_alignment(const int* in, int* out) {
  __shared__ int place[64 * 4];
  unsigned r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(r) : "r"(address(place + 4 * threadIdx.x)) : "memory");
  out[threadIdx.x] = (int)r;
}

extern "C" __global__ void matrix_outside(const int* in, int* out) {
  COPY(16)
  unsigned r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(r) : "r"(mine + 16 * 60) : "memory");
  out[threadIdx.x] = (int)r;
}

extern "C" __global__ void lanes_apart(const int* in, int* out) {
  int v = in[threadIdx.x];
  if (threadIdx.x % 32 != 3) v = __shfl_xor_sync(0xFFFFFFFF, v, 1);
  out[threadIdx.x] = v;
}

extern "C" __global__ void two_instructions(const int* in, int* out) {
  int v = in[threadIdx.x];
  if (threadIdx.x % 32 < 3)
    v = __shfl_xor_sync(0xFFFFFFFF, v, 1);
  else
    v = (int)__ballot_sync(0xFFFFFFFF, v > 0);
  out[threadIdx.x] = v;
}

extern "C" __global__ void foreign_mask(const int* in, int* out) {
  out[threadIdx.x] = __shfl_xor_sync(0x0000FFFF, in[threadIdx.x], 1);
}

extern "C" __global__ void past_the_result(const int* in, int* out) {
  out[threadIdx.x + 1] = in[threadIdx.x];
}

extern "C" __global__ void past_a_shared_array(const int* in, int* out) {
  __shared__ int first[64];
  __shared__ int second[64];
  second[threadIdx.x] = 0;
  first[threadIdx.x + 1] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = first[threadIdx.x] + second[threadIdx.x];
}

extern "C" __global__ void ahead_of_a_shared_array(const int* in, int* out) {
  __shared__ int place[64];
  place[(int)threadIdx.x - 1] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = place[threadIdx.x % 63];
}

extern "C" __global__ void past_the_dynamic_array(const int* in, int* out) {
  extern __shared__ int place[];
  place[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = place[threadIdx.x];
}

extern "C" __global__ void nowhere(const int* in, int* out) {
  out[threadIdx.x] = *(const int*)(unsigned long long)(4 * (in[threadIdx.x] & 0xFF));
}

extern "C" __global__ void not_shared(const int* in, int* out) {
  out[threadIdx.x] = (int)address(out);
}

extern "C" __global__ void not_written(const int* in, int* out) {
  __shared__ int place[64];
  int mine[2];
  out[threadIdx.x] = threadIdx.x % 2 ? place[threadIdx.x] : mine[in[threadIdx.x] & 1];
}

extern "C" __global__ void __launch_bounds__(32) for_one_warp(const int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x];
}

#ifdef EMULATED
extern "C" __global__ void too_much_shared(const int* in, int* out) {
  __shared__ int place[12 * 1024 + 1];
  place[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = place[threadIdx.x];
}
#endif

extern "C" __global__ void misaligned_vector(const int* in, int* out) {
  unsigned a, b;
  asm volatile("ld.global.v2.b32 {%0, %1}, [%2];"
               : "=r"(a), "=r"(b) : "l"(in + threadIdx.x) : "memory");
  out[threadIdx.x] = (int)(a + b);
}

extern "C" __global__ void trapped(const int* in, int* out) {
  if (in[threadIdx.x] > 3) __trap();
  out[threadIdx.x] = 1;
}

extern "C" __global__ void divided_by_zero(const int* in, int* out) {
  out[threadIdx.x] = 5 % (in[threadIdx.x] - 3);
}

extern "C" __global__ void two_loads(const int* in, int* out) {
  COPY(16)
  unsigned r, s;
  if (threadIdx.x % 32 < 16) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r) : "r"(mine) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r), "=r"(s) : "r"(mine) : "memory");
  }
  out[threadIdx.x] = (int)r;
}

// Half of the lanes multiply nibbles, the others bytes.
extern "C" __global__ void two_products(const int* in, int* out) {
  int a = 0, b = 0, c = 0, d = 0;
  const int x = in[threadIdx.x];
  if (threadIdx.x % 32 < 16) {
    asm volatile("mma.sync.aligned.m16n8k64.row.col.s32.u4.s4.s32 {%0, %1, %2, %3},"
                 " {%4, %4, %4, %4}, {%4, %4}, {%0, %1, %2, %3};"
                 : "+r"(a), "+r"(b), "+r"(c), "+r"(d) : "r"(x));
  } else {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3},"
                 " {%4, %4, %4, %4}, {%4, %4}, {%0, %1, %2, %3};"
                 : "+r"(a), "+r"(b), "+r"(c), "+r"(d) : "r"(x));
  }
  out[threadIdx.x] = a;
}

extern "C" __global__ void misaligned_int4(const int* in, int* out) {
  const int4 v = *(const int4*)(in + threadIdx.x % 4);
  out[threadIdx.x] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void misaligned_store(const int* in, int* out) {
  __shared__ __align__(8) char place[64 * 4 + 4];
  *(int*)(place + 4 * threadIdx.x + in[0]) = 1;
  __syncthreads();
  out[threadIdx.x] = place[threadIdx.x];
}

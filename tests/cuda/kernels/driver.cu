// Kernels for the tests of the driver: blocks of 32 threads.
extern "C" __global__ void __launch_bounds__(32) twice(const int* in, int* out) {
  out[blockIdx.x * 32 + threadIdx.x] = 2 * in[blockIdx.x * 32 + threadIdx.x];
}

extern "C" __global__ void add(const int* a, const int* b, int* out) {
  out[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];
}

extern "C" __global__ void shared(const int* in, int* out) {
  extern __shared__ int place[];
  place[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = place[31 - threadIdx.x];
}

extern "C" __global__ void nowhere(int* out) {
  out[threadIdx.x] = *(const int*)(unsigned long long)(4 * threadIdx.x + 4);
}

extern "C" __global__ void too_far(int* out) { out[threadIdx.x + 1] = 1; }

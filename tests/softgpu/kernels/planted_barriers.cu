/* Barriers that not all reach, that disagree, or that wait for the wrong thing; mbarriers with the wrong phase or count. */
#include "kernels/planted.h"

__global__ void divergent(float *out, int limit)
{
    out[threadIdx.x] = 1;
    if (threadIdx.x < limit) __syncthreads(); // PLANTED(divergent_barrier: barrier)
    out[64 + threadIdx.x] = 2;
    __syncthreads();
}

/* Two warps meet at a named barrier; each must expect the same number of threads. */
template <int P> __global__ void named(float *out)
{
    if (threadIdx.x < 32)
        asm volatile("bar.sync 1, 64;" ::: "memory");
    else if (P)
        asm volatile("bar.sync 1, 96;" ::: "memory"); // PLANTED(counts_differ: barrier)
    else
        asm volatile("bar.sync 1, 64;" ::: "memory");
    out[threadIdx.x] = 1;
}

/* One warp waits once more than the other does: nobody comes. */
template <int P> __global__ void once_too_often(float *out)
{
    if (threadIdx.x < 32)
        asm volatile("bar.sync 1, 64;" ::: "memory");
    else
        asm volatile("bar.sync 1, 64;" ::: "memory");
    if (P && threadIdx.x < 32) asm volatile("bar.sync 1, 64;" ::: "memory"); // PLANTED(nobody_comes: barrier)
    out[threadIdx.x] = 1;
}

/* Two halves that shuffle at different places name each other. */
__global__ void wrong_mask(const int *in, int *out, unsigned low, unsigned high)
{
    int value = in[threadIdx.x];
    if (threadIdx.x < 16)
        value = __shfl_xor_sync(low, value, 1); // PLANTED(mask_names_absent_lanes: barrier)
    else
        value += __shfl_down_sync(high, value, 1);
    out[threadIdx.x] = value;
}

/* A mask may name lanes that have exited, as long as nobody reads what they had. */
__global__ void upper_half_exits(const int *in, int *out, int distance)
{
    int value = in[threadIdx.x];
    if (threadIdx.x >= 16) return;
    value += __any_sync(0xffffffff, value);
    value += __shfl_xor_sync(0xffffffff, value, distance); // PLANTED(exited_lane_is_read: uninitialised)
    out[threadIdx.x] = value;
}

#if __CUDA_ARCH__ >= 800 || !defined(__CUDA_ARCH__)
static __device__ unsigned shared_address(const void *pointer) { return (unsigned)__cvta_generic_to_shared(pointer); }

static __device__ void mbarrier_wait(unsigned barrier, int phase)
{
    asm volatile("{\n\t.reg .pred done;\nagain:\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t@!done bra again;\n\t}" ::"r"(
                     barrier),
                 "r"(phase)
                 : "memory");
}

/* Threads 0-95 produce, threads 96-127 wait for phase 0 to end. Planted: they wait for the phase before, which is already over; or the
   barrier counts two warps of producers only. */
__global__ void pipeline(const float *in, float *out, int expected, int phase)
{
    __shared__ float tile[96];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full), t = threadIdx.x % 32;
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(expected) : "memory");
    __syncthreads();
    if (threadIdx.x < 96) {
        tile[threadIdx.x] = in[threadIdx.x];
        asm volatile("{\n\t.reg .b64 state;\n\tmbarrier.arrive.shared::cta.b64 state, [%0];\n\t}" ::"r"(barrier) : "memory");
    } else {
        mbarrier_wait(barrier, phase);
        out[t] = tile[95 - t] + tile[32 + t] + tile[t]; // PLANTED(wrong_phase: race) PLANTED(count_too_small: race)
    }
}
#endif

static void divergent_barrier(int planted)
{
    float *out = device_array(128, 0.0f);
    divergent<<<1, 64>>>(out, planted ? 48 : 64);
    finish();
    CHECK(cudaFree(out));
}

static void counts_differ(int planted)
{
    float *out = device_array(64, 0.0f);
    if (planted)
        named<1><<<1, 64>>>(out);
    else
        named<0><<<1, 64>>>(out);
    finish();
    CHECK(cudaFree(out));
}

static void nobody_comes(int planted)
{
    float *out = device_array(64, 0.0f);
    if (planted)
        once_too_often<1><<<1, 64>>>(out);
    else
        once_too_often<0><<<1, 64>>>(out);
    finish();
    CHECK(cudaFree(out));
}

static void mask_names_absent_lanes(int planted)
{
    int *in = device_array(32, 1), *out = device_array(32, 0);
    wrong_mask<<<1, 32>>>(in, out, planted ? 0xffffffff : 0xffff, planted ? 0xffffffff : 0xffff0000);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

static void exited_lane_is_read(int planted)
{
    int *in = device_array(32, 1), *out = device_array(32, 0);
    upper_half_exits<<<1, 32>>>(in, out, planted ? 16 : 1);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

static void run_pipeline(int expected, int phase)
{
    float *in = device_array(96, 1.0f), *out = device_array(32, 0.0f);
    pipeline<<<1, 128>>>(in, out, expected, phase);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

static void wrong_phase(int planted) { run_pipeline(96, planted); }
static void count_too_small(int planted) { run_pipeline(planted ? 64 : 96, 0); }

const planted_case planted_barriers[] = {
    {"divergent_barrier", divergent_barrier},
    {"counts_differ", counts_differ},
    {"nobody_comes", nobody_comes},
    {"mask_names_absent_lanes", mask_names_absent_lanes},
    {"exited_lane_is_read", exited_lane_is_read},
    {"wrong_phase", wrong_phase},
    {"count_too_small", count_too_small},
    {NULL, NULL},
};

/* cp.async: read before its wait, the wrong group count, a buffer reused while a copy into it is in flight. */
#include "kernels/planted.h"

static __device__ void copy_16(float *to, const float *from)
{
    unsigned shared = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
}

static __device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> static __device__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

template <int P> __global__ void copy_then_read(const float *in, float *out)
{
    __shared__ __align__(16) float tile[128];
    copy_16(tile + threadIdx.x * 4, in + threadIdx.x * 4);
    commit();
    if (!P) wait<0>();
    out[threadIdx.x] = tile[threadIdx.x * 4]; // PLANTED(read_before_wait: async copy)
}

/* The wait is each thread's own: others' copies are visible only after a barrier as well. */
template <int P> __global__ void copy_for_others(const float *in, float *out)
{
    __shared__ __align__(16) float tile[256];
    copy_16(tile + threadIdx.x * 4, in + threadIdx.x * 4);
    commit();
    wait<0>();
    if (!P) __syncthreads();
    out[threadIdx.x] = tile[252 - threadIdx.x * 4]; // PLANTED(no_barrier_after_wait: race)
}

/* Double buffering: while tile t is summed, tile t + 1 is on its way. On the last tile nothing else is, so the wait must be for all. */
template <int P> __global__ void double_buffer(const float *in, int tiles, float *out)
{
    __shared__ __align__(16) float tile[2][128];
    float sum = 0;
    copy_16(&tile[0][threadIdx.x * 4], in + threadIdx.x * 4);
    commit();
    for (int t = 0; t < tiles; t++) {
        if (t + 1 < tiles) {
            copy_16(&tile[(t + 1) % 2][threadIdx.x * 4], in + (t + 1) * 128 + threadIdx.x * 4);
            commit();
        }
        if (P || t + 1 < tiles)
            wait<1>();
        else
            wait<0>();
        __syncwarp();
        sum += tile[t % 2][threadIdx.x] + tile[t % 2][127 - threadIdx.x]; // PLANTED(wrong_group_count: async copy)
        __syncwarp();
    }
    out[threadIdx.x] = sum;
}

/* The next copy goes to the same buffer; all must have read it before. */
template <int P> __global__ void single_buffer(const float *in, int tiles, float *out)
{
    __shared__ __align__(16) float tile[256];
    float sum = 0;
    for (int t = 0; t < tiles; t++) {
        copy_16(tile + threadIdx.x * 4, in + t * 256 + threadIdx.x * 4); // PLANTED(buffer_still_read: race)
        commit();
        wait<0>();
        __syncthreads();
        sum += tile[255 - threadIdx.x];
        if (!P) __syncthreads();
    }
    out[threadIdx.x] = sum;
}

template <int P> __global__ void write_under_copy(const float *in, float *out)
{
    __shared__ __align__(16) float tile[128];
    copy_16(tile + threadIdx.x * 4, in + threadIdx.x * 4);
    commit();
    if (!P) wait<0>();
    tile[threadIdx.x * 4 + 1] = 0; // PLANTED(write_in_flight: async copy)
    wait<0>();
    out[threadIdx.x] = tile[threadIdx.x * 4 + 1];
}

/* The source is changed while the copy may not have read it yet. */
template <int P> __global__ void source_changes(float *in, float *out)
{
    __shared__ __align__(16) float tile[128];
    copy_16(tile + threadIdx.x * 4, in + threadIdx.x * 4);
    commit();
    if (!P) wait<0>();
    in[threadIdx.x * 4] = 5; // PLANTED(source_written_in_flight: async copy)
    wait<0>();
    out[threadIdx.x] = tile[threadIdx.x * 4];
}

template <typename K> static void one_tile(K kernel, int threads)
{
    float *in = device_array(threads * 4, 1.0f), *out = device_array(threads, 0.0f);
    kernel<<<1, threads>>>(in, out);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

template <typename K> static void four_tiles(K kernel, int threads)
{
    float *in = device_array(threads * 16, 1.0f), *out = device_array(threads, 0.0f);
    kernel<<<1, threads>>>(in, 4, out);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

static void read_before_wait(int planted) { one_tile(planted ? copy_then_read<1> : copy_then_read<0>, 32); }
static void no_barrier_after_wait(int planted) { one_tile(planted ? copy_for_others<1> : copy_for_others<0>, 64); }
static void wrong_group_count(int planted) { four_tiles(planted ? double_buffer<1> : double_buffer<0>, 32); }
static void buffer_still_read(int planted) { four_tiles(planted ? single_buffer<1> : single_buffer<0>, 64); }
static void write_in_flight(int planted) { one_tile(planted ? write_under_copy<1> : write_under_copy<0>, 32); }
static void source_written_in_flight(int planted) { one_tile(planted ? source_changes<1> : source_changes<0>, 32); }

const planted_case planted_copies[] = {
    {"read_before_wait", read_before_wait},
    {"no_barrier_after_wait", no_barrier_after_wait},
    {"wrong_group_count", wrong_group_count},
    {"buffer_still_read", buffer_still_read},
    {"write_in_flight", write_in_flight},
    {"source_written_in_flight", source_written_in_flight},
    {NULL, NULL},
};

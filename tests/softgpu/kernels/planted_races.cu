/* Data races: in shared memory between barriers (read after write, write after read, write after write), within a warp, and in
   global memory between blocks, with and without fences and atomics. */
#include "kernels/planted.h"

/* A barrier that the planted kernel leaves out. */
template <int PLANTED_> __device__ void barrier_unless_planted()
{
    if (!PLANTED_) __syncthreads();
}

template <int P> __global__ void neighbour_sum(const float *in, float *out)
{
    __shared__ float tile[128];
    tile[threadIdx.x] = in[threadIdx.x];
    barrier_unless_planted<P>();
    out[threadIdx.x] = tile[threadIdx.x] + tile[(threadIdx.x + 32) % 128]; // PLANTED(read_after_write: race)
}

template <int P> __global__ void two_passes(const float *in, float *out)
{
    __shared__ float tile[128];
    tile[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    float first = tile[(threadIdx.x + 64) % 128];
    barrier_unless_planted<P>();
    tile[threadIdx.x] = in[128 + threadIdx.x]; // PLANTED(write_after_read: race)
    __syncthreads();
    out[threadIdx.x] = first + tile[(threadIdx.x + 64) % 128];
}

template <int P> __global__ void last_writer(float *out)
{
    __shared__ float slot[2];
    int which = P ? 0 : threadIdx.x / 32;
    if (threadIdx.x % 32 == 0) slot[which] = threadIdx.x; // PLANTED(write_after_write: race)
    __syncthreads();
    out[threadIdx.x] = slot[which];
}

/* A warp's exchange through shared memory: lanes of one warp are not in step either. */
template <int P> __global__ void warp_exchange(const float *in, float *out)
{
    __shared__ float tile[32];
    tile[threadIdx.x] = in[threadIdx.x];
    if (!P) __syncwarp();
    out[threadIdx.x] = tile[31 - threadIdx.x]; // PLANTED(missing_syncwarp: race)
}

__global__ void histogram(const int *keys, int *counts, int atomic)
{
    int key = keys[blockIdx.x * blockDim.x + threadIdx.x] % 4;
    if (atomic)
        atomicAdd(&counts[key], 1);
    else if (threadIdx.x == 0)
        counts[key] += 1; // PLANTED(blocks_collide: race)
}

/* Each block writes its own part; the planted one reaches into its neighbour's. */
__global__ void overlapping_tiles(float *x, int extra)
{
    int first = blockIdx.x * 32;
    for (int i = threadIdx.x; i < 32 + extra; i += 32)
        if (first + i < 128) x[first + i] = blockIdx.x; // PLANTED(tiles_overlap: race)
}

/* Block 1 waits for block 0's flag: with a fence on each side that is communication, without one a race. */
template <int P> __global__ void hand_over(float *data, int *flag, float *out)
{
    if (blockIdx.x == 0) {
        data[0] = 42;
        if (!P) __threadfence();
        atomicExch(flag, 1);
    } else {
        while (atomicAdd(flag, 0) == 0) {
        }
        if (!P) __threadfence();
        out[0] = data[0]; // PLANTED(no_fence: race)
    }
}

/* Both warps of block 0 write, and its first thread tells block 1: its fence carries what it has seen of the other warp, so not what
   the barrier shows it afterwards. */
template <int P> __global__ void hand_over_by_one(float *data, int *flag, float *out)
{
    if (blockIdx.x == 0) {
        data[threadIdx.x] = 42;
        if (P) __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            if (!P) __threadfence();
            atomicExch(flag, 1);
        }
    } else {
        while (atomicAdd(flag, 0) == 0) {
        }
        __threadfence();
        out[threadIdx.x] = data[63 - threadIdx.x]; // PLANTED(fence_before_barrier: race)
    }
}

template <int P> __global__ void mixed_atomics(int *counter, int *out)
{
    if (blockIdx.x == 0)
        atomicAdd(counter, 1);
    else if (P)
        *counter = 7; // PLANTED(plain_beside_atomic: race)
    else
        atomicExch(counter, 7);
    out[blockIdx.x] = blockIdx.x;
}

template <typename K> static void in_to_out(K kernel, int threads, int inputs)
{
    float *in = device_array(inputs, 1.0f), *out = device_array(threads, 0.0f);
    kernel<<<1, threads>>>(in, out);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

static void read_after_write(int planted) { in_to_out(planted ? neighbour_sum<1> : neighbour_sum<0>, 128, 128); }
static void write_after_read(int planted) { in_to_out(planted ? two_passes<1> : two_passes<0>, 128, 256); }
static void missing_syncwarp(int planted) { in_to_out(planted ? warp_exchange<1> : warp_exchange<0>, 32, 32); }

static void write_after_write(int planted)
{
    float *out = device_array(64, 0.0f);
    if (planted)
        last_writer<1><<<1, 64>>>(out);
    else
        last_writer<0><<<1, 64>>>(out);
    finish();
    CHECK(cudaFree(out));
}

static void blocks_collide(int planted)
{
    int *keys = device_array(256, 1), *counts = device_array(4, 0);
    histogram<<<8, 32>>>(keys, counts, !planted);
    finish();
    CHECK(cudaFree(keys));
    CHECK(cudaFree(counts));
}

static void tiles_overlap(int planted)
{
    float *x = device_array(128, 0.0f);
    overlapping_tiles<<<4, 32>>>(x, planted);
    finish();
    CHECK(cudaFree(x));
}

static void between_blocks(void (*kernel)(float *, int *, float *), int threads)
{
    float *data = device_array(threads, 0.0f), *out = device_array(threads, 0.0f);
    int *flag = device_array(1, 0);
    kernel<<<2, threads>>>(data, flag, out);
    finish();
    CHECK(cudaFree(data));
    CHECK(cudaFree(out));
    CHECK(cudaFree(flag));
}

static void no_fence(int planted) { between_blocks(planted ? hand_over<1> : hand_over<0>, 1); }
static void fence_before_barrier(int planted) { between_blocks(planted ? hand_over_by_one<1> : hand_over_by_one<0>, 64); }

static void plain_beside_atomic(int planted)
{
    int *counter = device_array(1, 0), *out = device_array(2, 0);
    if (planted)
        mixed_atomics<1><<<2, 1>>>(counter, out);
    else
        mixed_atomics<0><<<2, 1>>>(counter, out);
    finish();
    CHECK(cudaFree(counter));
    CHECK(cudaFree(out));
}

const planted_case planted_races[] = {
    {"read_after_write", read_after_write},
    {"write_after_read", write_after_read},
    {"write_after_write", write_after_write},
    {"missing_syncwarp", missing_syncwarp},
    {"blocks_collide", blocks_collide},
    {"tiles_overlap", tiles_overlap},
    {"no_fence", no_fence},
    {"fence_before_barrier", fence_before_barrier},
    {"plain_beside_atomic", plain_beside_atomic},
    {NULL, NULL},
};

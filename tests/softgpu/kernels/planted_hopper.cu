/* What compute capability 9.0 brings: bulk copies and products that are not waited for, barriers that were never begun or expect other
   bytes than come, shared memory of another block. */
#include "kernels/hopper.cuh"
#include "kernels/warpgroup.cuh"

static __device__ void bulk_load(void *to, const void *from, int bytes, unsigned barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)), "l"(from), "r"(bytes),
                 "r"(barrier)
                 : "memory");
}

static __device__ void bulk_store(void *to, const void *from, int bytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n\tcp.async.bulk.commit_group;" ::"l"(to), "r"(shared_address(from)), "r"(bytes)
                 : "memory");
}

template <int P> __global__ void load_then_read(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, sizeof tile);
        bulk_load(tile, in, sizeof tile, barrier);
    }
    __syncthreads();
    if (!P) mbarrier_wait(barrier, 0);
    out[threadIdx.x] = tile[threadIdx.x]; // PLANTED(bulk_read_before_wait: async copy)
    if (P) mbarrier_wait(barrier, 0);
}

/* The next tile goes where others still read the last one, or are about to: which of the two depends on the seed. */
template <int P> __global__ void load_again(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full[4];
    float sum = 0;
    for (int t = 0; t < 4 && threadIdx.x == 0; t++) mbarrier_init(shared_address(&full[t]), 1);
    __syncthreads();
    for (int t = 0; t < 4; t++) {
        unsigned barrier = shared_address(&full[t]);
        if (threadIdx.x == 0) {
            mbarrier_expect(barrier, sizeof tile);
            bulk_load(tile, in + t * 128, sizeof tile, barrier); // PLANTED(bulk_buffer_still_read: nothing between them)
        }
        mbarrier_wait(barrier, 0);
        sum += tile[threadIdx.x];
        if (!P) __syncthreads();
    }
    out[threadIdx.x] = sum;
}

template <int P> __global__ void nobody_waits(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, sizeof tile);
        bulk_load(tile, in, sizeof tile, barrier); // PLANTED(bulk_load_abandoned: async copy)
        if (!P) mbarrier_wait(barrier, 0);
    }
    out[threadIdx.x] = 1;
}

template <int P> __global__ void store_then_write(float *out)
{
    __shared__ __align__(128) float tile[128];
    tile[threadIdx.x] = threadIdx.x;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        bulk_store(out, tile, sizeof tile);
        if (!P) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        tile[5] = 0; // PLANTED(source_changed_under_store: async copy)
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}

/* wait_group.read promises that the source was read, not that the target was written: neither to the thread that waits … */
template <int P> __global__ void store_then_read(float *out)
{
    __shared__ __align__(128) float tile[128];
    tile[threadIdx.x] = threadIdx.x;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) bulk_store(out, tile, sizeof tile);
    if (P)
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    else
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    __syncthreads();
    out[128 + threadIdx.x] = out[127 - threadIdx.x]; // PLANTED(stored_is_read_after_read_wait: async copy)
}

/* … nor to another block that it signals, as backward passes do which add to a sum in turn. */
template <int P> __global__ void add_then_signal(float *sum, float *out)
{
    __shared__ __align__(128) float tile[32];
    unsigned *flag = reinterpret_cast<unsigned *>(out + 32), seen = 0;
    if (blockIdx.x == 0) {
        tile[threadIdx.x] = threadIdx.x;
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncwarp();
        if (threadIdx.x > 0) return;
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;\n\tcp.async.bulk.commit_group;" ::"l"(sum), "r"(shared_address(tile)),
                     "r"(int(sizeof tile))
                     : "memory");
        if (P)
            asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        else
            asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
        __threadfence();
        atomicExch(flag, 1);
    } else {
        while (!seen) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");
        out[threadIdx.x] = sum[threadIdx.x]; // PLANTED(added_is_read_after_read_wait: nothing between them)
    }
}

/* A wait is for the copies of the thread that waits. */
template <int P> __global__ void another_waits(float *out)
{
    __shared__ __align__(128) float tile[128];
    tile[threadIdx.x] = threadIdx.x;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) bulk_store(out, tile, sizeof tile); // PLANTED(another_thread_waits: async copy)
    if (threadIdx.x == P) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

template <int P> __global__ void expects_less(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, P ? sizeof tile / 2 : sizeof tile);
        bulk_load(tile, in, sizeof tile, barrier);
    }
    __syncthreads();
    mbarrier_wait(barrier, 0); // PLANTED(too_few_bytes_announced: barrier)
    out[threadIdx.x] = tile[threadIdx.x];
}

template <int P> __global__ void expects_more(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, P ? 2 * sizeof tile : sizeof tile);
        bulk_load(tile, in, sizeof tile, barrier);
    }
    __syncthreads();
    mbarrier_wait(barrier, 0); // PLANTED(too_many_bytes_announced: barrier)
    out[threadIdx.x] = tile[threadIdx.x];
}

/* Without an announcement the phase ends with the arrival, and the bytes are the next one's. */
template <int P> __global__ void expects_nothing(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        if (P)
            mbarrier_arrive(barrier);
        else
            mbarrier_expect(barrier, sizeof tile);
        bulk_load(tile, in, sizeof tile, barrier);
    }
    __syncthreads();
    mbarrier_wait(barrier, 0);
    out[threadIdx.x] = tile[threadIdx.x]; // PLANTED(bytes_not_announced: async copy)
}

/* One block loads for both; its tile is free when both have read it. */
template <int P> __global__ void __cluster_dims__(2, 1, 1) multicast_again(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full, empty;
    unsigned rank, release, full_at = shared_address(&full), empty_at = shared_address(&empty);
    float sum = 0;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(release) : "r"(empty_at));
    if (threadIdx.x == 0) {
        mbarrier_init(full_at, 1);
        mbarrier_init(empty_at, P ? 128 : 256);
    }
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
    for (int t = 0; t < 3; t++) {
        if (threadIdx.x == 0) mbarrier_expect(full_at, sizeof tile);
        if (threadIdx.x == 0 && rank == 0) {
            mbarrier_wait(empty_at, (t + 1) % 2);
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(shared_address(tile)), "l"(in + t * 128), "r"(int(sizeof tile)), "r"(full_at), "h"((short)3) : "memory"); // PLANTED(multicast_buffer_still_read: nothing between them)
        }
        mbarrier_wait(full_at, t % 2);
        sum += tile[threadIdx.x];
        if (!P || rank == 0) asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(release) : "memory");
    }
    out[blockIdx.x * 128 + threadIdx.x] = sum;
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
}

/* A kernel that may begin before the one in front of it has ended. */
__global__ void produce(float *out) { out[threadIdx.x] = threadIdx.x; }

template <int P> __global__ void consume(const float *in, float *out)
{
    if (!P) asm volatile("griddepcontrol.wait;" ::: "memory");
    float value = in[127 - threadIdx.x]; // PLANTED(previous_kernel_not_waited_for: race)
    if (P) asm volatile("griddepcontrol.wait;" ::: "memory");
    out[threadIdx.x] = value;
}

template <int P> __global__ void never_begun(float *out)
{
    __shared__ unsigned long long full;
    if (!P && threadIdx.x == 0) mbarrier_init(shared_address(&full), 128);
    __syncthreads();
    mbarrier_arrive(shared_address(&full)); // PLANTED(mbarrier_not_initialised: barrier)
    mbarrier_wait(shared_address(&full), 0);
    out[threadIdx.x] = 1;
}

/* One thread arrives for all, once more than the phase expects. */
template <int P> __global__ void arrives_for_more(float *out)
{
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 128);
        asm volatile("{\n\t.reg .b64 state;\n\tmbarrier.arrive.shared::cta.b64 state, [%0], %1;\n\t}" ::"r"(barrier), "r"(128 + P) : "memory"); // PLANTED(too_many_arrivals: barrier)
    }
    __syncthreads();
    mbarrier_wait(barrier, 0);
    out[threadIdx.x] = 1;
}

/* 64 x 64 x 16, twice the same tile; its bytes are all alike, so any layout will do. */
template <int P> __global__ void product_then_read(const float *in, float *out)
{
    __shared__ __align__(1024) float tile[64 * 32];
    for (int i = threadIdx.x; i < 64 * 32; i += 128) tile[i] = in[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    float sum[32] = {};
    warpgroup_fence(sum);
    warpgroup_multiply(sum, swizzled_descriptor(shared_address(tile)), swizzled_descriptor(shared_address(tile)), 1);
    warpgroup_commit();
    if (!P) warpgroup_wait<0>(sum);
    asm volatile("st.global.f32 [%0], %1;" ::"l"(out + threadIdx.x), "f"(sum[3]) : "memory"); // PLANTED(product_read_before_wait: wgmma)
    if (P) warpgroup_wait<0>(sum);
}

/* The tile is loaded anew while the product may still read it. */
template <int P> __global__ void product_then_load(const float *in, float *out)
{
    __shared__ __align__(1024) float tile[64 * 32];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    float sum[32] = {};
    if (threadIdx.x == 0) mbarrier_init(barrier, 1);
    __syncthreads();
    for (int t = 0; t < 2; t++) {
        if (threadIdx.x == 0) {
            mbarrier_expect(barrier, sizeof tile);
            bulk_load(tile, in, sizeof tile, barrier);
        }
        __syncthreads();
        if (P && t > 0) warpgroup_wait<0>(sum);
        mbarrier_wait(barrier, t);
        warpgroup_fence(sum);
        warpgroup_multiply(sum, swizzled_descriptor(shared_address(tile)), swizzled_descriptor(shared_address(tile)), 1); // PLANTED(refilled_under_product: async copy)
        warpgroup_commit();
        if (!P) warpgroup_wait<0>(sum);
        __syncthreads();
    }
    warpgroup_wait<0>(sum);
    out[threadIdx.x] = sum[0];
}

/* Sums that were scaled go on only behind a wgmma.fence; so does the first product. */
template <int P> __global__ void scaled_between(const float *in, float *out)
{
    __shared__ __align__(1024) float tile[64 * 32];
    float sum[32] = {};
    for (int i = threadIdx.x; i < 64 * 32; i += 128) tile[i] = in[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    unsigned long long operand = swizzled_descriptor(shared_address(tile));
    warpgroup_fence(sum);
    for (int t = 0; t < 2; t++) {
        if (!P && t) warpgroup_fence(sum);
        warpgroup_multiply(sum, operand, operand, 1); // PLANTED(scaled_without_fence: wgmma)
        warpgroup_multiply(sum, operand, operand, 1);
        warpgroup_commit();
        warpgroup_wait<0>(sum);
        for (float &each : sum) each *= in[threadIdx.x];
    }
    out[threadIdx.x] = sum[0];
}

template <int P> __global__ void never_fenced(const float *in, float *out)
{
    __shared__ __align__(1024) float tile[64 * 32];
    float sum[32];
    for (int i = threadIdx.x; i < 64 * 32; i += 128) tile[i] = in[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    unsigned long long operand = swizzled_descriptor(shared_address(tile));
    if (!P) asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    warpgroup_multiply(sum, operand, operand, 0); // PLANTED(product_without_fence: wgmma)
    warpgroup_commit();
    warpgroup_wait<0>(sum);
    out[threadIdx.x] = sum[0];
}

/* What threads write is not what a product, or a copy, reads until a fence between the two ways to memory. */
template <int P> __global__ void product_of_stores(const float *in, float *out)
{
    __shared__ __align__(1024) float tile[64 * 32];
    float sum[32] = {};
    for (int i = threadIdx.x; i < 64 * 32; i += 128) tile[i] = in[i];
    if (!P) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    warpgroup_fence(sum);
    warpgroup_multiply(sum, swizzled_descriptor(shared_address(tile)), swizzled_descriptor(shared_address(tile)), 1); // PLANTED(product_without_proxy_fence: proxy fence)
    warpgroup_commit();
    warpgroup_wait<0>(sum);
    out[threadIdx.x] = sum[0];
}

/* The fence may also come behind the barrier, from who sends. */
template <int P> __global__ void store_of_stores(float *out)
{
    __shared__ __align__(128) float tile[128];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    tile[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) {
        if (!P) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        bulk_store(out, tile, sizeof tile); // PLANTED(store_without_proxy_fence: proxy fence)
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}

/* Zeros written before a copy are not overwritten by it for certain. */
template <int P> __global__ void load_over_stores(const float *in, float *out)
{
    __shared__ __align__(128) float tile[128];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    tile[threadIdx.x] = 0;
    if (!P) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    if (threadIdx.x == 0) mbarrier_init(barrier, 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        mbarrier_expect(barrier, sizeof tile);
        bulk_load(tile, in, sizeof tile, barrier); // PLANTED(load_without_proxy_fence: proxy fence)
    }
    mbarrier_wait(barrier, 0);
    out[threadIdx.x] = tile[threadIdx.x];
}

/* One thread of the warpgroup says that the tile may be loaded anew: for all four warps, once one of them has waited. */
template <int P> __global__ void released_by_one(const float *in, float *out)
{
    __shared__ __align__(1024) float tile[64 * 32];
    __shared__ unsigned long long full, empty;
    float sum[32] = {};
    if (threadIdx.x == 0) {
        mbarrier_init(shared_address(&full), 1);
        mbarrier_init(shared_address(&empty), 1);
    }
    __syncthreads();
    for (int t = 0; t < 3; t++) {
        if (threadIdx.x == 128) {
            mbarrier_wait(shared_address(&empty), (t + 1) % 2);
            mbarrier_expect(shared_address(&full), sizeof tile);
            bulk_load(tile, in, sizeof tile, shared_address(&full)); // PLANTED(released_before_done: race)
        } else if (threadIdx.x < 128) {
            mbarrier_wait(shared_address(&full), t % 2);
            warpgroup_fence(sum);
            warpgroup_multiply(sum, swizzled_descriptor(shared_address(tile)), swizzled_descriptor(shared_address(tile)), 1);
            warpgroup_commit();
            if (!P) warpgroup_wait<0>(sum);
            if (threadIdx.x == 40) mbarrier_arrive(shared_address(&empty));
            if (P) warpgroup_wait<0>(sum);
        }
    }
    out[threadIdx.x] = sum[0];
}

template <int P> __global__ void __cluster_dims__(2, 1, 1) neighbour(float *out)
{
    __shared__ float tile[32];
    float value;
    unsigned rank, there;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(&tile[threadIdx.x])), "r"(1 - rank));
    tile[threadIdx.x] = rank;
    if (!P) asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(there) : "memory"); // PLANTED(no_cluster_barrier: race)
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
    out[blockIdx.x * 32 + threadIdx.x] = value;
}

template <typename K> static void run(K kernel, int blocks = 1, int threads = 128)
{
    float *in = device_array(64 * 32, 1.0f), *out = device_array(blocks * threads, 0.0f);
    kernel<<<blocks, threads>>>(in, out);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

template <typename K> static void run_alone(K kernel, int blocks, int threads)
{
    float *out = device_array(256, 0.0f);
    kernel<<<blocks, threads>>>(out);
    finish();
    CHECK(cudaFree(out));
}

static void bulk_read_before_wait(int planted) { run(planted ? load_then_read<1> : load_then_read<0>); }
static void bulk_buffer_still_read(int planted) { run(planted ? load_again<1> : load_again<0>); }
static void bulk_load_abandoned(int planted) { run(planted ? nobody_waits<1> : nobody_waits<0>); }
static void source_changed_under_store(int planted) { run_alone(planted ? store_then_write<1> : store_then_write<0>, 1, 128); }
static void another_thread_waits(int planted) { run_alone(planted ? another_waits<1> : another_waits<0>, 1, 128); }
static void too_few_bytes_announced(int planted) { run(planted ? expects_less<1> : expects_less<0>); }
static void too_many_bytes_announced(int planted) { run(planted ? expects_more<1> : expects_more<0>); }
static void bytes_not_announced(int planted) { run(planted ? expects_nothing<1> : expects_nothing<0>); }
static void multicast_buffer_still_read(int planted) { run(planted ? multicast_again<1> : multicast_again<0>, 2); }

static void previous_kernel_not_waited_for(int planted)
{
    float *x = device_array(128, 1.0f), *out = device_array(128, 0.0f);
    cudaLaunchAttribute early = {};
    cudaLaunchConfig_t config = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3(1);
    config.blockDim = dim3(128);
    config.attrs = &early;
    config.numAttrs = 1;
    CHECK(cudaDeviceSynchronize());
    produce<<<1, 128>>>(x);
    CHECK(cudaLaunchKernelEx(&config, planted ? consume<1> : consume<0>, static_cast<const float *>(x), out));
    finish();
    CHECK(cudaFree(x));
    CHECK(cudaFree(out));
}

static void mbarrier_not_initialised(int planted) { run_alone(planted ? never_begun<1> : never_begun<0>, 1, 128); }
static void too_many_arrivals(int planted) { run_alone(planted ? arrives_for_more<1> : arrives_for_more<0>, 1, 128); }
static void product_read_before_wait(int planted) { run(planted ? product_then_read<1> : product_then_read<0>); }
static void refilled_under_product(int planted) { run(planted ? product_then_load<1> : product_then_load<0>); }
static void product_without_proxy_fence(int planted) { run(planted ? product_of_stores<1> : product_of_stores<0>); }
static void store_without_proxy_fence(int planted) { run_alone(planted ? store_of_stores<1> : store_of_stores<0>, 1, 128); }
static void load_without_proxy_fence(int planted) { run(planted ? load_over_stores<1> : load_over_stores<0>); }
static void scaled_without_fence(int planted) { run(planted ? scaled_between<1> : scaled_between<0>); }
static void product_without_fence(int planted) { run(planted ? never_fenced<1> : never_fenced<0>); }
static void stored_is_read_after_read_wait(int planted) { run_alone(planted ? store_then_read<1> : store_then_read<0>, 1, 128); }

static void added_is_read_after_read_wait(int planted)
{
    float *sum = device_array(32, 1.0f), *out = device_array(64, 0.0f);
    if (planted)
        add_then_signal<1><<<2, 32>>>(sum, out);
    else
        add_then_signal<0><<<2, 32>>>(sum, out);
    finish();
    CHECK(cudaFree(sum));
    CHECK(cudaFree(out));
}

static void released_before_done(int planted) { run(planted ? released_by_one<1> : released_by_one<0>, 1, 160); }
static void no_cluster_barrier(int planted) { run_alone(planted ? neighbour<1> : neighbour<0>, 2, 32); }

const planted_case planted_hopper[] = {
    {"bulk_read_before_wait", bulk_read_before_wait},
    {"bulk_buffer_still_read", bulk_buffer_still_read},
    {"bulk_load_abandoned", bulk_load_abandoned},
    {"source_changed_under_store", source_changed_under_store},
    {"another_thread_waits", another_thread_waits},
    {"too_few_bytes_announced", too_few_bytes_announced},
    {"too_many_bytes_announced", too_many_bytes_announced},
    {"bytes_not_announced", bytes_not_announced},
    {"multicast_buffer_still_read", multicast_buffer_still_read},
    {"previous_kernel_not_waited_for", previous_kernel_not_waited_for},
    {"mbarrier_not_initialised", mbarrier_not_initialised},
    {"too_many_arrivals", too_many_arrivals},
    {"product_read_before_wait", product_read_before_wait},
    {"refilled_under_product", refilled_under_product},
    {"product_without_proxy_fence", product_without_proxy_fence},
    {"store_without_proxy_fence", store_without_proxy_fence},
    {"load_without_proxy_fence", load_without_proxy_fence},
    {"scaled_without_fence", scaled_without_fence},
    {"product_without_fence", product_without_fence},
    {"stored_is_read_after_read_wait", stored_is_read_after_read_wait},
    {"added_is_read_after_read_wait", added_is_read_after_read_wait},
    {"released_before_done", released_before_done},
    {"no_cluster_barrier", no_cluster_barrier},
    {NULL, NULL},
};

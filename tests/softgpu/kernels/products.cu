/* wgmma against plain loops: types, sizes, layouts of both operands, a from registers. */
#include "kernels/hopper.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstring>
#include <vector>

/* How a matrix of 16-byte pieces is laid out in shared memory: mn is the row of a or the column of b. */
struct layout {
    int span; /* of the swizzle; 16: none */
    bool transposed;
};

static const int K_BYTES = 32, ROWS = 64, N = 48;

/* The element's byte, and what the descriptor says of it: written from the ISA's figures of canonical layouts, with dense tiles. */
static __host__ __device__ int place(layout l, int mn, int k, int size, int rows)
{
    int row = l.transposed ? k : mn, byte = (l.transposed ? mn : k) * size, at;
    if (l.span == 16) {
        at = row % 8 * 16 + row / 8 * 128 + byte / 16 * (l.transposed ? 256 : rows * 16);
    } else {
        at = l.transposed ? row % 8 * l.span + row / 8 * (8 * l.span) + byte / l.span * (16 * l.span) : row * l.span;
        at += byte % l.span - byte % 16;
        at ^= (at >> 7 & (l.span / 16 - 1)) << 4;
    }
    return at + byte % 16;
}

static __host__ __device__ unsigned long long descriptor(unsigned start, layout l, int rows)
{
    unsigned long long mode = l.span == 128 ? 1 : l.span == 64 ? 2 : l.span == 32 ? 3 : 0, leading, stride;
    if (l.span == 16) {
        leading = l.transposed ? 128 : (rows / 8) * 128;
        stride = l.transposed ? 256 : 128;
    } else {
        leading = l.transposed ? 16 * l.span : 16;
        stride = 8 * l.span;
    }
    return (start >> 4) | leading >> 4 << 16 | stride >> 4 << 32 | mode << 62;
}

#define D24 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23}"
#define D12 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11}"
#define REGISTERS12(c, d) c(d[0]), c(d[1]), c(d[2]), c(d[3]), c(d[4]), c(d[5]), c(d[6]), c(d[7]), c(d[8]), c(d[9]), c(d[10]), c(d[11])
#define REGISTERS24(c, d)                                                                                                                  \
    REGISTERS12(c, d), c(d[12]), c(d[13]), c(d[14]), c(d[15]), c(d[16]), c(d[17]), c(d[18]), c(d[19]), c(d[20]), c(d[21]), c(d[22]), c(d[23])

enum kind { F16, F16_HALF, BF16, TF32, E4M3, E5M2, S8, U8, KINDS };

/* One product; A from `fragment` where it is given. */
template <int KIND, int TA, int TB, int SA> static __device__ void multiply(unsigned (&d)[24], unsigned long long a, unsigned long long b, int accumulates)
{
    if constexpr (KIND == F16_HALF) {
        asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %14, 0;\n\twgmma.mma_async.sync.aligned.m64n48k16.f16.f16.f16 " D12 ", %12, %13, p, %15, 1, %16, %17;\n\t}"
                     : REGISTERS12("+r", d)
                     : "l"(a), "l"(b), "r"(accumulates), "n"(SA), "n"(TA), "n"(TB));
    }
#define WIDE(kind, types)                                                                                                                  \
    if constexpr (KIND == kind)                                                                                                            \
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %26, 0;\n\twgmma.mma_async.sync.aligned.m64n48" types " " D24 ", %24, %25, p, %27, 1, %28, %29;\n\t}" \
                 : REGISTERS24("+r", d)                                                                                                    \
                 : "l"(a), "l"(b), "r"(accumulates), "n"(SA), "n"(TA), "n"(TB))
#define PLAIN(kind, types, rest)                                                                                                           \
    if constexpr (KIND == kind)                                                                                                            \
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %26, 0;\n\twgmma.mma_async.sync.aligned.m64n48" types " " D24 ", %24, %25, p" rest ";\n\t}" \
                 : REGISTERS24("+r", d)                                                                                                    \
                 : "l"(a), "l"(b), "r"(accumulates))
    WIDE(F16, "k16.f32.f16.f16");
    WIDE(BF16, "k16.f32.bf16.bf16");
    PLAIN(TF32, "k8.f32.tf32.tf32", ", 1, 1");
    PLAIN(E4M3, "k32.f32.e4m3.e4m3", ", 1, 1");
    PLAIN(E5M2, "k32.f32.e5m2.e4m3", ", 1, 1");
    PLAIN(S8, "k32.s32.s8.s8", "");
    PLAIN(U8, "k32.s32.u8.s8", "");
}

/* A's fragment from global memory, K-major and dense there. */
static __device__ void multiply_fragment(unsigned (&d)[24], const unsigned (&a)[4], unsigned long long b, int accumulates)
{
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %29, 0;\n\twgmma.mma_async.sync.aligned.m64n48k16.f32.f16.f16 " D24
                 ", {%24, %25, %26, %27}, %28, p, 1, 1, 0;\n\t}"
                 : REGISTERS24("+r", d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulates));
}

/* d = a b + a b: the second product accumulates on the first. a_rows, b_rows: dense, k fastest. */
template <int KIND, int SIZE, int TA, int TB, int SA, bool FRAGMENT>
__global__ void product(const unsigned char *a_rows, const unsigned char *b_rows, layout la, layout lb, unsigned *out)
{
    __shared__ __align__(1024) unsigned char a[8192], b[8192];
    for (int i = threadIdx.x; i < ROWS * K_BYTES; i += 128)
        a[place(la, i / K_BYTES, i % K_BYTES / SIZE, SIZE, ROWS) + i % SIZE] = a_rows[i];
    for (int i = threadIdx.x; i < N * K_BYTES; i += 128) b[place(lb, i / K_BYTES, i % K_BYTES / SIZE, SIZE, N) + i % SIZE] = b_rows[i];
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    unsigned d[24] = {}, fragment[4];
    int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    for (int r = 0; r < 4; r++)
        fragment[r] = *(const unsigned *)(a_rows + (row + r % 2 * 8) * K_BYTES + threadIdx.x % 4 * 4 + r / 2 * 16);
    unsigned long long da = descriptor(shared_address(a), la, ROWS), db = descriptor(shared_address(b), lb, N);
    asm volatile("wgmma.fence.sync.aligned;" : REGISTERS24("+r", d), "+r"(fragment[0]), "+r"(fragment[1]), "+r"(fragment[2]), "+r"(fragment[3]) : : "memory");
#pragma unroll
    for (int pass = 0; pass < 2; pass++)
        if (FRAGMENT)
            multiply_fragment(d, fragment, db, pass);
        else
            multiply<KIND, TA, TB, SA>(d, da, db, pass);
    asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;" ::: "memory");
    for (int r = 0; r < (KIND == F16_HALF ? 12 : 24); r++) out[r * 128 + threadIdx.x] = d[r];
}

template <typename T> static T read(const unsigned char *at)
{
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

static float value(int kind, const unsigned char *at)
{
    switch (kind) {
    case F16:
    case F16_HALF: return __half2float(read<__half>(at));
    case BF16: return __bfloat162float(read<__nv_bfloat16>(at));
    case TF32: return read<float>(at); /* short enough to be exact */
    case E4M3: return float(read<__nv_fp8_e4m3>(at));
    case E5M2: return float(read<__nv_fp8_e5m2>(at));
    case U8: return *at;
    default: return read<signed char>(at);
    }
}

static void fill(int kind, unsigned char *at, int i)
{
    float x = (i * 37 % 19 - 9) * 0.25f;
    __half h = __float2half(x);
    __nv_bfloat16 b = __float2bfloat16(x);
    __nv_fp8_e4m3 e4(x);
    __nv_fp8_e5m2 e5(x);
    switch (kind) {
    case F16:
    case F16_HALF: std::memcpy(at, &h, 2); break;
    case BF16: std::memcpy(at, &b, 2); break;
    case TF32: std::memcpy(at, &x, 4); break;
    case E4M3: std::memcpy(at, &e4, 1); break;
    case E5M2: std::memcpy(at, &e5, 1); break;
    default: *at = (unsigned char)(i * 91 % 251);
    }
}

template <int KIND, int SIZE, int TA, int TB, int SA = 1, bool FRAGMENT = false> static int run(const char *name, layout la, layout lb)
{
    const int k = K_BYTES / SIZE, kind_b = KIND == E5M2 ? E4M3 : KIND == U8 ? S8 : KIND;
    std::vector<unsigned char> a(ROWS * K_BYTES), b(N * K_BYTES);
    std::vector<unsigned> out(24 * 128);
    for (int i = 0; i < ROWS * k; i++) fill(KIND, &a[i * SIZE], i);
    for (int i = 0; i < N * k; i++) fill(kind_b, &b[i * SIZE], i * 3 + 1);
    unsigned char *da = device_array<unsigned char>(ROWS * K_BYTES, 0), *db = device_array<unsigned char>(N * K_BYTES, 0);
    unsigned *dd = device_array<unsigned>(24 * 128, 0);
    CHECK(cudaMemcpy(da, a.data(), a.size(), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(db, b.data(), b.size(), cudaMemcpyHostToDevice));
    product<KIND, SIZE, TA, TB, SA, FRAGMENT><<<1, 128>>>(da, db, la, lb, dd);
    CHECK(cudaMemcpy(out.data(), dd, out.size() * 4, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(da));
    CHECK(cudaFree(db));
    CHECK(cudaFree(dd));
    int wrong = 0;
    for (int row = 0; row < ROWS; row++)
        for (int n = 0; n < N; n++) {
            double sum = 0;
            for (int i = 0; i < k; i++) sum += 2.0 * SA * value(KIND, &a[row * K_BYTES + i * SIZE]) * value(kind_b, &b[n * K_BYTES + i * SIZE]);
            bool half = KIND == F16_HALF;
            int thread = row / 16 * 32 + row % 8 * 4 + n % 8 / 2, upper = row % 16 / 8;
            unsigned word = out[(half ? n / 8 * 2 + upper : n / 8 * 4 + upper * 2 + n % 2) * 128 + thread];
            double got;
            float f;
            std::memcpy(&f, &word, 4);
            if (half)
                got = value(F16, (const unsigned char *)&word + n % 2 * 2);
            else if (KIND == S8 || KIND == U8)
                got = (int)word;
            else
                got = f;
            wrong += std::fabs(got - sum) > 1e-3 * std::fabs(sum) + (half ? 0.05 : 1e-4);
        }
    if (wrong) std::fprintf(stderr, "%s, a %d%s, b %d%s: %d of %d elements are wrong\n", name, la.span, TA ? "T" : "", lb.span, TB ? "T" : "", wrong, ROWS * N);
    return wrong != 0;
}

int main()
{
    int wrong = 0;
    static const int spans[] = {16, 32, 64, 128};
    for (int s : spans) {
        layout k{s, false}, mn{s, true};
        wrong += run<F16, 2, 0, 0>("f16", k, k);
        if (s != 64 && s != 128) wrong += run<F16, 2, 0, 1>("f16", k, mn); /* N = 48 is no multiple of the wider spans */
        wrong += run<F16, 2, 1, 0>("f16", mn, k);
        wrong += run<BF16, 2, 0, 0>("bf16", k, layout{128, false});
        wrong += run<TF32, 4, 0, 0>("tf32", k, k);
        wrong += run<E4M3, 1, 0, 0>("e4m3", k, k);
        wrong += run<S8, 1, 0, 0>("s8", k, k);
    }
    layout plain{128, false};
    wrong += run<F16, 2, 0, 0, -1>("f16, negated", plain, plain);
    wrong += run<F16_HALF, 2, 0, 0>("f16 into f16", plain, plain);
    wrong += run<E5M2, 1, 0, 0>("e5m2 e4m3", plain, plain);
    wrong += run<U8, 1, 0, 0>("u8 s8", plain, plain);
    wrong += run<F16, 2, 0, 0, 1, true>("f16 from registers", plain, plain);
    return wrong != 0;
}

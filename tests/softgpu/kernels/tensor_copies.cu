/* Tensor copies against the same boxes gathered on the host: one to five dimensions, edges inside and outside, every swizzle, and back. */
#include "kernels/hopper.cuh"

#include <cstring>
#include <vector>

struct shape {
    const char *name;
    int rank, size[5], box[5], at[5], step[5];
    CUtensorMapSwizzle swizzle;
};

static const int spans[] = {0, 32, 64, 128};

static const shape shapes[] = {
    {"line", 1, {1000}, {64}, {128}, {1}, CU_TENSOR_MAP_SWIZZLE_NONE},
    {"line, over its end", 1, {1000}, {64}, {968}, {1}, CU_TENSOR_MAP_SWIZZLE_NONE},
    {"line, before its start", 1, {1000}, {64}, {-5}, {1}, CU_TENSOR_MAP_SWIZZLE_NONE},
    {"plane", 2, {96, 40}, {64, 8}, {32, 5}, {1, 1}, CU_TENSOR_MAP_SWIZZLE_NONE},
    {"plane, corner", 2, {96, 40}, {64, 8}, {61, 36}, {1, 1}, CU_TENSOR_MAP_SWIZZLE_NONE},
    {"plane, all outside", 2, {96, 40}, {64, 8}, {96, 3}, {1, 1}, CU_TENSOR_MAP_SWIZZLE_NONE},
    {"plane, every second row", 2, {96, 40}, {64, 8}, {0, 3}, {1, 2}, CU_TENSOR_MAP_SWIZZLE_NONE},
    {"swizzle 32", 2, {96, 40}, {16, 16}, {3, 4}, {1, 1}, CU_TENSOR_MAP_SWIZZLE_32B},
    {"swizzle 64", 2, {96, 40}, {32, 16}, {8, 30}, {1, 1}, CU_TENSOR_MAP_SWIZZLE_64B},
    {"swizzle 128", 2, {96, 40}, {64, 16}, {-3, -2}, {1, 1}, CU_TENSOR_MAP_SWIZZLE_128B},
    {"swizzle 128, narrow", 2, {96, 40}, {32, 16}, {70, 0}, {1, 1}, CU_TENSOR_MAP_SWIZZLE_128B},
    {"three", 3, {64, 10, 6}, {64, 4, 3}, {0, 8, 2}, {1, 1, 1}, CU_TENSOR_MAP_SWIZZLE_128B},
    {"four", 4, {32, 5, 4, 3}, {32, 2, 2, 2}, {0, 4, 1, 2}, {1, 1, 1, 1}, CU_TENSOR_MAP_SWIZZLE_64B},
    {"five", 5, {16, 3, 4, 3, 4}, {16, 2, 2, 2, 2}, {0, 2, -1, 1, 3}, {1, 1, 1, 1, 1}, CU_TENSOR_MAP_SWIZZLE_NONE},
};

/* Loads the box, shows what lies in shared memory, adds 1 to all of it and sends it to the second tensor. */
__global__ void copy(const __grid_constant__ CUtensorMap from, const __grid_constant__ CUtensorMap to, int rank, int c0, int c1, int c2, int c3, int c4,
                     int elements, unsigned short *shown)
{
    extern __shared__ __align__(1024) unsigned short box[];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full), target = shared_address(box);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, elements * 2);
        tensor_load(rank, target, &from, barrier, c0, c1, c2, c3, c4);
    }
    __syncthreads();
    mbarrier_wait(barrier, 0);
    for (int i = threadIdx.x; i < elements; i += blockDim.x) {
        shown[i] = box[i];
        box[i]++;
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        tensor_store(rank, target, &to, c0, c1, c2, c3, c4);
        asm volatile("cp.async.bulk.commit_group;\n\tcp.async.bulk.wait_group.read 0;" ::: "memory");
    }
}

/* The element's place in the tensor; -1 outside. */
static long place(const shape &s, int number, int *coordinate)
{
    long at = 0, stride = 1;
    for (int d = 0; d < s.rank; d++) {
        int count = (s.box[d] + s.step[d] - 1) / s.step[d];
        coordinate[d] = s.at[d] + number % count * s.step[d];
        number /= count;
        if (coordinate[d] < 0 || coordinate[d] >= s.size[d]) at = -1000000000;
        at += coordinate[d] * stride;
        stride *= s.size[d];
    }
    return at < 0 ? -1 : at;
}

static int swizzled(const shape &s, int byte)
{
    int span = spans[s.swizzle];
    return span ? byte ^ (byte >> 7 & (span / 16 - 1)) << 4 : byte;
}

static bool run(const shape &s)
{
    long total = 1;
    int elements = 1, c[5] = {s.at[0], s.at[1], s.at[2], s.at[3], s.at[4]};
    for (int d = 0; d < s.rank; d++) {
        total *= s.size[d];
        elements *= (s.box[d] + s.step[d] - 1) / s.step[d];
    }
    std::vector<unsigned short> tensor(total), expected(total, 7), shown(elements), box(elements, 0), changed(total);
    for (long i = 0; i < total; i++) tensor[i] = (unsigned short)(i * 31 + 3);
    for (int i = 0; i < elements; i++) {
        int coordinate[5];
        long at = place(s, i, coordinate);
        if (at >= 0) expected[at] = (unsigned short)(tensor[at] + 1);
        box[swizzled(s, i * 2) / 2] = at >= 0 ? tensor[at] : 0;
    }
    unsigned short *from, *to, *out;
    CHECK(cudaMalloc(&from, total * 2));
    CHECK(cudaMalloc(&to, total * 2));
    CHECK(cudaMalloc(&out, elements * 2));
    CHECK(cudaMemcpy(from, tensor.data(), total * 2, cudaMemcpyHostToDevice));
    changed.assign(total, 7);
    CHECK(cudaMemcpy(to, changed.data(), total * 2, cudaMemcpyHostToDevice));
    CUtensorMap map_from = tensor_map(from, s.rank, s.size, s.box, s.step, s.swizzle), map_to = tensor_map(to, s.rank, s.size, s.box, s.step, s.swizzle);
    copy<<<1, 64, elements * 2>>>(map_from, map_to, s.rank, c[0], c[1], c[2], c[3], c[4], elements, out);
    CHECK(cudaMemcpy(shown.data(), out, elements * 2, cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(changed.data(), to, total * 2, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(from));
    CHECK(cudaFree(to));
    CHECK(cudaFree(out));
    bool loaded = !std::memcmp(shown.data(), box.data(), elements * 2), stored = !std::memcmp(changed.data(), expected.data(), total * 2);
    if (!loaded || !stored) std::fprintf(stderr, "%s: %s\n", s.name, loaded ? "stored wrong" : "loaded wrong");
    return loaded && stored;
}

/* CUTLASS clears bit 21 of word 1 of the maps of tensors below 128 KiB, for drivers up to 13.1: no map may keep anything there. Wherever
   the tensor lies: at each of eight places 1 MiB apart. */
__global__ void load_line(const __grid_constant__ CUtensorMap map, unsigned short *out)
{
    __shared__ __align__(128) unsigned short box[64];
    __shared__ unsigned long long full;
    unsigned barrier = shared_address(&full);
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.prefetch.tensor.1d.L2.global.tile [%0, {%1}];" ::"l"(&map), "r"(0) : "memory");
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, sizeof box);
        tensor_load(1, shared_address(box), &map, barrier, 0);
    }
    __syncthreads();
    mbarrier_wait(barrier, 0);
    out[threadIdx.x] = box[threadIdx.x];
}

static bool maps_without_bit_21()
{
    const int size[] = {64}, box[] = {64}, step[] = {1};
    const size_t apart = 1 << 20;
    unsigned short *memory, *out, line[64], shown[64];
    bool good = true;
    CHECK(cudaMalloc(&memory, 8 * apart));
    CHECK(cudaMalloc(&out, sizeof shown));
    for (int place = 0; place < 8; place++) {
        unsigned short *at = memory + place * apart / sizeof *memory;
        for (int i = 0; i < 64; i++) line[i] = (unsigned short)(i * 5 + place);
        CHECK(cudaMemcpy(at, line, sizeof line, cudaMemcpyHostToDevice));
        CUtensorMap map = tensor_map(at, 1, size, box, step, CU_TENSOR_MAP_SWIZZLE_NONE);
        reinterpret_cast<unsigned long long *>(&map)[1] &= ~(1ull << 21);
        load_line<<<1, 64>>>(map, out);
        CHECK(cudaMemcpy(shown, out, sizeof shown, cudaMemcpyDeviceToHost));
        good = good && !std::memcmp(shown, line, sizeof line);
    }
    CHECK(cudaFree(memory));
    CHECK(cudaFree(out));
    if (!good) std::fprintf(stderr, "loaded wrong without bit 21\n");
    return good;
}

/* Boxes that are reduced into a tensor of words: rows that fit are, what lies outside is not. */
enum { WIDTH = 36, HEIGHT = 10, BOX_WIDTH = 32, BOX_HEIGHT = 4, BLOCKS = 3 };

template <int OP> __global__ void reduce_box(const __grid_constant__ CUtensorMap map, int at_x, int at_y)
{
    __shared__ __align__(128) int box[BOX_HEIGHT][BOX_WIDTH];
    for (int i = threadIdx.x; i < BOX_WIDTH * BOX_HEIGHT; i += blockDim.x) box[i / BOX_WIDTH][i % BOX_WIDTH] = i * (int(blockIdx.x) - 1);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        if (OP == 0)
            asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map), "r"(at_x), "r"(at_y),
                         "r"(shared_address(box))
                         : "memory");
        else
            asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.min.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map), "r"(at_x), "r"(at_y),
                         "r"(shared_address(box))
                         : "memory");
        asm volatile("cp.async.bulk.commit_group;\n\tcp.async.bulk.wait_group 0;" ::: "memory");
    }
}

static bool boxes_are_reduced(int op)
{
    const int size[] = {WIDTH, HEIGHT}, box[] = {BOX_WIDTH, BOX_HEIGHT}, step[] = {1, 1}, at_x = 8, at_y = 8;
    int *tensor, before[HEIGHT][WIDTH], after[HEIGHT][WIDTH];
    bool good = true;
    for (int i = 0; i < WIDTH * HEIGHT; i++) before[i / WIDTH][i % WIDTH] = i % 7 - 3;
    CHECK(cudaMalloc(&tensor, sizeof before));
    CHECK(cudaMemcpy(tensor, before, sizeof before, cudaMemcpyHostToDevice));
    CUtensorMap map = tensor_map(tensor, 2, size, box, step, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_DATA_TYPE_INT32);
    if (op)
        reduce_box<1><<<BLOCKS, 64>>>(map, at_x, at_y);
    else
        reduce_box<0><<<BLOCKS, 64>>>(map, at_x, at_y);
    CHECK(cudaMemcpy(after, tensor, sizeof after, cudaMemcpyDeviceToHost));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            int expected = before[y][x];
            for (int b = 0; b < BLOCKS && x >= at_x && y >= at_y; b++) {
                int value = ((y - at_y) * BOX_WIDTH + x - at_x) * (b - 1);
                expected = op ? value < expected ? value : expected : expected + value;
            }
            good = good && after[y][x] == expected;
        }
    CHECK(cudaFree(tensor));
    if (!good) std::fprintf(stderr, "reduced wrong\n");
    return good;
}

int main()
{
    int wrong = 0;
    for (const shape &s : shapes) wrong += !run(s);
    wrong += !maps_without_bit_21() + !boxes_are_reduced(0) + !boxes_are_reduced(1);
    return wrong != 0;
}

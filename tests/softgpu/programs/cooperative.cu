/* Cooperative groups: a grid that meets at a barrier between steps of a diffusion, tiles of a warp, and a cooperative launch. */
#include "programs/program.h"

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

namespace cg = cooperative_groups;

__global__ void diffuse(int *from, int *to, int n, int steps, int *sum)
{
    cg::grid_group grid = cg::this_grid();
    for (int s = 0; s < steps; s++) {
        for (int i = grid.thread_rank(); i < n; i += grid.size()) to[i] = from[(i + n - 1) % n] + from[(i + 1) % n];
        grid.sync();
        int *other = from;
        from = to, to = other;
    }
    cg::thread_block_tile<16> tile = cg::tiled_partition<16>(cg::this_thread_block());
    int mine = grid.thread_rank() < n ? from[grid.thread_rank()] : 0;
    int total = cg::reduce(tile, mine, cg::plus<int>());
    if (tile.thread_rank() == 0) atomicAdd(sum, total);
}

/* Tiles of several warps, which meet in shared memory that the system reserves. */
__global__ void reduce_tiles(const int *x, int *sums)
{
    __shared__ cg::block_tile_memory<192> scratch;
    cg::thread_block block = cg::this_thread_block(scratch);
    cg::thread_block_tile<64> tile = cg::tiled_partition<64>(block);
    int total = cg::reduce(tile, x[block.thread_rank()], cg::plus<int>());
    tile.sync();
    if (tile.thread_rank() == 0) sums[tile.meta_group_rank()] = total;
}

static void check_tiles()
{
    std::vector<int> x(192), expected(3);
    for (int i = 0; i < 192; i++) x[i] = number(i), expected[i / 64] += x[i];
    int *in = to_device(x), *sums = to_device(std::vector<int>(3, 0));
    reduce_tiles<<<1, 192>>>(in, sums);
    EXPECT(to_host(sums, 3) == expected);
    CHECK(cudaFree(in));
    CHECK(cudaFree(sums));
}

int main()
{
    int n = 300, steps = 5, supported = 0;
    std::vector<int> x(n), y(n);
    for (int i = 0; i < n; i++) x[i] = number(i);
    int *from = to_device(x), *to = to_device(y), *sum = to_device(std::vector<int>(1, 0)), expected = 0;
    CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrCooperativeLaunch, 0));
    EXPECT(supported);
    void *arguments[] = {&from, &to, &n, &steps, &sum};
    CHECK(cudaLaunchCooperativeKernel(diffuse, 6, 64, arguments, 0, nullptr));
    int total = to_host(sum, 1)[0];
    std::vector<int> result = to_host(steps % 2 ? to : from, n);
    for (int s = 0; s < steps; s++, x = y)
        for (int i = 0; i < n; i++) y[i] = x[(i + n - 1) % n] + x[(i + 1) % n];
    EXPECT(result == x);
    for (int v : x) expected += v;
    EXPECT(total == expected);
    CHECK(cudaFree(from));
    CHECK(cudaFree(to));
    CHECK(cudaFree(sum));
    check_tiles();
}

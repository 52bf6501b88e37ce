// Sums and maxima over the lanes of a warp; every lane gets the result.
#pragma once

namespace attend
{

__device__ inline float warp_sum(float x)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

__device__ inline float warp_max(float x)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
    return x;
}

} // namespace attend

// The merge of rows whose keys were split (flash_mma.cuh): one partial result for each chunk of
// attend_chunk_keys keys that the row sees some of, merged in the order of the keys, so that no card, batch
// or schedule changes a bit. Chunks are as many as the plan's longest keys have; past an entry's own length,
// and outside of windows, none is written or read.
#pragma once

#include "kernels.h"
#include "mask.cuh"
#include "softmax.cuh"

namespace attend
{

// Rows are counted as (batch, KV head, query, head of the group); each has `chunks` outputs, and after all of
// these as many states.
struct partial_rows {
    int64_t dims, chunks, partials; // partials: of all rows

    __host__ __device__ explicit partial_rows(const attend_problem &p, int64_t chunks_)
        : dims(p.head_dim_v), chunks(chunks_), partials(p.batch * p.num_heads * p.seqlen_q * chunks_)
    {
    }
    __host__ __device__ int64_t output(int64_t row, int64_t chunk) const
    {
        return (row * chunks + chunk) * dims;
    }
    __host__ __device__ int64_t state(int64_t row, int64_t chunk) const
    {
        return (partials * dims + 1) / 2 * 2 + (row * chunks + chunk) * 2;
    }
    __host__ __device__ int64_t floats() const { return state(0, 0) + 2 * partials; }
};

template <typename T> __device__ void combine(const attend_kernel_args &args)
{
    const attend_problem &p = args.problem;
    const partial_rows rows(p, args.chunks);
    const int64_t group = p.num_heads / p.num_kv_heads, row = blockIdx.x;
    const int64_t query = row / group % p.seqlen_q, pair = row / group / p.seqlen_q;
    const int64_t batch = pair / p.num_kv_heads, head = pair % p.num_kv_heads * group + row % group;
    const float2 *const states = reinterpret_cast<const float2 *>(args.partials + rows.state(row, 0));

    const attend_sequence sequence = attend_sequence_of(&p, &args.lists, batch);
    const bool padding = query >= sequence.seqlen_q; // it has an LSE of -inf
    const key_interval seen = padding ? key_interval() : visible_keys(p, sequence, query);
    const int begin = seen.begin / attend_chunk_keys,
              end = seen.begin < seen.end ? (seen.end - 1) / attend_chunk_keys + 1 : begin;

    base2_row all;
    for (int chunk = begin; chunk < end; chunk++) all.reference = fmaxf(all.reference, states[chunk].x);
    for (int chunk = begin; chunk < end; chunk++) all.merge(states[chunk].x, states[chunk].y);
    float normaliser, lse;
    all.finish(p.sinks && !padding ? attend_head_sink(&args.terms, head) : -INFINITY, normaliser, lse);
    T *const out = static_cast<T *>(args.out.data) + batch * args.out.batch + query * args.out.seqlen +
                   head * args.out.head;
    for (int64_t column = threadIdx.x; column < rows.dims; column += blockDim.x) {
        float o = 0;
        for (int chunk = begin; chunk < end; chunk++)
            o = fmaf(args.partials[rows.output(row, chunk) + column], ex2(states[chunk].x - all.reference),
                     o);
        out[column] = static_cast<T>(o * normaliser);
    }
    if (args.lse.data && threadIdx.x == 0)
        static_cast<float *>(
            args.lse.data)[batch * args.lse.batch + head * args.lse.head + query * args.lse.seqlen] = lse;
}

} // namespace attend

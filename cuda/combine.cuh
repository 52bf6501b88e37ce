// Merges the partial results of rows whose spans are split over blocks (flash_mma.cuh): in ascending order of
// keys, by the arithmetic of a block that takes all of them (spans.cuh). A span of which a row sees no key,
// past the entry's own length or outside its window, has no partial result: none is written or read.
#pragma once

#include "kernels.h"
#include "mask.cuh"
#include "softmax.cuh"

namespace attend
{

// The order of rows is (batch, KV head, query, head of the group). Memory holds the outputs, `spans` a row,
// and behind all outputs the states (max, sum), `spans` a row.
struct partial_rows {
    int64_t dims, spans, partials; // partials: spans of all rows

    __host__ __device__ explicit partial_rows(const attend_problem &p, int64_t spans_)
        : dims(p.head_dim_v), spans(spans_), partials(p.batch * p.num_heads * p.seqlen_q * spans_)
    {
    }
    __host__ __device__ int64_t output(int64_t row, int64_t span) const
    {
        return (row * spans + span) * dims;
    }
    __host__ __device__ int64_t state(int64_t row, int64_t span) const
    {
        return (partials * dims + 1) / 2 * 2 + (row * spans + span) * 2;
    }
    __host__ __device__ int64_t floats() const { return state(0, 0) + 2 * partials; }
};

// One block a row, one thread a column.
template <typename T> __device__ void combine(const attend_kernel_args &args)
{
    const attend_problem &p = args.problem;
    const partial_rows rows(p, args.splits);
    const int64_t group = p.num_heads / p.num_kv_heads, row = blockIdx.x;
    const int64_t query = row / group % p.seqlen_q, pair = row / group / p.seqlen_q;
    const int64_t batch = pair / p.num_kv_heads, head = pair % p.num_kv_heads * group + row % group;
    const float2 *const states = reinterpret_cast<const float2 *>(args.partials + rows.state(row, 0));
    const int64_t column = threadIdx.x;
    const bool has_column = column < rows.dims;

    const attend_sequence sequence = attend_sequence_of(&p, &args.lists, batch);
    const bool padding = query >= sequence.seqlen_q; // its LSE is -inf
    key_interval seen = padding ? key_interval() : visible_keys(p, sequence, query);
    seen = {max(seen.begin, static_cast<int>(args.first_key)), min(seen.end, static_cast<int>(args.end_key))};
    const int begin = seen.begin / attend_span_keys,
              end = seen.begin < seen.end ? (seen.end - 1) / attend_span_keys + 1 : begin;

    const auto at = [&](const attend_view &view) {
        return static_cast<float *>(view.data) + batch * view.batch + query * view.seqlen + head * view.head;
    };
    softmax_row all;
    float o = 0;
    if (args.from.out.data && !padding) {
        all.load(*at(args.from.max), *at(args.from.sum));
        if (has_column) o = at(args.from.out)[column];
    }
    for (int span = begin; span < end; span++) {
        softmax_row next;
        next.max = states[span].x, next.sum = states[span].y;
        float own, others;
        all.merge(next, own, others);
        if (has_column)
            o = softmax_row::merged(o, own, args.partials[rows.output(row, span) + column], others);
    }
    if (args.into.out.data) {
        __syncthreads(); // all threads have read `from`, which `into` may alias
        if (has_column) at(args.into.out)[column] = all.sum == 0 ? 0 : o;
        if (column == 0) all.store(at(args.into.max), at(args.into.sum));
        return;
    }
    float normaliser, lse;
    all.finish(p.sinks && !padding ? attend_head_sink(&args.terms, head) : -INFINITY, normaliser, lse);
    if (has_column)
        (static_cast<T *>(args.out.data) + batch * args.out.batch + query * args.out.seqlen +
         head * args.out.head)[column] = static_cast<T>(softmax_row::finished(o, normaliser));
    if (args.lse.data && column == 0) *at(args.lse) = lse;
}

} // namespace attend

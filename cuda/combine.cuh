// Merges the partial results of rows whose spans are split over blocks: in ascending order of keys, by the
// arithmetic of a block that takes all of them (spans.cuh). A span of which a row sees no key, past the
// entry's own length or outside its window, has no partial result: none is written or read.
#pragma once

#include "kernels.h"
#include "mask.cuh"
#include "order.cuh"
#include "softmax.cuh"

#include <algorithm>

namespace attend
{

// The order of a box's rows is (batch, KV head, query, head of the group). Memory holds the outputs, `spans`
// a row, and behind all outputs the states (max, sum), `spans` a row.
struct partial_rows {
    int64_t dims, spans, partials; // partials: spans of all rows

    __host__ __device__ partial_rows(const attend_problem &p, const attend_kernel_box &box, int64_t spans_)
        : dims(p.head_dim_v), spans(spans_),
          partials(box.batch * box.kv_heads * (p.num_heads / p.num_kv_heads) *
                   (box.end_query - box.first_query) * spans_)
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

// The schedule of splits: each span gets a block of its own where a KV head has few query rows, since there
// are few blocks then, however long the keys are. combine() needs a block a row.
inline int64_t split_spans(const attend_problem &p, const attend_kernel_box &box)
{
    const int64_t group = p.num_heads / p.num_kv_heads;
    const bool few_rows = !p.packed && group <= attend_split_rows && p.seqlen_q * group <= attend_split_rows;
    int64_t merged;
    if (!few_rows || !count_blocks(box, group, box.end_query - box.first_query, &merged)) return 1;
    const int64_t end = (box.end_key + attend_span_keys - 1) / attend_span_keys;
    return std::max<int64_t>(1, end - box.first_key / attend_span_keys);
}

inline int64_t partial_bytes(const attend_problem *p, const attend_kernel_box *box)
{
    const int64_t splits = split_spans(*p, *box);
    return splits > 1 ? 4 * partial_rows(*p, *box, splits).floats() : 0;
}

// One block a row, one thread a column.
template <typename T> __device__ void combine(const attend_kernel_args &args)
{
    const attend_problem &p = args.problem;
    const attend_kernel_box &box = args.box;
    const partial_rows rows(p, box, args.splits);
    const int64_t group = p.num_heads / p.num_kv_heads, row = blockIdx.x;
    const int64_t queries = box.end_query - box.first_query, pair = row / group / queries;
    const int64_t query = box.first_query + row / group % queries,
                  batch = box.first_batch + pair / box.kv_heads,
                  head = (box.first_kv_head + pair % box.kv_heads) * group + row % group;
    const int first_span = static_cast<int>(box.first_key / attend_span_keys);
    const float2 *const states = reinterpret_cast<const float2 *>(args.partials + rows.state(row, 0));
    const int64_t column = threadIdx.x;
    const bool has_column = column < rows.dims;

    const attend_sequence sequence = attend_sequence_of(&p, &args.lists, batch);
    const bool padding = query >= sequence.seqlen_q; // its LSE is -inf
    key_interval seen = padding ? key_interval() : visible_keys(p, sequence, query);
    seen = {max(seen.begin, static_cast<int>(box.first_key)), min(seen.end, static_cast<int>(box.end_key))};
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
        next.max = states[span - first_span].x, next.sum = states[span - first_span].y;
        float own, others;
        all.merge(next, own, others);
        if (has_column)
            o = softmax_row::merged(o, own, args.partials[rows.output(row, span - first_span) + column],
                                    others);
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

using combine_kernel = void(attend_kernel_args);

// After the last launch of a grid; nothing where spans are not split.
inline cudaError_t launch_combine(combine_kernel *kernel, const attend_kernel_args &args, cudaStream_t stream)
{
    if (args.splits == 1) return cudaSuccess;
    void *parameters[] = {const_cast<attend_kernel_args *>(&args)};
    const unsigned dims = static_cast<unsigned>(args.problem.head_dim_v);
    return cudaLaunchKernel(reinterpret_cast<const void *>(kernel),
                            static_cast<unsigned>(partial_rows(args.problem, args.box, 1).partials),
                            (dims + 31) / 32 * 32, parameters, 0, stream);
}

} // namespace attend

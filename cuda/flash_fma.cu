// Attention on the CUDA cores in fp32, for tensors of any dtype and alignment: FlashAttention's algorithm
// (arXiv:2307.08691). For a tile of queries Q and, one after the other, the tiles K, V of keys:
//     S = Q·Kᵀ;  m' = max(m, c·rowmax S);  P = 2^(c·S - m');
//     l = l·2^(m - m') + rowsum P;  O = O·2^(m - m') + P·V
// and in the end out = O / l, lse = ln 2·m + ln l, where c = scale·log2 e. After each span of 1024 keys m, l
// and O are merged into a total and start anew (spans.cuh). Scores are never written to global memory.
//
// A block has 16 threads across and tile_q/4 down; thread (x, y) owns the rows 4y..4y+3, of S the columns x +
// 16j, of O the columns 2x + 32j. Q, K, V and P lie in shared memory as fp32, rows of Q, K and P four floats
// apart from a multiple of 32 banks, so that every access is free of conflicts. K of the next tile is fetched
// during P·V, V during Q·Kᵀ.
#include "choice.cuh"
#include "combine.cuh"
#include "kernels.h"
#include "keys.cuh"
#include "core/feature_set.h"
#include "fma_elements.cuh"
#include "order.cuh"
#include "search.cuh"
#include "softmax.cuh"
#include "spans.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace attend
{
namespace
{

constexpr int across = fma_across, rows = fma_rows;
constexpr uint64_t features = ATTEND_FEATURES_INTERVAL | ATTEND_FEATURES_ELEMENT | ATTEND_FEATURES_HEAD;

template <int dim> struct fma_tile {
    static constexpr int q = dim <= 128 ? 64 : 32, k = dim <= 96 ? 64 : dim <= 192 ? 32 : 16;
    static constexpr int threads = q / rows * across;
    static constexpr int pitch = dim + 4, pitch_p = k + 4, pitch_v = dim;
    static constexpr int floats_q = q * pitch, floats_k = k * pitch, floats_v = k * pitch_v,
                         floats_p = q * pitch_p;
    static constexpr int floats = floats_q + floats_k + floats_v + floats_p,
                         shared_bytes = floats * 4 + sizeof(tile_search) + sizeof(int);
    static constexpr int span_tiles = attend_span_keys / k;
    static_assert(floats % 4 == 0, "what lies behind is aligned");
    static_assert(dim % 32 == 0 && k % across == 0 && attend_span_keys % k == 0);
    static_assert(threads * (rows / 2 * (dim / 32 + 1)) * 16 <= attend_slot_bytes);
    static_assert(shared_bytes <= 99 * 1024, "the least that a card since Ampere gives a block");
};

// The next keys of a sequence in pages. Not inlined, so that it takes no registers from keys in one piece.
template <typename T, int tile_rows, int dim, int pitch, int threads>
__device__ __noinline__ void load_pages(float *tile, const attend_kernel_args &args, const attend_view &pool,
                                        const attend_sequence &sequence, int64_t head, int64_t key,
                                        int dim_used)
{
    load_rows<T, tile_rows, dim, pitch, threads>(tile, rows_in_pages<T>{pool, args.keys, sequence, head, key},
                                                 sequence.seqlen_k - key, dim_used, args.aligned);
}

// Negates Q where the scale is negative: all that follows uses |scale|. Each thread negates what it copied
// itself.
template <int tile_rows, int dim, int pitch, int threads> __device__ void negate_tile(float *tile)
{
    cp_async_wait<0>();
#pragma unroll 1
    for (int vector = threadIdx.x; vector < tile_rows * (dim / 4); vector += threads) {
        float4 &x = *reinterpret_cast<float4 *>(tile + vector / (dim / 4) * pitch + vector % (dim / 4) * 4);
        x = {-x.x, -x.y, -x.z, -x.w};
    }
}

// The maximum over the 16 neighbouring lanes that share a row.
__device__ inline float row_max(float x)
{
#pragma unroll
    for (int lane = across / 2; lane; lane /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
    return x;
}

// O += P·V and l += rowsum P, both key by key, so that their rounding errors are alike and cancel in O / l.
// In border tiles a row skips its masked keys, since 0·NaN and 0·infinity are NaN.
template <typename tile, int columns, bool border>
__device__ void aggregate(float2 (&o)[rows][columns], softmax_row (&state)[rows], const float *p,
                          const float *v)
{
#pragma unroll 2
    for (int key = 0; key < tile::k; key += 4) {
        float weight[rows][4];
        load_weights<tile::pitch_p>(weight, p + key);
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int i = 0; i < rows; i++) state[i].sum += weight[i][j];
            add_row<border>(o, weight, j, v + (key + j) * tile::pitch_v);
        }
    }
}

// Addresses of rows of the block's head in a tensor of floats, at this thread's first column.
struct float_rows {
    float *row0;
    int64_t step;

    __device__ float_rows(const attend_view &view, const attend_sequence &sequence,
                          const block_coordinates &block_at, int64_t row, int64_t column = 0)
        : row0(static_cast<float *>(view.data) + sequence.batch * view.batch +
               (sequence.first_q + row) * view.seqlen + block_at.head * view.head + column),
          step(view.seqlen)
    {
    }
    __device__ float *operator[](int i) const { return row0 + i * step; }
};

// Merges the span's sums behind the total in the block's slot; the result stays in registers.
template <int columns, int threads>
__device__ void merge_slot(float2 (&o)[rows][columns], softmax_row (&state)[rows],
                           const slot_part<threads> &slot)
{
#pragma unroll
    for (int i = 0; i < rows; i += 2) {
        const float4 states = slot[rows / 2 * columns + i / 2];
        softmax_row all[2];
        all[0].max = states.x, all[0].sum = states.y, all[1].max = states.z, all[1].sum = states.w;
        float own[2], others[2];
#pragma unroll
        for (int n = 0; n < 2; n++) {
            all[n].merge(state[i + n], own[n], others[n]);
            state[i + n] = all[n];
        }
#pragma unroll
        for (int c = 0; c < columns; c++) {
            const float4 total = slot[i / 2 * columns + c];
            o[i][c] = {softmax_row::merged(total.x, own[0], o[i][c].x, others[0]),
                       softmax_row::merged(total.y, own[0], o[i][c].y, others[0])};
            o[i + 1][c] = {softmax_row::merged(total.z, own[1], o[i + 1][c].x, others[1]),
                           softmax_row::merged(total.w, own[1], o[i + 1][c].y, others[1])};
        }
    }
}

// Stores the total in the slot and clears the registers for the next span.
template <int columns, int threads>
__device__ void store_total(float2 (&o)[rows][columns], softmax_row (&state)[rows],
                            const slot_part<threads> &slot)
{
#pragma unroll
    for (int i = 0; i < rows; i += 2) {
        slot[rows / 2 * columns + i / 2] = {state[i].max, state[i].sum, state[i + 1].max, state[i + 1].sum};
        state[i] = state[i + 1] = softmax_row();
#pragma unroll
        for (int c = 0; c < columns; c++) {
            slot[i / 2 * columns + c] = {o[i][c].x, o[i][c].y, o[i + 1][c].x, o[i + 1][c].y};
            o[i][c] = o[i + 1][c] = {0, 0};
        }
    }
}

// Stores the caller's state (args.from) in the slot, as the total before the first span. Rows past `last` get
// an empty state. dims: those from the thread's first column on.
template <int columns, int threads>
__device__ void load_total(const slot_part<threads> &slot, const float_rows &out, const float_rows &max,
                           const float_rows &sum, int64_t last, int dims)
{
#pragma unroll 1
    for (int i = 0; i < rows; i += 2) {
        softmax_row state[2];
#pragma unroll
        for (int half = 0; half < 2; half++)
            if (i + half <= last) state[half].load(*max[i + half], *sum[i + half]);
        slot[rows / 2 * columns + i / 2] = {state[0].max, state[0].sum, state[1].max, state[1].sum};
#pragma unroll 1
        for (int c = 0; c < columns; c++) {
            float o[4] = {};
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (i + e / 2 <= last && 32 * c + e % 2 < dims) o[e] = out[i + e / 2][32 * c + e % 2];
            slot[i / 2 * columns + c] = {o[0], o[1], o[2], o[3]};
        }
    }
}

// Stores a row's state over this block's split, from this thread's first column on, for combine() to merge.
template <int columns>
__device__ void store_partial(const float2 (&o)[columns], const softmax_row &state,
                              const attend_kernel_args &args, const block_coordinates &block_at, int64_t row,
                              int column)
{
    const attend_kernel_box &box = args.box;
    const partial_rows partials(args.problem, box, args.splits);
    const int64_t group = args.problem.num_heads / args.problem.num_kv_heads,
                  pair = (block_at.batch - box.first_batch) * box.kv_heads + block_at.head / group -
                         box.first_kv_head,
                  n = (pair * (box.end_query - box.first_query) + row - box.first_query) * group +
                      block_at.head % group,
                  split = block_at.tile % args.splits;
    float *const to = args.partials + partials.output(n, split);
#pragma unroll
    for (int c = 0; c < columns; c++) {
        if (column + 32 * c < partials.dims) to[column + 32 * c] = o[c].x;
        if (column + 32 * c + 1 < partials.dims) to[column + 32 * c + 1] = o[c].y;
    }
    if (column == 0)
        *reinterpret_cast<float2 *>(args.partials + partials.state(n, split)) = {state.max, state.sum};
}

template <typename T, int dim>
__global__ void __launch_bounds__(fma_tile<dim>::threads, 1)
    flash_fma(const __grid_constant__ attend_kernel_args args, const __grid_constant__ block_order order)
{
    using tile = fma_tile<dim>;
    constexpr int keys = tile::k / across, columns = dim / 32;
    extern __shared__ float4 shared[];
    float *const q_tile = reinterpret_cast<float *>(shared), *const k_tile = q_tile + tile::floats_q;
    float *const v_tile = k_tile + tile::floats_k, *const p_tile = v_tile + tile::floats_v;

    const attend_problem &problem = args.problem;
    const block_coordinates block_at = find_block(order, blockIdx.x);
    const attend_sequence sequence = attend_sequence_of(&problem, &args.lists, block_at.batch);
    const int64_t seqlen_k = sequence.seqlen_k;
    const int64_t row0 = block_at.tile / args.splits * tile::q + args.box.first_query,
                  head_kv = block_at.head / (problem.num_heads / problem.num_kv_heads);
    const T *q = static_cast<const T *>(args.q.data) + sequence.batch * args.q.batch +
                 block_at.head * args.q.head + (sequence.first_q + row0) * args.q.seqlen;
    const T *k = static_cast<const T *>(args.k.data) + sequence.batch * args.k.batch + head_kv * args.k.head +
                 sequence.first_k * args.k.seqlen;
    const T *v = static_cast<const T *>(args.v.data) + sequence.batch * args.v.batch + head_kv * args.v.head +
                 sequence.first_k * args.v.seqlen;

    const int x = threadIdx.x % across, y = threadIdx.x / across * rows;
    // The softmax takes dot products with a scale or, if there are terms, scores in natural units.
    const bool scored = attend_adds_terms(&problem), searches = attend_hides_tiles(&problem);
    const float head_scale = attend_head_scale(&problem, &args.terms, block_at.head);
    const float scale = scored ? log2e : fabsf(head_scale) * log2e;
    // Neither end of a row's visible interval decreases from row to row. So the first row and the last give
    // the tiles that some rows and that all rows see. Tiles start at multiples of their size, so a row's sums
    // do not depend on the other rows of the block.
    const int64_t last = min(row0 + tile::q, min(sequence.seqlen_q, args.box.end_query)) - 1;
    const bool works = row0 + threadIdx.x / 32 * (32 / across * rows) <= last; // this warp has rows
    // some keys have no page
    bool holes = false;
    if (args.keys.table) {
        const int64_t first = last < row0 ? 0 : attend_visible_begin(&problem, &sequence, row0),
                      end = last < row0 ? 0 : attend_visible_end(&problem, &sequence, last);
        holes = lacks_pages(args.keys, sequence, max(first, args.box.first_key), min(end, args.box.end_key));
    }
    const bool elementwise = holes || attend_is_elementwise(&problem);
    tile_search &search = *reinterpret_cast<tile_search *>(reinterpret_cast<float *>(shared) + tile::floats);
    const tile_range &seen = search.run;
    int &slot = *reinterpret_cast<int *>(&search + 1);
    constexpr int no_slot = -1, idle = -2; // idle: no row sees a key of this block's split
    if (threadIdx.x == 0) slot = no_slot;
    if (threadIdx.x < 32) {
        tile_range all = {0, 0, 0, 0};
        if (last >= row0)
            all = visible_tiles(visible_keys(problem, sequence, row0), visible_keys(problem, sequence, last),
                                tile::k);
        if (scored || holes || problem.mask_axes) all.full_begin = all.full_end = 0;
        if (args.splits > 1) {
            const int span =
                static_cast<int>(args.box.first_key / attend_span_keys + block_at.tile % args.splits);
            all.restrict(span * tile::span_tiles, (span + 1) * tile::span_tiles);
        }
        all.restrict(args, tile::k);
        if (threadIdx.x == 0 && args.splits > 1 && all.begin >= all.end) slot = idle;
        if (searches && all.begin < all.end) {
            tile_search first;
            first.begin(all, sequence, block_at.batch, row0, last + 1, block_at.head, 1);
            first.ids =
                problem.segments ? ids_of_rows(args.terms, sequence, row0, first.queries) : attend_no_ids();
            if (threadIdx.x == 0) search = first;
            __syncwarp();
            find_run<tile::k>(args, search, all.begin);
        } else if (threadIdx.x == 0) {
            search.run = all;
        }
    }
    __syncthreads();
    if (args.splits > 1 && slot == idle) return; // combine() reads nothing of it

    const auto load_k = [&](int64_t key) {
        if (args.keys.table)
            load_pages<T, tile::k, dim, tile::pitch, tile::threads>(k_tile, args, args.k, sequence, head_kv,
                                                                    key, static_cast<int>(problem.head_dim));
        else
            load_tile<T, tile::k, dim, tile::pitch, tile::threads>(
                k_tile, k + key * args.k.seqlen, args.k.seqlen, seqlen_k - key,
                static_cast<int>(problem.head_dim), args.aligned);
    };
    const auto load_v = [&](int64_t key) {
        if (args.keys.table)
            load_pages<T, tile::k, dim, tile::pitch_v, tile::threads>(
                v_tile, args, args.v, sequence, head_kv, key, static_cast<int>(problem.head_dim_v));
        else
            load_tile<T, tile::k, dim, tile::pitch_v, tile::threads>(
                v_tile, v + key * args.v.seqlen, args.v.seqlen, seqlen_k - key,
                static_cast<int>(problem.head_dim_v), args.aligned);
    };
    if (seen.begin < seen.end) {
        load_tile<T, tile::q, dim, tile::pitch, tile::threads>(
            q_tile, q, args.q.seqlen, last + 1 - row0, static_cast<int>(problem.head_dim), args.aligned);
        if (head_scale < 0 && !scored) negate_tile<tile::q, dim, tile::pitch, tile::threads>(q_tile);
        load_k(int64_t(seen.begin) * tile::k);
    }

    softmax_row state[rows];
    float2 o[rows][columns] = {};
    const auto part = [&] { return slot_part<tile::threads>(args, slot); };
    if (args.from.out.data && args.splits == 1) {
        if (threadIdx.x == 0) slot = acquire_slot(args);
        __syncthreads();
        load_total<columns>(part(), float_rows(args.from.out, sequence, block_at, row0 + y, 2 * x),
                            float_rows(args.from.max, sequence, block_at, row0 + y),
                            float_rows(args.from.sum, sequence, block_at, row0 + y), last - row0 - y,
                            static_cast<int>(problem.head_dim_v) - 2 * x);
        __syncthreads(); // all threads have read `from`, which `into` may alias
    }
    int span_end = (seen.begin / tile::span_tiles + 1) * tile::span_tiles;
#pragma unroll 1
    for (int t = seen.begin; t < seen.end;) {
        if (t >= span_end) {
            if (slot >= 0) merge_slot(o, state, part());
            span_end = (t / tile::span_tiles + 1) * tile::span_tiles;
            __syncthreads(); // all threads have read slot
            if (threadIdx.x == 0 && slot < 0) slot = acquire_slot(args);
            __syncthreads();
            store_total(o, state, part());
        }
        const int64_t key = int64_t(t) * tile::k;
        const bool border = seen.border(t), run_ends = t + 1 == seen.end;
        int first[rows], limit[rows]; // the row's visible interval within this tile
#pragma unroll
        for (int i = 0; i < rows; i++) first[i] = 0, limit[i] = tile::k;
        if (border)
#pragma unroll
            for (int i = 0; i < rows; i++) {
                const int64_t row = row0 + y + i;
                first[i] = clamp_keys(attend_visible_begin(&problem, &sequence, row) - key, tile::k);
                limit[i] =
                    row > last ? 0 : clamp_keys(attend_visible_end(&problem, &sequence, row) - key, tile::k);
            }
        cp_async_wait<0>();
        __syncthreads(); // K is here, and no thread reads V or P any more
        load_v(key);
        if (searches && run_ends && threadIdx.x < 32) find_run<tile::k>(args, search, t + 1);

        if (works) {
            float s[rows][keys] = {};
            for (int c = 0; c < dim; c += fma_summand)
                score<tile>(s, q_tile + y * tile::pitch + c, k_tile + x * tile::pitch + c);

            // this thread's scores, later weights: rows down, keys `across` apart
            float *const own_p = p_tile + y * tile::pitch_p + x;
            if (border && elementwise) {
#pragma unroll
                for (int i = 0; i < rows; i++)
#pragma unroll
                    for (int j = 0; j < keys; j++) own_p[i * tile::pitch_p + across * j] = s[i][j];
                score_elements<keys, tile::pitch_p, false>(
                    attend_head_of(&problem, &args.terms, &sequence, block_at.batch, block_at.head), own_p,
                    nullptr, row0 + y, key + x, last + 1, args.keys.table ? &args.keys : nullptr);
#pragma unroll
                for (int i = 0; i < rows; i++)
#pragma unroll
                    for (int j = 0; j < keys; j++) s[i][j] = own_p[i * tile::pitch_p + across * j];
            }
#pragma unroll
            for (int i = 0; i < rows; i++) {
                float tile_max = -INFINITY;
#pragma unroll
                for (int j = 0; j < keys; j++) {
                    const int column = x + across * j;
                    if (column < first[i] || column >= limit[i]) s[i][j] = -INFINITY;
                    tile_max = fmaxf(tile_max, s[i][j]);
                }
                const far_weights of_row(state[i], row_max(tile_max), scale);
#pragma unroll
                for (int c = 0; c < columns; c++) o[i][c].x *= of_row.shrink, o[i][c].y *= of_row.shrink;
#pragma unroll
                for (int j = 0; j < keys; j++)
                    own_p[i * tile::pitch_p + across * j] =
                        s[i][j] == -INFINITY ? hidden : of_row.weight(s[i][j], scale);
            }
        }
        cp_async_wait<0>();
        __syncthreads(); // V and P are here, and no thread reads K any more
        t = max(t + 1, seen.begin);
        if (t < seen.end) load_k(int64_t(t) * tile::k);
        if (!works) continue;
        if (border)
            aggregate<tile, columns, true>(o, state, p_tile + y * tile::pitch_p, v_tile + 2 * x);
        else
            aggregate<tile, columns, false>(o, state, p_tile + y * tile::pitch_p, v_tile + 2 * x);
    }

    if (slot >= 0) merge_slot(o, state, part());
#pragma unroll
    for (int i = 0; i < rows; i++)
        if (row0 + y + i > last) { // padding past the query length: the zeros of Q got weights too
            state[i] = softmax_row();
#pragma unroll
            for (int c = 0; c < columns; c++) o[i][c] = {0, 0};
        }
#pragma unroll
    for (int i = 0; i < rows; i++) {
        const int64_t row = row0 + y + i;
        if (row >= min(attend_rows_of(&problem, &sequence), args.box.end_query)) continue;
        if (args.splits > 1) {
            if (row <= last) store_partial(o[i], state[i], args, block_at, row, 2 * x);
            continue;
        }
        if (args.into.out.data) {
            float *const out = float_rows(args.into.out, sequence, block_at, row, 2 * x)[0];
#pragma unroll
            for (int c = 0; c < columns; c++) {
                if (2 * x + 32 * c < problem.head_dim_v) out[32 * c] = state[i].sum == 0 ? 0 : o[i][c].x;
                if (2 * x + 32 * c + 1 < problem.head_dim_v)
                    out[32 * c + 1] = state[i].sum == 0 ? 0 : o[i][c].y;
            }
            if (x == 0)
                state[i].store(float_rows(args.into.max, sequence, block_at, row)[0],
                               float_rows(args.into.sum, sequence, block_at, row)[0]);
            continue;
        }
        float normaliser, lse;
        state[i].finish(problem.sinks && row <= last ? attend_head_sink(&args.terms, block_at.head)
                                                     : -INFINITY,
                        normaliser, lse);
        T *out = static_cast<T *>(args.out.data) + sequence.batch * args.out.batch +
                 (sequence.first_q + row) * args.out.seqlen + block_at.head * args.out.head;
#pragma unroll
        for (int c = 0; c < columns; c++) {
            const int column = 2 * x + 32 * c;
            if (column < problem.head_dim_v)
                out[column] = static_cast<T>(softmax_row::finished(o[i][c].x, normaliser));
            if (column + 1 < problem.head_dim_v)
                out[column + 1] = static_cast<T>(softmax_row::finished(o[i][c].y, normaliser));
        }
        if (args.lse.data && x == 0) *float_rows(args.lse, sequence, block_at, row)[0] = lse;
    }
    if (slot < 0) return;
    __syncthreads(); // all threads have read the slot
    if (threadIdx.x == 0) release_slot(args, slot);
}

template <typename T, int dim> cudaError_t prepare()
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(&flash_fma<T, dim>),
                                cudaFuncAttributeMaxDynamicSharedMemorySize, fma_tile<dim>::shared_bytes);
}

template <typename T> __global__ void flash_fma_combine(const __grid_constant__ attend_kernel_args args)
{
    combine<T>(args);
}

// (query tile, split) pairs of one head; false where they exceed the limits.
template <int dim> bool count_tiles(const attend_problem &p, const attend_kernel_box &box, int64_t *tiles)
{
    const int64_t queries = box.end_query - box.first_query;
    return !__builtin_mul_overflow((queries + fma_tile<dim>::q - 1) / fma_tile<dim>::q, split_spans(p, box),
                                   tiles);
}

template <int dim> bool grid(const attend_problem *p, const attend_kernel_box *box, attend_kernel_grid *grid)
{
    int64_t tiles;
    *grid = {0, split_spans(*p, *box), false};
    return count_tiles<dim>(*p, *box, &tiles) &&
           count_blocks(*box, p->num_heads / p->num_kv_heads, tiles, &grid->blocks);
}

template <typename T, int dim> cudaError_t launch(const attend_kernel_args *given, cudaStream_t stream)
{
    using tile = fma_tile<dim>;
    attend_kernel_args args = *given;
    const attend_problem &p = args.problem;
    int64_t tiles;
    block_order order;
    args.splits = split_spans(p, args.box);
    if (!count_tiles<dim>(p, args.box, &tiles) ||
        !order_blocks(args, p.num_heads / p.num_kv_heads, tiles, &order))
        return cudaErrorInvalidConfiguration;
    bool last;
    const uint32_t blocks = blocks_to_launch(args, order, &last);
    if (blocks == 0) return cudaSuccess;
    void *parameters[] = {&args, &order};
    const cudaError_t error = cudaLaunchKernel(reinterpret_cast<const void *>(&flash_fma<T, dim>), blocks,
                                               tile::threads, parameters, tile::shared_bytes, stream);
    return error == cudaSuccess && last ? launch_combine(&flash_fma_combine<T>, args, stream) : error;
}

template <typename T, int dim> constexpr attend_kernel_row row(const char *name, attend_dtype dtype)
{
    using tile = fma_tile<dim>;
    return {{name,
             ATTEND_CUDA,
             dtype,
             dim,
             dim,
             least_architecture,
             tile::q,
             tile::k,
             tile::threads,
             tile::shared_bytes,
             features,
             false,
             false,
             {}},
            true,
            0,
            partial_bytes,
            grid<dim>,
            prepare<T, dim>,
            launch<T, dim>};
}

} // namespace
} // namespace attend

// The 16-bit rows serve tensors whose rows are not aligned. They compute in fp32 and round only what they
// store; two sizes suffice.
constexpr attend_kernel_row attend_flash_fma_rows[] = {
    // clang-format off
    ATTEND_D32(attend::row<float, 32>("flash_fma_f32_d32", ATTEND_F32),)
    ATTEND_D64(attend::row<float, 64>("flash_fma_f32_d64", ATTEND_F32),)
    ATTEND_D96(attend::row<float, 96>("flash_fma_f32_d96", ATTEND_F32),)
    ATTEND_D128(attend::row<float, 128>("flash_fma_f32_d128", ATTEND_F32),)
    ATTEND_D192(attend::row<float, 192>("flash_fma_f32_d192", ATTEND_F32),)
    ATTEND_D256(attend::row<float, 256>("flash_fma_f32_d256", ATTEND_F32),)
    ATTEND_TO_128(attend::row<__half, 128>("flash_fma_f16_d128", ATTEND_F16),)
    ATTEND_TO_256(attend::row<__half, 256>("flash_fma_f16_d256", ATTEND_F16),)
    ATTEND_TO_128(attend::row<__nv_bfloat16, 128>("flash_fma_bf16_d128", ATTEND_BF16),)
    ATTEND_TO_256(attend::row<__nv_bfloat16, 256>("flash_fma_bf16_d256", ATTEND_BF16),)
    // clang-format on
};
const int attend_flash_fma_row_count = sizeof attend_flash_fma_rows / sizeof *attend_flash_fma_rows;

// Gradients on the tensor cores: the two passes of backward_fma.cu on mma.sync, ldmatrix and cp.async, fp16
// or bf16. A warp owns 16·m rows of what the block keeps, `own`: queries or keys. For each tile of the other
// side
//     S = own₁·other₁ᵀ, dP = own₂·other₂ᵀ;  P = 2^(unit·S - lse2), dS = P∘(dP - delta)
//     queries: dQ += dS·K;  keys: dK += dSᵀ·Q, dV += Pᵀ·dO
// As S of the keys' pass is made transposed, P and dS stay in registers in both: the layout in which mma
// leaves S is that of its A operand. Shared memory holds own₁, own₂ and two tiles of other₁ and other₂ in
// turn, swizzled (tile.cuh); the next arrives while one is at work.
//
// delta is taken in a pass of its own over S and dP, which also makes weights add up to 1: their LSE is
// rounded. What biases, slopes and tables of distances get is left to backward_fma.
#pragma once

#include "backward.cuh"
#include "choice.cuh"
#include "core/feature_set.h"
#include "elements.cuh"
#include "poison.cuh"

namespace attend
{

template <typename T, int dim_, int warps_, int m_, int other_> struct backward_mma_tile {
    using element = T;
    static constexpr int dim = dim_, warps = warps_, m = m_, other = other_, threads = 32 * warps,
                         warp_rows = 16 * m, own = warps * warp_rows, lane_rows = 2 * m;
    static constexpr int steps = other / 16, dim_steps = dim / 16;
    using own_tile = shared_tile<own, dim>;
    using other_tile = shared_tile<other, dim>;
    using share = tile_share<other_tile, threads>;
    static constexpr int other_at = 2 * own_tile::bytes, pair_bytes = 2 * other_tile::bytes,
                         rows_at = other_at + 2 * pair_bytes,
                         shared_bytes = rows_at + 16 * (own > 2 * other ? own : 2 * other) + 128;
    static_assert(shared_bytes <= 99 * 1024, "the least that a card since Ampere gives a block");
    using scores = float[m][2 * steps][4];
    using weights = uint32_t[m][steps][4];
    using output = float[m][2 * dim_steps][4];
};

// A query, as those read it who make weights: in shared memory.
struct __align__(16) query_row
{
    float lse2, delta;
    int low, high; // the keys that it sees
};

// s = own·otherᵀ for the warp's rows
template <typename tile>
__device__ void multiply_rows(typename tile::scores &s, const fragments<typename tile::own_tile> &own_at,
                              const fragments<typename tile::other_tile> &other_at)
{
    const auto own = own_at.here();
    const auto other = other_at.here();
#pragma unroll
    for (int i = 0; i < tile::m; i++)
#pragma unroll
        for (int n = 0; n < 2 * tile::steps; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[i][n][e] = 0;
#pragma unroll
    for (int step = 0; step < tile::dim_steps; step++) {
        uint32_t a[tile::m][4];
#pragma unroll
        for (int i = 0; i < tile::m; i++) ldmatrix(a[i], own.address(i, step));
#pragma unroll
        for (int n = 0; n < tile::steps; n++) {
            uint32_t b[4];
            ldmatrix(b, other.address(n, step));
#pragma unroll
            for (int i = 0; i < tile::m; i++) {
                mma<typename tile::element>(s[i][2 * n], a[i], b[0], b[1]);
                mma<typename tile::element>(s[i][2 * n + 1], a[i], b[2], b[3]);
            }
        }
    }
}

// o += p·other
template <typename tile>
__device__ void multiply_columns(typename tile::output &o, const typename tile::weights &p,
                                 const fragments<typename tile::other_tile> &other_at)
{
    const auto other = other_at.here();
#pragma unroll
    for (int step = 0; step < tile::steps; step++)
#pragma unroll
        for (int n = 0; n < tile::dim_steps; n++) {
            uint32_t b[4];
            ldmatrix_trans(b, other.address(step, n));
#pragma unroll
            for (int i = 0; i < tile::m; i++) {
                mma<typename tile::element>(o[i][2 * n], p[i][step], b[0], b[1]);
                mma<typename tile::element>(o[i][2 * n + 1], p[i][step], b[2], b[3]);
            }
        }
}

// Keeps an array in local memory.
__device__ inline void in_memory(float *array) { asm volatile("" ::"l"(array) : "memory"); }

// Turns a lane's part of S from q·k to scores, -infinity where a key is hidden; slopes as in
// fma_elements.cuh. Row and key are the first of the warp's. In local memory and not inlined, so that it
// takes no registers from problems without such features.
template <typename tile, bool by_keys>
__device__ __noinline__ void score_lane(const attend_head &head, float *cells, float *slopes, int64_t row0,
                                        int64_t key0)
{
    const attend_problem &problem = *head.problem;
    const attend_sequence &sequence = head.sequence;
    const bool scored = attend_adds_terms(&problem);
#pragma unroll 1
    for (int n = 0; n < tile::m * tile::steps * 8; n++) {
        const int down = lane_row(n / (8 * tile::steps) * 2 + n / 2 % 2),
                  along = lane_column(n / 4 % (2 * tile::steps), n);
        const int64_t row = row0 + (by_keys ? along : down), key = key0 + (by_keys ? down : along);
        const float dot = cells[n];
        const bool inside = row < sequence.seqlen_q &&
                            key >= attend_visible_begin(&problem, &sequence, row) &&
                            key < attend_visible_end(&problem, &sequence, row);
        if (!inside || !attend_element_visible(&head, row, key))
            cells[n] = -INFINITY;
        else if (scored)
            cells[n] = attend_visible_score(&head, row, key, dot);
        if (problem.softcap > 0) slopes[n] = attend_softcap_slope(&problem, dot * head.scale);
    }
}

template <typename tile, attend_backward_stage stage> struct backward_mma {
    using T = typename tile::element;
    using own_tile = typename tile::own_tile;
    using other_tile = typename tile::other_tile;
    using copy = tile_copy<tile_share<other_tile, tile::threads>>;
    using own_copy = tile_copy<tile_share<own_tile, tile::threads>>;
    static constexpr bool by_keys = stage == ATTEND_BACKWARD_KEYS;

    const attend_backward_args &args;
    const attend_problem &problem;
    unsigned char *const shared;
    const uint32_t base;
    attend_head &head; // in shared memory, of which little is read often: registers are the limit
    const attend_sequence &sequence;
    const int64_t batch, own0;
    const fragments<own_tile> own1, own2;
    tile_range seen;
    bool elementwise, searches;

    __device__ int warp_row() const { return threadIdx.x / 32 * tile::warp_rows; }
    __device__ query_row *rows(int buffer) const
    {
        return reinterpret_cast<query_row *>(shared + tile::rows_at) + (by_keys ? buffer * tile::other : 0);
    }
    __device__ uint32_t other1(int buffer) const { return base + tile::other_at + buffer * tile::pair_bytes; }
    __device__ uint32_t other2(int buffer) const { return other1(buffer) + other_tile::bytes; }

    template <typename share, typename copies>
    __device__ void load(uint32_t to, const attend_view &view, int64_t first, int64_t count, int64_t head,
                         int64_t dims)
    {
        const int64_t bytes = 2 * view.seqlen;
        copies::part(to + share::offset(), copies::start(rows_of<T>(view, sequence, first, head), bytes),
                     bytes * share::down, static_cast<int>(min(count, int64_t(tile::own))),
                     static_cast<int>(dims));
    }
    template <typename share, typename copies>
    __device__ void load_queries(uint32_t q, uint32_t dout, int64_t row, int64_t head)
    {
        load<share, copies>(q, args.q, sequence.first_q + row, sequence.seqlen_q - row, head,
                            problem.head_dim);
        load<share, copies>(dout, args.dout, sequence.first_q + row, sequence.seqlen_q - row, head,
                            problem.head_dim_v);
    }
    template <typename share, typename copies>
    __device__ void load_keys(uint32_t k, uint32_t v, int64_t key, int64_t head)
    {
        load<share, copies>(k, args.k, sequence.first_k + key, sequence.seqlen_k - key, head,
                            problem.head_dim);
        load<share, copies>(v, args.v, sequence.first_k + key, sequence.seqlen_k - key, head,
                            problem.head_dim_v);
    }
    __device__ query_row row_at(int64_t head, int64_t row, bool has_sums) const
    {
        if (row >= sequence.seqlen_q) return {0, 0, 0, 0};
        const row_lse lse =
            has_sums ? row_of_sums(args, sequence, head, row) : row_lse(args, sequence, head, row);
        const key_interval keys = visible_keys(problem, sequence, row);
        return {lse.lse2 + lse.rest,
                has_sums ? args.sums.delta[sum_of_query(problem, sequence, head, row)] : 0, keys.begin,
                keys.end};
    }
    // The first tile from t on of which the block sees any.
    __device__ int next_tile(int t) const
    {
        for (; searches && t < seen.end; t++) {
            const int64_t at = int64_t(t) * tile::other;
            const int64_t row = (by_keys ? at : own0) + threadIdx.x, key = by_keys ? own0 : at;
            const bool meets =
                threadIdx.x < (by_keys ? tile::other : tile::own) && row < sequence.seqlen_q &&
                row_meets(head, row, key,
                          min(int64_t(by_keys ? tile::own : tile::other), sequence.seqlen_k - key));
            if (__syncthreads_or(meets)) return t;
        }
        return t;
    }
    __device__ void load_tile(int t, int buffer, int64_t head)
    {
        const int64_t at = int64_t(t) * tile::other;
        if constexpr (by_keys) {
            load_queries<typename tile::share, copy>(other1(buffer), other2(buffer), at, head);
            for (int n = threadIdx.x; n < tile::other; n += tile::threads)
                rows(buffer)[n] = row_at(head, at + n, true);
        } else {
            load_keys<typename tile::share, copy>(other1(buffer), other2(buffer), at,
                                                  head / (problem.num_heads / problem.num_kv_heads));
        }
    }
    // Calls visit(t, buffer) for each tile that the head's rows and keys see.
    template <typename F> __device__ void each_tile(const F &visit)
    {
        int t = next_tile(seen.begin), buffer = 0;
        if (t < seen.end) load_tile(t, 0, head.head);
#pragma unroll 1
        while (t < seen.end) {
            const int next = next_tile(t + 1);
            cp_async_wait<0>();
            __syncthreads(); // the tile is here, and nobody reads the other one any more
            if (next < seen.end) load_tile(next, buffer ^ 1, head.head);
            visit(t, buffer);
            t = next, buffer ^= 1;
        }
        cp_async_wait<0>(); // of `own` too, where there was no tile
        __syncthreads();
    }
    __device__ bool border(int t) const
    {
        return seen.border(t) || (by_keys && int64_t(t + 1) * tile::other > sequence.seqlen_q);
    }

    // Called by all threads.
    __device__ void set_head(int64_t index)
    {
        __syncthreads(); // nobody reads the one before any more
        if (threadIdx.x == 0) head = attend_head_of(&problem, &args.terms, &sequence, batch, index);
        __syncthreads();
    }

    // s becomes P and dp becomes dS, both 0 where a key is hidden; visible as add_poison() takes it.
    template <bool masked>
    __device__ void weigh(typename tile::scores &s, typename tile::scores &dp, const float *slopes,
                          float unit, int t, int buffer, uint32_t (&visible)[tile::m]) const
    {
        const query_row *const queries = rows(buffer);
        const int other0 = t * tile::other;
        query_row own_rows[by_keys ? 1 : tile::lane_rows];
#pragma unroll
        for (int i = 0; i < tile::lane_rows && !by_keys; i++) own_rows[i] = queries[warp_row() + lane_row(i)];
#pragma unroll
        for (int c = 0; c < 4 * tile::steps; c++) {
            const int column = lane_column(c / 2, c % 2);
            query_row row;
            if (by_keys) row = queries[column];
#pragma unroll
            for (int i = 0; i < tile::lane_rows; i++) {
                if (!by_keys) row = own_rows[i];
                float &score = s[i / 2][c / 2][i % 2 * 2 + c % 2], &d = dp[i / 2][c / 2][i % 2 * 2 + c % 2];
                const float weight = ex2(fmaf(score, unit, -row.lse2));
                if (masked) {
                    const int key =
                        by_keys ? static_cast<int>(own0) + warp_row() + lane_row(i) : other0 + column;
                    const bool sees = key >= row.low && key < row.high && score != -INFINITY;
                    const float slope =
                        slopes ? slopes[(i / 2 * 2 * tile::steps + c / 2) * 4 + i % 2 * 2 + c % 2] : 1;
                    d = sees ? weight * (d - row.delta) * slope : 0;
                    score = sees ? weight : 0;
                    if (sees) visible[i / 2] |= 1u << (i % 2 * 16 + c);
                } else {
                    d = weight * (d - row.delta);
                    score = weight;
                }
            }
        }
    }
    // P and dS, times the slope of a softcap where `bends`, of a tile.
    __device__ bool make(typename tile::scores &s, typename tile::scores &dp, int t, int buffer, bool bends,
                         uint32_t (&visible)[tile::m]) const
    {
        multiply_rows<tile>(s, own1, across_first<other_tile>(other1(buffer)));
        multiply_rows<tile>(dp, own2, across_first<other_tile>(other2(buffer)));
        const float unit = attend_adds_terms(&problem) ? log2e : head.scale * log2e;
        const bool masks = border(t);
#pragma unroll
        for (int i = 0; i < tile::m; i++) visible[i] = 0;
        if (elementwise) {
            constexpr int count = tile::m * tile::steps * 8;
            float cells[count], slopes[count], kept[count];
#pragma unroll
            for (int n = 0; n < count; n++) {
                cells[n] = s[n / (8 * tile::steps)][n / 4 % (2 * tile::steps)][n % 4];
                kept[n] = dp[n / (8 * tile::steps)][n / 4 % (2 * tile::steps)][n % 4];
            }
            in_memory(kept); // the call then saves no register of it
            const int64_t other0 = int64_t(t) * tile::other, own_row = own0 + warp_row();
            score_lane<tile, by_keys>(head, cells, slopes, by_keys ? other0 : own_row,
                                      by_keys ? own_row : other0);
#pragma unroll
            for (int n = 0; n < count; n++) {
                s[n / (8 * tile::steps)][n / 4 % (2 * tile::steps)][n % 4] = cells[n];
                dp[n / (8 * tile::steps)][n / 4 % (2 * tile::steps)][n % 4] = kept[n];
            }
            weigh<true>(s, dp, bends && problem.softcap > 0 ? slopes : nullptr, unit, t, buffer, visible);
        } else if (masks) {
            weigh<true>(s, dp, nullptr, unit, t, buffer, visible);
        } else {
            weigh<false>(s, dp, nullptr, unit, t, buffer, visible);
        }
        return masks;
    }
    static __device__ void round_to(typename tile::weights &p, const typename tile::scores &s, float factor)
    {
#pragma unroll
        for (int i = 0; i < tile::m; i++)
#pragma unroll
            for (int n = 0; n < 2 * tile::steps; n++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    p[i][n / 2][n % 2 * 2 + half] =
                        pack<T>(s[i][n][2 * half] * factor, s[i][n][2 * half + 1] * factor);
    }
    // Of a tile of which some keys are hidden: what is not finite goes to those rows alone that see it.
    __device__ void part_poison(typename tile::output &o, uint32_t tile_at,
                                const uint32_t (&visible)[tile::m])
    {
        unsigned char *const bytes = shared + (tile_at - base);
        if (!__syncthreads_or(holds_poison<T, other_tile, tile::threads>(bytes))) return;
        add_poison<T>(o, down_first<other_tile>(tile_at, 0), visible);
        __syncthreads();
        remove_poison<T, other_tile, tile::threads>(bytes);
        __syncthreads();
    }

    __device__ void store(const attend_gradient_view &to, const typename tile::output &o, float factor,
                          int64_t first, int64_t head, int64_t there, int64_t all, int64_t dims) const
    {
        if (!to.view.data) return;
#pragma unroll
        for (int i = 0; i < tile::lane_rows; i++) {
            const int64_t row = own0 + warp_row() + lane_row(i);
            if (row >= all) continue;
            void *const at = gradient_row(to, sequence, first + row, head);
#pragma unroll
            for (int n = 0; n < 2 * tile::dim_steps; n++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (lane_column(n, e) < dims)
                        store_gradient(to, at, lane_column(n, e),
                                       row < there ? o[i / 2][n][i % 2 * 2 + e] * factor : 0,
                                       args.accumulate);
        }
    }

    __device__ void run_queries(int64_t head_index)
    {
        set_head(head_index);
        const attend_backward_sums &to = args.sums;
        const int64_t all = attend_rows_of(&problem, &sequence),
                      last = min(own0 + tile::own, sequence.seqlen_q);
        if (own0 >= all) return;
        if (last > own0) {
            seen = visible_tiles(visible_keys(problem, sequence, own0),
                                 visible_keys(problem, sequence, last - 1), tile::other);
            if (elementwise) seen.full_begin = seen.full_end = 0;
            load_queries<tile_share<own_tile, tile::threads>, own_copy>(base, base + own_tile::bytes, own0,
                                                                        head_index);
        }
        for (int n = threadIdx.x; n < tile::own; n += tile::threads)
            rows(0)[n] = row_at(head_index, own0 + n, false);
        __syncthreads();

        float sums[tile::lane_rows] = {}, deltas[tile::lane_rows] = {};
        each_tile([&](int t, int buffer) {
            typename tile::scores s, dp;
            uint32_t visible[tile::m];
            make(s, dp, t, buffer, false, visible);
#pragma unroll
            for (int i = 0; i < tile::lane_rows; i++)
#pragma unroll
                for (int c = 0; c < 4 * tile::steps; c++)
                    sums[i] += s[i / 2][c / 2][i % 2 * 2 + c % 2],
                        deltas[i] += dp[i / 2][c / 2][i % 2 * 2 + c % 2];
        });
#pragma unroll
        for (int i = 0; i < tile::lane_rows; i++) {
            const int own_row = warp_row() + lane_row(i);
            const int64_t row = own0 + own_row;
            const float sum = quad_sum(sums[i]);
            float delta = quad_sum(deltas[i]);
            if (row >= last || threadIdx.x % 4 != 0) continue;
            const int64_t n = sum_of_query(problem, sequence, head_index, row);
            const float sink = problem.sinks ? attend_head_sink(&args.terms, head_index) : -INFINITY;
            row_lse lse(args, sequence, head_index, row);
            to.shift[n] = lse.normalise(sum + lse.weight(sink, log2e), delta);
            if (args.dlse.data)
                delta -= *rows_of<float>(args.dlse, sequence, sequence.first_q + row, head_index);
            to.delta[n] = delta;
            if (to.sinks) to.sinks[n] = -delta * lse.weight(sink, log2e);
            rows(0)[own_row].lse2 = lse.lse2 + lse.rest, rows(0)[own_row].delta = delta;
        }
        __syncthreads();
        if (!args.dq.view.data && !to.scales) return;

        typename tile::output dq = {};
        each_tile([&](int t, int buffer) {
            typename tile::scores s, dp;
            typename tile::weights ds;
            uint32_t visible[tile::m];
            const bool masked = make(s, dp, t, buffer, true, visible);
            round_to(ds, dp, 1);
            if (masked) part_poison(dq, other1(buffer), visible);
            multiply_columns<tile>(dq, ds, down_first<other_tile>(other1(buffer), 0));
        });
#pragma unroll
        for (int i = 0; i < tile::lane_rows && to.scales; i++) {
            const int own_row = warp_row() + lane_row(i);
            float scales = 0; // a query that sees nothing may be NaN
#pragma unroll
            for (int n = 0; n < 2 * tile::dim_steps; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const float value = dq[i / 2][n][i % 2 * 2 + e];
                    if (value != 0)
                        scales =
                            fmaf(static_cast<float>(*reinterpret_cast<const T *>(
                                     shared + own_tile::offset(own_row, n) + lane_column(0, e) * sizeof(T))),
                                 value, scales);
                }
            scales = quad_sum(scales) * problem.softmax_scale;
            if (own0 + own_row < last && threadIdx.x % 4 == 0)
                to.scales[sum_of_query(problem, sequence, head_index, own0 + own_row)] = scales;
        }
        store(args.dq, dq, head.scale, sequence.first_q, head_index, last, all, problem.head_dim);
    }

    __device__ float head_scale_of(int64_t head) const
    {
        const attend_plane &scales = args.terms.head_scales;
        return static_cast<const float *>(scales.data)[head * scales.head];
    }

    __device__ void run_keys(int64_t kv_head)
    {
        const int64_t group = problem.num_heads / problem.num_kv_heads,
                      all = problem.packed ? sequence.seqlen_k : problem.seqlen_k,
                      last = min(own0 + tile::own, sequence.seqlen_k);
        if (own0 >= all) return;
        if (last > own0) {
            seen = tiles_that_see(problem, sequence, own0, tile::own, tile::other);
            if (elementwise) seen.full_begin = seen.full_end = 0;
            load_keys<tile_share<own_tile, tile::threads>, own_copy>(base, base + own_tile::bytes, own0,
                                                                     kv_head);
        }
        typename tile::output dk = {}, dv = {};
#pragma unroll 1
        for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
            set_head(h);
            // softmax_scale waits for the sum: in fp16 it would make dS underflow
            const float factor = problem.head_scales ? head_scale_of(h) : 1;
            each_tile([&](int t, int buffer) {
                typename tile::scores s, dp;
                typename tile::weights p;
                uint32_t visible[tile::m];
                const bool masked = make(s, dp, t, buffer, true, visible);
                if (masked)
                    part_poison(dv, other2(buffer), visible), part_poison(dk, other1(buffer), visible);
                round_to(p, s, 1);
                if (args.dv.view.data)
                    multiply_columns<tile>(dv, p, down_first<other_tile>(other2(buffer), 0));
                round_to(p, dp, factor);
                if (args.dk.view.data)
                    multiply_columns<tile>(dk, p, down_first<other_tile>(other1(buffer), 0));
            });
        }
        store(args.dk, dk, problem.softmax_scale, sequence.first_k, kv_head, last, all, problem.head_dim);
        store(args.dv, dv, 1, sequence.first_k, kv_head, last, all, problem.head_dim_v);
    }
};

template <typename tile, attend_backward_stage stage>
__device__ void run_backward_mma(const attend_backward_args &args)
{
    extern __shared__ __align__(128) unsigned char shared[];
    constexpr bool by_keys = stage == ATTEND_BACKWARD_KEYS;
    const attend_problem &problem = args.problem;
    const backward_block at =
        find_backward_block<stage>(problem, args.first_block + blockIdx.x, tile::own, tile::own);
    const uint32_t base = shared_address(shared);
    const int warp_row = threadIdx.x / 32 * tile::warp_rows;
    attend_head &head = *reinterpret_cast<attend_head *>(shared + tile::shared_bytes - 128);
    static_assert(sizeof(attend_head) <= 128);
    if (threadIdx.x == 0) head.sequence = attend_sequence_of(&problem, &args.lists, at.batch);
    __syncthreads();
    backward_mma<tile, stage> run = {
        args,
        problem,
        shared,
        base,
        head,
        head.sequence,
        at.batch,
        at.tile * tile::own,
        down_first<typename tile::own_tile>(base, warp_row),
        down_first<typename tile::own_tile>(base + tile::own_tile::bytes, warp_row),
        {0, 0, 0, 0},
        attend_is_elementwise(&problem),
        attend_hides_tiles(&problem)};
    if constexpr (by_keys)
        run.run_keys(at.head);
    else
        run.run_queries(at.head);
}

// ---- rows ----

using backward_mma_kernel = void(attend_backward_args);

template <typename queries, backward_mma_kernel *by_queries, typename keys, backward_mma_kernel *by_keys>
struct backward_mma_row {
    static const void *kernel(attend_backward_stage stage)
    {
        return reinterpret_cast<const void *>(stage == ATTEND_BACKWARD_KEYS ? by_keys : by_queries);
    }
    static bool blocks(const attend_problem *p, attend_backward_stage stage, int64_t *blocks)
    {
        return count_backward_blocks(*p, stage, queries::own, keys::own, blocks);
    }
    static cudaError_t prepare()
    {
        const cudaError_t error =
            cudaFuncSetAttribute(kernel(ATTEND_BACKWARD_QUERIES), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 queries::shared_bytes);
        return error ? error
                     : cudaFuncSetAttribute(kernel(ATTEND_BACKWARD_KEYS),
                                            cudaFuncAttributeMaxDynamicSharedMemorySize, keys::shared_bytes);
    }
    static cudaError_t launch(attend_backward_stage stage, const attend_backward_args *args,
                              cudaStream_t stream)
    {
        const bool of_keys = stage == ATTEND_BACKWARD_KEYS;
        void *parameters[] = {const_cast<attend_backward_args *>(args)};
        if (args->block_count == 0) return cudaSuccess;
        return cudaLaunchKernel(kernel(stage), static_cast<unsigned>(args->block_count),
                                of_keys ? keys::threads : queries::threads, parameters,
                                of_keys ? keys::shared_bytes : queries::shared_bytes, stream);
    }
    static constexpr attend_backward_row row(const char *name, attend_dtype dtype)
    {
        return {{name,
                 ATTEND_CUDA,
                 dtype,
                 queries::dim,
                 queries::dim,
                 least_architecture,
                 queries::own,
                 queries::other,
                 queries::threads,
                 queries::shared_bytes > keys::shared_bytes ? queries::shared_bytes : keys::shared_bytes,
                 ATTEND_FEATURES_INTERVAL | ATTEND_FEATURES_ELEMENT | ATTEND_FEATURES_HEAD,
                 true,
                 false,
                 {}},
                false,
                false,
                false,
                blocks,
                prepare,
                launch};
    }
};

} // namespace attend

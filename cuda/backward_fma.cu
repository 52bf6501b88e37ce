// Gradients on the CUDA cores in fp32, for tensors of any dtype and alignment (Dao et al. 2022):
//     S = Q·Kᵀ, dP = dO·Vᵀ;  P = exp(score(S) - lse), dS = P∘(dP - delta), dT = dS·(slope of a softcap)
//     dQ = scale·dT·K;  dK = scale·dTᵀ·Q, dV = Pᵀ·dO;  delta = Σ P∘dP - dlse, without the rounding of out
// Two passes, so that no block waits for another and every sum has one order: blocks of queries go over the
// keys and make delta and dQ, blocks of keys over the queries and make dK and dV. Both are one kernel. What
// the block keeps is `own`, what passes is `other`: Q, dO and K, V by queries, K, V and Q, dO by keys. Then
//     S = own₁·other₁ᵀ, dP = own₂·other₂ᵀ;  Σ dT·other₁ is dQ or dK, Σ P·other₂ is dV.
// A gradient of a bias to which several heads or entries add is a third pass: blocks of queries and keys go
// over those.
//
// Threads lie as fma_tile.cuh has it. Rows of all tiles lie four floats apart from a multiple of 32 banks, so
// that every access is free of conflicts.
#include "backward_fma_features.cuh"
#include "backward_fma_tile.cuh"
#include "choice.cuh"
#include "core/feature_set.h"
#include "fma_elements.cuh"

namespace attend
{
namespace
{

constexpr uint64_t features = ATTEND_FEATURES_INTERVAL | ATTEND_FEATURES_ELEMENT | ATTEND_FEATURES_HEAD;

template <int dim, attend_backward_stage stage>
__global__ void __launch_bounds__(backward_tile<dim>::threads, 1)
    backward_fma(const __grid_constant__ attend_backward_args args)
{
    using tile = backward_tile<dim>;
    constexpr bool by_keys = stage == ATTEND_BACKWARD_KEYS, by_bias = stage == ATTEND_BACKWARD_BIAS,
                   by_queries = stage == ATTEND_BACKWARD_QUERIES;
    constexpr int columns = tile::columns, queries = by_keys ? columns : rows, pairs = dim / 32;
    extern __shared__ float4 shared[];
    float *const own1 = reinterpret_cast<float *>(shared), *const own2 = own1 + tile::floats_own,
                 *const other1 = own2 + tile::floats_own, *const other2 = other1 + tile::floats_other,
                 *const p_tile = other2 + tile::floats_other, *const s_tile = p_tile + tile::floats_p,
                 *const lses = s_tile + tile::floats_p, *const rests = lses + tile::other,
                 *const deltas = rests + tile::other, *const sums = deltas + tile::other,
                 *const diagonals = sums + row_sums * tile::own;

    const attend_problem &problem = args.problem;
    const backward_block at =
        find_backward_block<stage>(problem, args.first_block + blockIdx.x, by_keys ? tile::other : tile::own,
                                   by_keys ? tile::own : tile::other);
    const int64_t group = problem.num_heads / problem.num_kv_heads, own0 = at.tile * tile::own;
    const int x = threadIdx.x % across, y = threadIdx.x / across * rows;
    const int dims = static_cast<int>(problem.head_dim + fma_summand - 1) / fma_summand * fma_summand,
              dims_v = static_cast<int>(problem.head_dim_v + fma_summand - 1) / fma_summand * fma_summand;
    const bool scored = attend_adds_terms(&problem), searches = attend_hides_tiles(&problem),
               elementwise = attend_is_elementwise(&problem);
    const attend_backward_sums &to = args.sums;
    const bool whole_bias = args.bias.data && attend_bias_is_whole(&problem);
    const bool sums_features = by_keys ? to.key_bias != nullptr
                                       : by_queries && (to.bias || to.slopes || to.buckets ||
                                                        (whole_bias && !attend_bias_is_shared(&problem)));
    if (by_queries && whole_bias && !attend_bias_is_shared(&problem) && !args.accumulate)
        clear_bias<tile>(args, at, own0);

    float2 sum1[rows][by_bias ? 1 : pairs] = {}, sum2[rows][by_keys ? pairs : 1] = {};
    float sum_ds[rows][columns] = {}; // of a bias
    row_lse lse[queries];
    float delta[queries] = {};

    attend_sequence sequence = attend_sequence_of(&problem, &args.lists, at.batch);
    int64_t last_own = 0; // behind the last of the block's rows that is there
    const auto load = [&](float *to_tile, const attend_view &view, int64_t first, int64_t count, int64_t head,
                          int64_t dims_used, auto tile_rows) {
        constexpr int n = decltype(tile_rows)::value;
        const int columns_used = static_cast<int>(dims_used);
        if (problem.dtype == ATTEND_F32)
            load_tile<float, n, dim, tile::pitch, tile::threads>(
                to_tile, rows_of<float>(view, sequence, first, head), view.seqlen, count, columns_used,
                args.aligned);
        else
            load_16<n, tile>(to_tile, rows_of<uint16_t>(view, sequence, first, head), view.seqlen, count,
                             columns_used, problem.dtype);
    };
    using own_rows = std::integral_constant<int, tile::own>;
    using other_rows = std::integral_constant<int, tile::other>;
    const auto load_queries = [&](float *q, float *dout, int64_t row, int64_t head, auto tile_rows) {
        load(q, args.q, sequence.first_q + row, sequence.seqlen_q - row, head, problem.head_dim, tile_rows);
        load(dout, args.dout, sequence.first_q + row, sequence.seqlen_q - row, head, problem.head_dim_v,
             tile_rows);
    };
    const auto load_keys = [&](float *k, float *v, int64_t key, int64_t kv_head, auto tile_rows) {
        load(k, args.k, sequence.first_k + key, sequence.seqlen_k - key, kv_head, problem.head_dim,
             tile_rows);
        load(v, args.v, sequence.first_k + key, sequence.seqlen_k - key, kv_head, problem.head_dim_v,
             tile_rows);
    };
    // Of other queries, for those who read them behind the next barrier.
    const auto load_rows = [&](int64_t row, int64_t head) {
        for (int n = threadIdx.x; n < tile::other; n += tile::threads) {
            const bool there = row + n < sequence.seqlen_q;
            const row_lse lse = there ? row_of_sums(args, sequence, head, row + n) : row_lse();
            lses[n] = lse.lse2, rests[n] = lse.rest;
            deltas[n] = there ? to.delta[sum_of_query(problem, sequence, head, row + n)] : 0;
        }
    };
    const auto next_sums = [&] { // of another head
        for (int n = threadIdx.x; n < row_sums * tile::own; n += tile::threads) sums[n] = 0;
    };

    // P and dS of the tiles at hand: s becomes P, dp becomes dS. Row and key are the first of them; `cells`
    // are this thread's.
    float s[rows][columns], dp[rows][columns];
    const auto weigh = [&](const attend_head &head, int64_t row0, int64_t key0, bool border) {
        float *const cells = s_tile + y * tile::pitch_p + x, *const slopes = p_tile + y * tile::pitch_p + x;
        int low[queries], high[queries];
#pragma unroll
        for (int n = 0; n < queries; n++) low[n] = 0, high[n] = INT_MAX;
        if (border)
#pragma unroll
            for (int n = 0; n < queries; n++) {
                const int64_t row = row0 + (by_keys ? x + n * across : y + n);
                const bool there = row < sequence.seqlen_q;
                low[n] = there ? clamp_keys(attend_visible_begin(&problem, &sequence, row) - key0,
                                            tile::own + tile::other)
                               : 0;
                high[n] = there ? clamp_keys(attend_visible_end(&problem, &sequence, row) - key0,
                                             tile::own + tile::other)
                                : 0;
            }
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int j = 0; j < columns; j++) s[i][j] = dp[i][j] = 0;
        for (int c = 0; c < dims; c += fma_summand)
            score<tile>(s, own1 + y * tile::pitch + c, other1 + x * tile::pitch + c);
        for (int c = 0; c < dims_v; c += fma_summand)
            score<tile>(dp, own2 + y * tile::pitch + c, other2 + x * tile::pitch + c);
        if (elementwise) {
#pragma unroll
            for (int i = 0; i < rows; i++)
#pragma unroll
                for (int j = 0; j < columns; j++) cells[i * tile::pitch_p + j * across] = s[i][j];
            score_elements<columns, tile::pitch_p, by_keys>(head, cells, slopes, row0 + (by_keys ? x : y),
                                                            key0 + (by_keys ? y : x), sequence.seqlen_q,
                                                            nullptr);
#pragma unroll
            for (int i = 0; i < rows; i++)
#pragma unroll
                for (int j = 0; j < columns; j++) s[i][j] = cells[i * tile::pitch_p + j * across];
        }
        const float unit = scored ? log2e : head.scale * log2e;
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int j = 0; j < columns; j++) {
                const int n = by_keys ? j : i, key = by_keys ? y + i : x + j * across;
                const bool seen = key >= low[n] && key < high[n] && s[i][j] != -INFINITY;
                const float weight = lse[n].weight(s[i][j], unit);
                dp[i][j] = seen ? weight * (dp[i][j] - delta[n]) : hidden;
                s[i][j] = seen ? weight : hidden;
            }
    };
    const auto store_cells = [&](float *tile_at, const float(&values)[rows][columns]) {
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int j = 0; j < columns; j++)
                tile_at[(y + i) * tile::pitch_p + x + j * across] = values[i][j];
    };
    // dS becomes dT, in the tile.
    const auto bend = [&] {
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int j = 0; j < columns; j++)
                if (!is_hidden(dp[i][j])) dp[i][j] *= p_tile[(y + i) * tile::pitch_p + x + j * across];
    };

    if constexpr (by_queries) {
        const attend_head head = attend_head_of(&problem, &args.terms, &sequence, at.batch, at.head);
        const int64_t kv_head = at.head / group, all_rows = attend_rows_of(&problem, &sequence);
        if (own0 >= all_rows) return;
        float *const buckets =
            to.buckets ? to.buckets + ((at.batch * problem.num_heads + at.head) * args.tiles + at.tile) *
                                          problem.relative_buckets
                       : nullptr;
        for (int64_t n = threadIdx.x; buckets && n < problem.relative_buckets; n += tile::threads)
            buckets[n] = 0;
        next_sums();
        last_own = min(own0 + tile::own, sequence.seqlen_q);
        tile_range seen = {0, 0, 0, 0};
        if (last_own > own0) {
            seen = visible_tiles(visible_keys(problem, sequence, own0),
                                 visible_keys(problem, sequence, last_own - 1), tile::other);
            if (elementwise || last_own < own0 + tile::own) seen.full_begin = seen.full_end = 0;
            load_queries(own1, own2, own0, at.head, own_rows());
        }
#pragma unroll
        for (int i = 0; i < rows; i++)
            if (own0 + y + i < last_own) lse[i] = row_lse(args, sequence, at.head, own0 + y + i);
        const auto each_tile = [&](const auto &visit) {
#pragma unroll 1
            for (int t = seen.begin; t < seen.end; t++) {
                const int64_t key = int64_t(t) * tile::other;
                if (searches &&
                    !__syncthreads_or(threadIdx.x < last_own - own0 &&
                                      row_meets(head, own0 + threadIdx.x, key,
                                                min(int64_t(tile::other), sequence.seqlen_k - key))))
                    continue;
                load_keys(other1, other2, key, kv_head, other_rows());
                cp_async_wait<0>();
                __syncthreads();
                weigh(head, own0, key, seen.border(t));
                visit(t, key);
                __syncthreads(); // nobody reads the tiles any more
            }
        };

        float total[rows] = {}, weights[rows] = {}; // delta; of the pass that sums p·dP, the sum of p
        if (args.out.data) {
            cp_async_wait<0>();
            __syncthreads();
#pragma unroll
            for (int i = 0; i < rows; i++) {
                const int64_t row = own0 + y + i;
                if (row >= last_own) continue;
                const float *const out = rows_of<float>(args.out, sequence, sequence.first_q + row, at.head);
                // a row that sees nothing has out 0, whatever its dout is
                for (int c = x; c < problem.head_dim_v; c += across)
                    if (out[c] != 0) total[i] = fmaf(out[c], own2[(y + i) * tile::pitch + c], total[i]);
            }
        } else {
            each_tile([&](int, int64_t) {
#pragma unroll
                for (int i = 0; i < rows; i++)
#pragma unroll
                    for (int j = 0; j < columns; j++) total[i] += dp[i][j], weights[i] += s[i][j];
            });
        }
#pragma unroll
        for (int i = 0; i < rows; i++) {
            const int64_t row = own0 + y + i;
            delta[i] = row_sum(total[i]);
            weights[i] = row_sum(weights[i]);
            if (row >= last_own) continue;
            if (!args.out.data) {
                const float sink = problem.sinks ? attend_head_sink(&args.terms, at.head) : -INFINITY,
                            shift = lse[i].normalise(weights[i] + lse[i].weight(sink, log2e), delta[i]);
                if (x == 0) to.shift[sum_of_query(problem, sequence, at.head, row)] = shift;
            }
            if (args.dlse.data)
                delta[i] -= *rows_of<float>(args.dlse, sequence, sequence.first_q + row, at.head);
            if (x == 0) to.delta[sum_of_query(problem, sequence, at.head, row)] = delta[i];
        }
        if (args.dq.view.data || to.scales || sums_features)
            each_tile([&](int t, int64_t key) {
                if (sums_features) {
                    store_cells(s_tile, dp);
                    sum_features<tile, false>(args, {s_tile, head, at.batch, own0, key}, sums, diagonals,
                                              buckets);
                }
                if (problem.softcap > 0) bend();
                store_cells(s_tile, dp);
                __syncthreads();
                multiply<tile>(sum1, s_tile + y * tile::pitch_p, other1 + 2 * x, seen.border(t));
            });

        __syncthreads(); // sums are there
#pragma unroll
        for (int i = 0; i < rows; i++) {
            const int64_t row = own0 + y + i;
            float scales = 0; // a query that sees nothing may be NaN
#pragma unroll
            for (int c = 0; c < pairs; c++) {
                const float2 q =
                    *reinterpret_cast<const float2 *>(own1 + (y + i) * tile::pitch + 2 * x + 32 * c);
                if (row < last_own && sum1[i][c].x != 0) scales = fmaf(q.x, sum1[i][c].x, scales);
                if (row < last_own && sum1[i][c].y != 0) scales = fmaf(q.y, sum1[i][c].y, scales);
            }
            scales = row_sum(scales) * problem.softmax_scale;
            if (row < last_own && x == 0) {
                const int64_t n = sum_of_query(problem, sequence, at.head, row);
                if (to.bias) to.bias[n] = sums[sum_bias * tile::own + y + i];
                if (to.slopes) to.slopes[n] = sums[sum_slopes * tile::own + y + i];
                if (to.scales) to.scales[n] = scales;
                if (to.sinks)
                    to.sinks[n] = -delta[i] * lse[i].weight(attend_head_sink(&args.terms, at.head), log2e);
            }
            if (!args.dq.view.data || row >= all_rows) continue;
            void *const dq = gradient_row(args.dq, sequence, sequence.first_q + row, at.head);
#pragma unroll
            for (int c = 0; c < pairs; c++) {
                const int column = 2 * x + 32 * c;
                const bool there = row < last_own;
                if (column < problem.head_dim)
                    store_gradient(args.dq, dq, column, there ? sum1[i][c].x * head.scale : 0,
                                   args.accumulate);
                if (column + 1 < problem.head_dim)
                    store_gradient(args.dq, dq, column + 1, there ? sum1[i][c].y * head.scale : 0,
                                   args.accumulate);
            }
        }
    }

    if constexpr (by_keys) {
        const int64_t all_keys = problem.packed ? sequence.seqlen_k : problem.seqlen_k;
        if (own0 >= all_keys) return;
        last_own = min(own0 + tile::own, sequence.seqlen_k);
        tile_range seen = {0, 0, 0, 0};
        if (last_own > own0) {
            seen = tiles_that_see(problem, sequence, own0, tile::own, tile::other);
            if (elementwise) seen.full_begin = seen.full_end = 0;
            load_keys(own1, own2, own0, at.head, own_rows());
        }
#pragma unroll 1
        for (int64_t h = at.head * group; h < (at.head + 1) * group; h++) {
            const attend_head head = attend_head_of(&problem, &args.terms, &sequence, at.batch, h);
            next_sums();
#pragma unroll 1
            for (int t = seen.begin; t < seen.end; t++) {
                const int64_t row0 = int64_t(t) * tile::other;
                if (searches &&
                    !__syncthreads_or(threadIdx.x < min(int64_t(tile::other), sequence.seqlen_q - row0) &&
                                      row_meets(head, row0 + threadIdx.x, own0, last_own - own0)))
                    continue;
                load_queries(other1, other2, row0, h, other_rows());
                load_rows(row0, h);
                cp_async_wait<0>();
                __syncthreads();
#pragma unroll
                for (int j = 0; j < columns; j++)
                    lse[j].lse2 = lses[x + j * across], lse[j].rest = rests[x + j * across],
                    delta[j] = deltas[x + j * across];
                const bool border = seen.border(t) || row0 + tile::other > sequence.seqlen_q;
                weigh(head, row0, own0, border);
                if (sums_features) {
                    store_cells(s_tile, dp);
                    sum_features<tile, true>(args, {s_tile, head, at.batch, row0, own0}, sums, diagonals,
                                             nullptr);
                }
                if (problem.softcap > 0) bend();
#pragma unroll
                for (int i = 0; i < rows; i++)
#pragma unroll
                    for (int j = 0; j < columns; j++)
                        if (!is_hidden(dp[i][j])) dp[i][j] *= head.scale;
                store_cells(s_tile, dp), store_cells(p_tile, s);
                __syncthreads();
                if (args.dk.view.data)
                    multiply<tile>(sum1, s_tile + y * tile::pitch_p, other1 + 2 * x, border);
                if (args.dv.view.data)
                    multiply<tile>(sum2, p_tile + y * tile::pitch_p, other2 + 2 * x, border);
                __syncthreads(); // nobody reads the tiles any more
            }
            __syncthreads(); // sums are there
            const int64_t key = own0 + threadIdx.x;
            if (to.key_bias && threadIdx.x < tile::own && key < last_own)
                to.key_bias[sum_of_key(problem, sequence, h, key)] = sums[sum_bias * tile::own + threadIdx.x];
            __syncthreads(); // and read
        }
#pragma unroll
        for (int i = 0; i < rows; i++) {
            const int64_t key = own0 + y + i;
            if (key >= all_keys) continue;
            void *const dk = gradient_row(args.dk, sequence, sequence.first_k + key, at.head),
                        *const dv = gradient_row(args.dv, sequence, sequence.first_k + key, at.head);
            const bool there = key < last_own;
#pragma unroll
            for (int c = 0; c < pairs; c++) {
                const int column = 2 * x + 32 * c;
                const float k[2] = {sum1[i][c].x, sum1[i][c].y}, v[2] = {sum2[i][c].x, sum2[i][c].y};
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    if (args.dk.view.data && column + e < problem.head_dim)
                        store_gradient(args.dk, dk, column + e, there ? k[e] : 0, args.accumulate);
                    if (args.dv.view.data && column + e < problem.head_dim_v)
                        store_gradient(args.dv, dv, column + e, there ? v[e] : 0, args.accumulate);
                }
            }
        }
    }

    if constexpr (by_bias) {
        const bias_grid grid(problem);
        const int64_t key0 = at.tile_k * tile::other;
#pragma unroll 1
        for (int64_t b = at.batch; b < problem.batch; b += grid.batch)
#pragma unroll 1
            for (int64_t h = at.head; h < problem.num_heads; h += grid.heads) {
                sequence = attend_sequence_of(&problem, &args.lists, b);
                last_own = min(own0 + tile::own, sequence.seqlen_q);
                if (last_own <= own0) continue;
                const attend_head head = attend_head_of(&problem, &args.terms, &sequence, b, h);
                const tile_range seen =
                    visible_tiles(visible_keys(problem, sequence, own0),
                                  visible_keys(problem, sequence, last_own - 1), tile::other);
                if (!seen.sees(static_cast<int>(at.tile_k))) continue;
                load_queries(own1, own2, own0, h, own_rows());
                load_keys(other1, other2, key0, h / group, other_rows());
#pragma unroll
                for (int i = 0; i < rows; i++) {
                    const int64_t row = own0 + y + i;
                    lse[i] = row < last_own ? row_of_sums(args, sequence, h, row) : row_lse();
                    delta[i] = row < last_own ? to.delta[sum_of_query(problem, sequence, h, row)] : 0;
                }
                cp_async_wait<0>();
                __syncthreads();
                weigh(head, own0, key0, true);
#pragma unroll
                for (int i = 0; i < rows; i++)
#pragma unroll
                    for (int j = 0; j < columns; j++) sum_ds[i][j] += dp[i][j];
                __syncthreads(); // nobody reads the tiles any more
            }
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int j = 0; j < columns; j++) {
                const int64_t row = own0 + y + i, key = key0 + x + j * across;
                if (row >= problem.seqlen_q || key >= problem.seqlen_k) continue;
                float &bias = bias_gradient(args, at.batch, at.head, row)[key * args.bias.key];
                bias = args.accumulate ? bias + sum_ds[i][j] : sum_ds[i][j];
            }
    }
}

template <int dim> const void *kernel_of(attend_backward_stage stage)
{
    return stage == ATTEND_BACKWARD_QUERIES
               ? reinterpret_cast<const void *>(&backward_fma<dim, ATTEND_BACKWARD_QUERIES>)
           : stage == ATTEND_BACKWARD_KEYS
               ? reinterpret_cast<const void *>(&backward_fma<dim, ATTEND_BACKWARD_KEYS>)
               : reinterpret_cast<const void *>(&backward_fma<dim, ATTEND_BACKWARD_BIAS>);
}

template <int dim> cudaError_t prepare()
{
    for (int stage = 0; stage < ATTEND_BACKWARD_STAGES; stage++) {
        const cudaError_t error = cudaFuncSetAttribute(
            kernel_of<dim>(static_cast<attend_backward_stage>(stage)),
            cudaFuncAttributeMaxDynamicSharedMemorySize, backward_tile<dim>::shared_bytes);
        if (error) return error;
    }
    return cudaSuccess;
}

template <int dim> bool blocks(const attend_problem *p, attend_backward_stage stage, int64_t *blocks)
{
    using tile = backward_tile<dim>;
    const bool by_keys = stage == ATTEND_BACKWARD_KEYS;
    return count_backward_blocks(*p, stage, by_keys ? tile::other : tile::own,
                                 by_keys ? tile::own : tile::other, blocks);
}

template <int dim>
cudaError_t launch(attend_backward_stage stage, const attend_backward_args *args, cudaStream_t stream)
{
    using tile = backward_tile<dim>;
    void *parameters[] = {const_cast<attend_backward_args *>(args)};
    if (args->block_count == 0) return cudaSuccess;
    return cudaLaunchKernel(kernel_of<dim>(stage), static_cast<unsigned>(args->block_count), tile::threads,
                            parameters, tile::shared_bytes, stream);
}

template <int dim> constexpr attend_backward_row row(const char *name, attend_dtype dtype)
{
    using tile = backward_tile<dim>;
    return {{name,
             ATTEND_CUDA,
             dtype,
             dim,
             dim,
             least_architecture,
             tile::own,
             tile::other,
             tile::threads,
             tile::shared_bytes,
             features,
             true,
             false,
             {}},
            true,
            dtype == ATTEND_F32,
            true,
            blocks<dim>,
            prepare<dim>,
            launch<dim>};
}

} // namespace
} // namespace attend

constexpr attend_backward_row attend_backward_fma_rows[] = {
    // clang-format off
    ATTEND_D64(attend::row<64>("backward_fma_f32_d64", ATTEND_F32),)
    ATTEND_TO_128(attend::row<128>("backward_fma_f32_d128", ATTEND_F32),)
    ATTEND_TO_256(attend::row<256>("backward_fma_f32_d256", ATTEND_F32),)
    ATTEND_TO_128(attend::row<128>("backward_fma_f16_d128", ATTEND_F16),)
    ATTEND_TO_256(attend::row<256>("backward_fma_f16_d256", ATTEND_F16),)
    ATTEND_TO_128(attend::row<128>("backward_fma_bf16_d128", ATTEND_BF16),)
    ATTEND_TO_256(attend::row<256>("backward_fma_bf16_d256", ATTEND_BF16),)
    // clang-format on
};
const int attend_backward_fma_row_count = sizeof attend_backward_fma_rows / sizeof *attend_backward_fma_rows;

// Inspection (attend/inspect.h), in memory linear in seqlen. For a row i with LSE L, over its visible keys j:
//     p = exp(s_ij - L);  weight += p;  entropy -= p·(s - L);  distance += p·|j - position|;
//     mass[w] += p if j in window w
// and the largest s are listed. Without an LSE, a first pass over the keys computes it: m' = max(m, s); l =
// l·exp(m - m') + exp(s - m').
//
// A block has 16 rows of one query head, four a warp; a lane has one key of a tile of 32. Q and K pass
// through shared memory 64 dims at a time as fp32, rows of K a word apart from a multiple of 32 banks. Each
// lane sums over its own keys; lanes are summed at the end by shuffles. Map and distance are sums over
// blocks: each block stores its part separately, and a second kernel sums the parts in order.
#include "dtype.cuh"
#include "inspect_kernels.h"
#include "keys.cuh"
#include "warp.cuh"

#include <climits>

namespace
{

constexpr int lanes = 32, warps = 4, warp_rows = 4, rows = attend_inspect_rows, keys = lanes, dims = 64,
              pitch = dims + 1;
static_assert(rows == warps * warp_rows);

struct tiles {
    float q[rows][dims], k[keys][pitch], weights[rows][keys + 1], sums[rows][2];
    float top_scores[rows][ATTEND_MAX_TOP_KEYS];
    int top_keys[rows][ATTEND_MAX_TOP_KEYS];
};

// Inserts into a list of the largest scores, largest first, kept by a warp. Among equal scores the new one
// goes last, since keys arrive in ascending order. Returns the new length of the list.
__device__ int insert(float *scores, int *listed, int count, int top, float score, int key)
{
    const int lane = threadIdx.x % lanes;
    float held[2];
    int held_keys[2], rank = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int at = lane + i * lanes;
        held[i] = at < count ? scores[at] : 0, held_keys[i] = at < count ? listed[at] : 0;
        rank += __popc(__ballot_sync(~0u, at < count && held[i] >= score));
    }
    __syncwarp(); // all lanes have read
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int at = lane + i * lanes;
        if (at >= rank && at < count && at + 1 < top) scores[at + 1] = held[i], listed[at + 1] = held_keys[i];
    }
    if (lane == 0) scores[rank] = score, listed[rank] = key;
    __syncwarp();
    return min(count + 1, top);
}

template <typename T> struct rows_at_work {
    const attend_inspect_args &a;
    const attend_sequence sequence;
    const attend_head head;
    tiles &shared;
    const int64_t row0; // first row of the block
    const int warp;
    const T *q, *k;
    const int lane;
    bool q_is_loaded = false;
    int begin[warp_rows], end[warp_rows]; // visible interval of each row of the warp
    float lse[warp_rows];

    __device__ int64_t row(int r) const { return row0 + warp * warp_rows + r; }

    __device__ int64_t kv_head() const { return head.head / (a.problem.num_heads / a.problem.num_kv_heads); }

    template <typename Rows>
    __device__ void fetch_keys(const Rows &from, int64_t key, int64_t first, int count)
    {
        for (int i = threadIdx.x; i < keys * dims; i += warps * lanes) {
            const int j = i / dims, c = i % dims;
            const bool valid = key + j < sequence.seqlen_k && c < count;
            const attend::found_row<T> found =
                valid ? from.find(key + j) : attend::found_row<T>{from.anywhere(), false};
            shared.k[j][c] = found.there ? static_cast<float>(found.at[first + c]) : 0;
        }
    }
    __device__ void fetch(int64_t key, int64_t first, int count)
    {
        __syncthreads(); // no thread reads the tiles any more
        if (a.keys.table)
            fetch_keys(attend::rows_in_pages<T>{a.k, a.keys, sequence, kv_head(), 0}, key, first, count);
        else
            fetch_keys(attend::rows_apart<T>{k, a.k.seqlen}, key, first, count);
        for (int i = threadIdx.x; i < rows * dims && !q_is_loaded; i += warps * lanes) {
            const int r = i / dims, c = i % dims;
            const bool valid = row0 + r < sequence.seqlen_q && c < count;
            shared.q[r][c] = valid ? static_cast<float>(q[r * a.q.seqlen + first + c]) : 0;
        }
        q_is_loaded = a.problem.head_dim <= dims;
        __syncthreads();
    }

    // The scores of this lane's key of the tile for the warp's rows; -infinity where the key is masked.
    __device__ void score(int64_t key, bool elementwise, float (&s)[warp_rows])
    {
        const int64_t at = key + lane;
        const bool there =
            !a.keys.table || (at < sequence.seqlen_k && attend::has_page(a.keys, sequence, at));
#pragma unroll
        for (int r = 0; r < warp_rows; r++) s[r] = 0;
        for (int64_t first = 0; first < a.problem.head_dim; first += dims) {
            const int count = static_cast<int>(min(a.problem.head_dim - first, int64_t(dims)));
            fetch(key, first, count);
            for (int c = 0; c < count; c++)
#pragma unroll
                for (int r = 0; r < warp_rows; r++)
                    s[r] = fmaf(shared.q[warp * warp_rows + r][c], shared.k[lane][c], s[r]);
        }
#pragma unroll 1
        for (int r = 0; r < warp_rows; r++) {
            const bool inside = there && at >= begin[r] && at < end[r];
            s[r] = !inside       ? -INFINITY
                   : elementwise ? attend_element_score(&head, row(r), at, s[r])
                                 : s[r] * head.scale;
        }
    }
};

// Online softmax over a lane's keys of a row; lse() joins the lanes.
struct sum_of_row {
    float max = -INFINITY, sum = 0;

    __device__ void add(float score)
    {
        if (score == -INFINITY) return;
        if (score > max)
            sum = sum * expf(max - score) + 1, max = score;
        else
            sum += expf(score - max);
    }
    __device__ float lse(bool sinks, float sink) const
    {
        const float top = attend::warp_max(max),
                    total = attend::warp_sum(sum == 0 ? 0 : sum * expf(max - top));
        float normaliser, result = total == 0 ? -INFINITY : top + logf(total);
        if (sinks) attend_softmax_finish(total == 0 ? -INFINITY : top, total, sink, &normaliser, &result);
        return result;
    }
};

// Adds a tile's weights to the map: sums over the block's rows of a map row, and over the tile's keys of a
// map column. Lanes of one column are neighbours; the first of them stores the sum.
__device__ void add_to_map(const attend_inspect_args &a, const tiles &shared, int64_t unit, int64_t row0,
                           int64_t key, int64_t seqlen_k)
{
    const attend_inspection &want = a.request.want;
    const int lane = threadIdx.x % lanes;
    const int64_t rows_of_tiles = want.map.shape[2], columns = want.map.shape[3],
                  x = key + lane - want.first_key;
    const bool inside = x >= 0 && x < want.map_keys && key + lane < seqlen_k;
    const int64_t column = inside ? attend_map_tile(x, want.map_keys, columns) : -1;
    const int64_t before = __shfl_up_sync(~0u, column, 1);
    const bool first = inside && (lane == 0 || before != column);
    float sum = 0;
    for (int r = 0; r < rows; r++) {
        const int64_t y = row0 + r - want.first_query;
        if (y < 0 || y >= want.map_queries) continue;
        const int64_t tile = attend_map_tile(y, want.map_queries, rows_of_tiles);
        sum += shared.weights[r][lane];
        if (r + 1 < rows && y + 1 < want.map_queries &&
            attend_map_tile(y + 1, want.map_queries, rows_of_tiles) == tile)
            continue;
        float total = sum;
        for (int step = 1; step < lanes; step++) {
            const float other = __shfl_down_sync(~0u, sum, step);
            const int64_t its_column = __shfl_down_sync(~0u, column, step);
            if (lane + step < lanes && its_column == column) total += other;
        }
        const int64_t slot = unit / a.blocks * a.map_slots + unit % a.blocks - a.map_first + tile;
        if (first) a.slots[slot * columns + column] += total;
        sum = 0;
    }
}

__device__ float *row_of(const attend_tensor &t, const attend_sequence &s, int64_t head, int64_t row)
{
    return static_cast<float *>(t.data) + s.batch * t.stride[0] + head * t.stride[1] +
           (s.first_q + row) * t.stride[2];
}

__device__ float *weights_of(const attend_inspect_args &a, const attend_sequence &s, int64_t head, int64_t n)
{
    const attend_tensor &t = a.request.want.weights;
    return static_cast<float *>(t.data) + s.batch * t.stride[0] + head * t.stride[1] + n * t.stride[2];
}

// The first destination of all weights of a row, zeroed by the lanes that will write them. Null: not
// requested.
__device__ float *chosen(const attend_inspect_args &a, const attend_sequence &s, int64_t head, int64_t row)
{
    const attend_inspection &want = a.request.want;
    int64_t n = 0;
    while (want.weights.data && n < want.num_queries && want.queries[n] != s.first_q + row) n++;
    if (!want.weights.data || n == want.num_queries) return nullptr;
    float *to = weights_of(a, s, head, n);
    for (int64_t j = threadIdx.x % lanes; j < a.problem.seqlen_k; j += lanes) to[j] = 0;
    return to;
}

__device__ void copy_repeated(const attend_inspect_args &a, const attend_sequence &s, int64_t head,
                              int64_t row, const float *from)
{
    const attend_inspection &want = a.request.want;
    for (int64_t n = 0; from && n < want.num_queries; n++) {
        float *to = weights_of(a, s, head, n);
        if (want.queries[n] != s.first_q + row || to == from) continue;
        for (int64_t j = threadIdx.x % lanes; j < a.problem.seqlen_k; j += lanes) to[j] = from[j];
    }
}

__device__ void store_top(const attend_inspect_args &a, const attend_sequence &s, int64_t head, int64_t row,
                          const float *scores, const int *listed, int count, float lse, bool poisoned)
{
    const attend_tensor &top_keys = a.request.want.top_keys, &top_weights = a.request.want.top_weights;
    for (int n = threadIdx.x % lanes; n < a.request.top; n += lanes) {
        const bool valid = n < count && !poisoned;
        if (top_keys.data)
            static_cast<int64_t *>(
                top_keys.data)[s.batch * top_keys.stride[0] + head * top_keys.stride[1] +
                               (s.first_q + row) * top_keys.stride[2] + n * top_keys.stride[3]] =
                valid ? listed[n] : -1;
        if (top_weights.data)
            row_of(top_weights, s, head, row)[n * top_weights.stride[3]] = valid      ? expf(scores[n] - lse)
                                                                           : poisoned ? NAN
                                                                                      : 0;
    }
}

template <typename T>
__global__ void __launch_bounds__(warps *lanes) inspect_rows(const __grid_constant__ attend_inspect_args a)
{
    __shared__ tiles shared;
    const attend_problem &problem = a.problem;
    const attend_inspection &want = a.request.want;
    const int64_t unit = a.first_block + blockIdx.x, b = unit / a.blocks / problem.num_heads,
                  head = unit / a.blocks % problem.num_heads;
    const int64_t row0 = unit % a.blocks * rows, head_kv = head / (problem.num_heads / problem.num_kv_heads);
    const attend_sequence sequence = attend_sequence_of(&problem, &a.lists, b);
    const int64_t all_rows = attend_rows_of(&problem, &sequence);
    if (row0 >= all_rows) return;
    rows_at_work<T> w = {a,
                         sequence,
                         attend_head_of(&problem, &a.terms, &sequence, b, head),
                         shared,
                         row0,
                         int(threadIdx.x / lanes),
                         static_cast<const T *>(a.q.data) + sequence.batch * a.q.batch + head * a.q.head +
                             (sequence.first_q + row0) * a.q.seqlen,
                         static_cast<const T *>(a.k.data) + sequence.batch * a.k.batch + head_kv * a.k.head +
                             sequence.first_k * a.k.seqlen,
                         int(threadIdx.x % lanes)};
    const bool elementwise = attend_is_elementwise(&problem);
    // read twice, which saves a register
    const auto sink = [&] { return problem.sinks ? attend_head_sink(&a.terms, head) : -INFINITY; };
    // Neither end of a row's visible interval decreases from row to row.
    const int64_t last = min(row0 + rows, sequence.seqlen_q) - 1;
    const int64_t low = last < row0 ? 0 : attend_visible_begin(&problem, &sequence, row0) / keys * keys;
    const int64_t high = last < row0 ? 0 : attend_visible_end(&problem, &sequence, last);
    for (int r = 0; r < warp_rows; r++) {
        const bool valid = w.row(r) < sequence.seqlen_q;
        w.begin[r] = valid ? static_cast<int>(attend_visible_begin(&problem, &sequence, w.row(r))) : 0;
        w.end[r] = valid ? static_cast<int>(attend_visible_end(&problem, &sequence, w.row(r))) : 0;
    }
    // The first tile from `key` on that is not hidden from all rows.
    const auto visible_from = [&](int64_t key) {
        while (elementwise && key < high &&
               attend_tile_hidden(&w.head, row0, last + 1 - row0, key, min(high - key, int64_t(keys))))
            key += keys;
        return key;
    };
    float s[warp_rows];

    sum_of_row sums[warp_rows];
    for (int64_t key = visible_from(low); key < high && !a.lse.data; key = visible_from(key + keys)) {
        w.score(key, elementwise, s);
#pragma unroll
        for (int r = 0; r < warp_rows; r++) sums[r].add(s[r]);
    }
#pragma unroll
    for (int r = 0; r < warp_rows; r++) {
        float lse = sums[r].lse(problem.sinks, sink());
        const bool valid = w.row(r) < sequence.seqlen_q;
        if (a.lse.data && valid)
            lse = static_cast<const float *>(a.lse.data)[sequence.batch * a.lse.batch + head * a.lse.head +
                                                         (sequence.first_q + w.row(r)) * a.lse.seqlen];
        w.lse[r] = lse == -INFINITY || !valid ? 0 : lse == INFINITY ? NAN : lse;
    }

    float weight[warp_rows] = {}, entropy[warp_rows] = {}, distance[warp_rows] = {}, threshold[warp_rows],
          mass[ATTEND_MAX_KEY_WINDOWS][warp_rows];
    float *all[warp_rows]; // destination of all of a row's weights
    int count[warp_rows] = {};
#pragma unroll
    for (int r = 0; r < warp_rows; r++) {
        threshold[r] = a.request.top > 0 ? -INFINITY : INFINITY;
        all[r] = w.row(r) < all_rows ? chosen(a, sequence, head, w.row(r)) : nullptr;
    }
    const int windows = want.mass.data ? static_cast<int>(want.num_windows) : 0;
    for (int n = 0; n < windows; n++)
        for (int r = 0; r < warp_rows; r++) mass[n][r] = 0;
    for (int64_t key = visible_from(low); key < high; key = visible_from(key + keys)) {
        const int64_t at = key + w.lane;
        w.score(key, elementwise, s);
#pragma unroll
        for (int r = 0; r < warp_rows; r++) {
            const int row = w.warp * warp_rows + r;
            for (uint32_t better = __ballot_sync(~0u, s[r] > threshold[r]); better; better &= better - 1) {
                const int lane = __ffs(static_cast<int>(better)) - 1;
                const float score = __shfl_sync(~0u, s[r], lane);
                if (!(score > threshold[r])) continue;
                count[r] = insert(shared.top_scores[row], shared.top_keys[row], count[r],
                                  static_cast<int>(a.request.top), score, static_cast<int>(key) + lane);
                if (count[r] == a.request.top) threshold[r] = shared.top_scores[row][count[r] - 1];
            }
            const float surplus = s[r] - w.lse[r], p = s[r] == -INFINITY ? 0 : expf(surplus);
            weight[r] += p;
            if (p != 0) entropy[r] -= p * surplus; // also where p is NaN
            distance[r] =
                fmaf(p, fabsf(static_cast<float>(at - attend_position(&problem, &sequence, w.row(r)))),
                     distance[r]);
            for (int n = 0; n < windows; n++) {
                int64_t begin, end;
                attend_window_keys(&problem, &sequence, &a.request.windows[n], w.row(r), &begin, &end);
                if (at >= begin && at < end) mass[n][r] += p;
            }
            if (all[r] && at < sequence.seqlen_k) all[r][at] = p;
            shared.weights[row][w.lane] = p;
        }
        if (!want.map.data) continue;
        __syncthreads(); // all rows' weights are stored
        if (w.warp == 0) add_to_map(a, shared, unit, row0, key, sequence.seqlen_k);
    }

#pragma unroll
    for (int r = 0; r < warp_rows; r++) {
        const int row = w.warp * warp_rows + r;
        const float total = attend::warp_sum(weight[r]), far = attend::warp_sum(distance[r]);
        float nats = attend::warp_sum(entropy[r]);
        if (w.lane == 0) shared.sums[row][0] = total, shared.sums[row][1] = far;
        for (int n = 0; n < windows; n++) mass[n][r] = attend::warp_sum(mass[n][r]);
        if (w.row(r) >= all_rows) continue;
        const float own = sink() - w.lse[r];
        if (problem.sinks && total != 0 && own > -200) nats -= expf(own) * own; // alone: weight 1
        if (w.lane == 0 && want.entropy.data) *row_of(want.entropy, sequence, head, w.row(r)) = nats;
        for (int n = w.lane; n < windows; n += lanes)
            row_of(want.mass, sequence, head, w.row(r))[n * want.mass.stride[3]] = mass[n][r];
        store_top(a, sequence, head, w.row(r), shared.top_scores[row], shared.top_keys[row], count[r],
                  w.lse[r], isnan(total));
        copy_repeated(a, sequence, head, w.row(r), all[r]);
    }
    __syncthreads();
    if (threadIdx.x < 2) {
        double sum = 0;
        for (int r = 0; r < rows; r++) sum += shared.sums[r][threadIdx.x];
        a.sums[2 * unit + threadIdx.x] = sum;
    }
}

// One thread each: first the tiles of the map, then the heads' distances.
__global__ void __launch_bounds__(warps *lanes) inspect_finish(const __grid_constant__ attend_inspect_args a)
{
    const attend_inspection &want = a.request.want;
    const int64_t heads = a.problem.num_heads, tiles_q = want.map.data ? want.map.shape[2] : 0,
                  tiles_k = want.map.data ? want.map.shape[3] : 0;
    const int64_t n = blockIdx.x * int64_t(warps * lanes) + threadIdx.x,
                  tiles_in_all = a.problem.batch * heads * tiles_q * tiles_k;
    if (n < tiles_in_all) {
        const int64_t x = n % tiles_k, y = n / tiles_k % tiles_q, head = n / (tiles_k * tiles_q);
        const int64_t first = attend_map_begin(y, want.map_queries, tiles_q),
                      end = attend_map_begin(y + 1, want.map_queries, tiles_q);
        const int64_t width =
            attend_map_begin(x + 1, want.map_keys, tiles_k) - attend_map_begin(x, want.map_keys, tiles_k);
        float sum = 0;
        for (int64_t block = (want.first_query + first) / rows; block <= (want.first_query + end - 1) / rows;
             block++)
            sum += a.slots[(head * a.map_slots + block - a.map_first + y) * tiles_k + x];
        static_cast<float *>(
            want.map.data)[head / heads * want.map.stride[0] + head % heads * want.map.stride[1] +
                           y * want.map.stride[2] + x * want.map.stride[3]] =
            sum / (static_cast<float>(end - first) * static_cast<float>(width));
        return;
    }
    const int64_t head = n - tiles_in_all;
    if (!want.distance.data || head >= a.problem.batch * heads) return;
    double weight = 0, distance = 0;
    for (int64_t i = head * a.blocks; i < (head + 1) * a.blocks; i++)
        weight += a.sums[2 * i], distance += a.sums[2 * i + 1];
    static_cast<float *>(
        want.distance.data)[head / heads * want.distance.stride[0] + head % heads * want.distance.stride[1]] =
        weight != 0 ? static_cast<float>(distance) / static_cast<float>(weight) : 0;
}

} // namespace

cudaError_t attend_inspect_blocks(const attend_inspect_args *args, int64_t count, cudaStream_t stream)
{
    void *parameters[] = {const_cast<attend_inspect_args *>(args)};
    if (count == 0) return cudaSuccess;
    if (count > INT_MAX) return cudaErrorInvalidConfiguration;
    return cudaLaunchKernel(ATTEND_KERNEL_OF(args->problem.dtype, inspect_rows), static_cast<unsigned>(count),
                            warps * lanes, parameters, 0, stream);
}

cudaError_t attend_inspect_finish(const attend_inspect_args *args, cudaStream_t stream)
{
    const attend_tensor &map = args->request.want.map;
    const int64_t heads = args->problem.batch * args->problem.num_heads,
                  all = heads * (map.data ? map.shape[2] * map.shape[3] : 0) + heads;
    const int64_t threads = warps * lanes, blocks = (all + threads - 1) / threads;
    void *parameters[] = {const_cast<attend_inspect_args *>(args)};
    if (blocks == 0) return cudaSuccess;
    if (blocks > INT_MAX) return cudaErrorInvalidConfiguration;
    return cudaLaunchKernel(reinterpret_cast<const void *>(&inspect_finish), static_cast<unsigned>(blocks),
                            threads, parameters, 0, stream);
}

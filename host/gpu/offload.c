/* How runs with tensors on the host are cut: the largest blocks of queries that the budget allows, since each
   block reads the keys again; no more heads at once than copies and launches need to be large. */
#include "gpu/gpu.h"

#include <inttypes.h>

enum {
    LEAST_QUERIES = 64, /* of a block */
    ROUND_QUERIES = 128,
    MOST_SPANS = 16 /* of a part of keys */
};
static const size_t large = (size_t)16 << 20; /* copies of more bytes gain nothing */

static int64_t round_down(int64_t n, int64_t to) { return n / to * to; }

/* ---- bytes of a choice ---- */

int64_t attend_gpu_pitch(const attend_problem *p, attend_gpu_buffer buffer)
{
    const int64_t dims = buffer == ATTEND_GPU_KEYS     ? p->head_dim
                         : buffer == ATTEND_GPU_VALUES ? p->head_dim_v
                                                       : attend_most(p->head_dim, p->head_dim_v);
    return attend_gpu_whole_rows(dims, attend_dtype_bytes(p->dtype));
}

int64_t attend_gpu_slots(const attend_gpu_blocks *b, attend_gpu_buffer buffer)
{
    switch (buffer) {
    case ATTEND_GPU_QUERIES:
    case ATTEND_GPU_LSE: return b->query_slots;
    case ATTEND_GPU_STATE_OUT:
    case ATTEND_GPU_STATE_MAX:
    case ATTEND_GPU_STATE_SUM: return b->states ? b->query_slots : b->carries;
    case ATTEND_GPU_PARTIALS: return b->partials_of_box;
    case ATTEND_GPU_MASK: return b->streams_mask ? b->key_slots : 0;
    case ATTEND_GPU_BIAS: return b->streams_bias ? b->key_slots : 0;
    default: return b->key_slots;
    }
}

/* Products of what is counted here fit 63 bits unless a tensor of the problem does not. */
static size_t saturated(double bytes) { return bytes < 4e18 ? (size_t)bytes : (size_t)4e18; }

static double mask_elements(const attend_problem *p, const attend_gpu_blocks *b, int axes)
{
    const int64_t group = p->num_heads / p->num_kv_heads;
    return (double)(axes & ATTEND_PER_BATCH ? b->batch : 1) *
           (double)(axes & ATTEND_PER_HEAD ? b->kv_heads * group : 1) * (double)b->queries *
           (double)attend_gpu_whole_rows(b->keys, 1);
}

/* Of the kernel for aligned tensors or the other one, whichever needs more. */
static double partials_of(const attend_problem *p, const attend_gpu_blocks *b)
{
    const attend_kernel_box box = {0, b->batch, 0, b->kv_heads, 0, b->queries, 0, b->keys};
    int64_t bytes = 0;
    for (int i = 0; i < 2; i++)
        if (b->rows[i]->partial_bytes) bytes = attend_most(bytes, b->rows[i]->partial_bytes(p, &box));
    return (double)bytes;
}

int64_t attend_gpu_whole_partials(const attend_problem *p, const attend_kernel_row *const rows[2])
{
    const attend_gpu_blocks whole = {.batch = p->batch,
                                     .kv_heads = p->num_kv_heads,
                                     .queries = p->seqlen_q,
                                     .keys = p->seqlen_k,
                                     .rows = {rows[0], rows[1]}};
    return (int64_t)partials_of(p, &whole);
}

size_t attend_gpu_slot_bytes(const attend_problem *p, const attend_gpu_blocks *b, attend_gpu_buffer buffer)
{
    const double element = (double)attend_dtype_bytes(p->dtype),
                 pairs = (double)b->batch * (double)b->kv_heads,
                 rows = pairs * (double)(p->num_heads / p->num_kv_heads) * (double)b->queries,
                 keys = pairs * (double)b->keys;
    double bytes = 0;
    switch (buffer) {
    case ATTEND_GPU_QUERIES: bytes = rows * (double)attend_gpu_pitch(p, buffer) * element; break;
    case ATTEND_GPU_STATE_OUT: bytes = rows * (double)p->head_dim_v * sizeof(float); break;
    case ATTEND_GPU_KEYS:
    case ATTEND_GPU_VALUES: bytes = keys * (double)attend_gpu_pitch(p, buffer) * element; break;
    case ATTEND_GPU_PARTIALS: bytes = partials_of(p, b); break;
    case ATTEND_GPU_MASK: bytes = mask_elements(p, b, p->mask_axes); break;
    case ATTEND_GPU_BIAS: bytes = mask_elements(p, b, p->bias_axes) * sizeof(float); break;
    default: bytes = rows * sizeof(float); break;
    }
    return (saturated(bytes) + 255) / 256 * 256;
}

static double bytes_of(const attend_problem *p, const attend_gpu_blocks *b)
{
    double bytes = 0;
    for (int i = 0; i < ATTEND_GPU_BUFFERS; i++)
        bytes += (double)attend_gpu_slot_bytes(p, b, (attend_gpu_buffer)i) *
                 (double)attend_gpu_slots(b, (attend_gpu_buffer)i);
    return bytes;
}

static double keys_bytes(const attend_problem *p, const attend_gpu_blocks *b)
{
    return (double)attend_gpu_slot_bytes(p, b, ATTEND_GPU_KEYS) +
           (double)attend_gpu_slot_bytes(p, b, ATTEND_GPU_VALUES);
}

/* ---- the choice ---- */

/* Whole heads, as many at once as fit and make copies large. */
static bool take_heads(const attend_problem *p, double budget, attend_gpu_blocks *b)
{
    b->batch = attend_tensor_batch(p), b->kv_heads = p->num_kv_heads;
    while (bytes_of(p, b) > budget ||
           (double)attend_gpu_slot_bytes(p, b, ATTEND_GPU_QUERIES) + keys_bytes(p, b) > (double)large) {
        int64_t *const shrinks = b->batch > 1 ? &b->batch : &b->kv_heads;
        if (*shrinks <= 1) return bytes_of(p, b) <= budget;
        *shrinks = (*shrinks + 1) / 2;
    }
    return true;
}

/* One KV head, and the largest blocks of its queries that fit. */
static bool take_queries(const attend_problem *p, double budget, attend_gpu_blocks *b)
{
    const int64_t all = b->queries;
    int64_t low = p->packed ? all : attend_least(all, LEAST_QUERIES), high = all;
    b->batch = b->kv_heads = 1, b->queries = low;
    if (bytes_of(p, b) > budget) return false;
    while (low < high) {
        b->queries = low + (high - low + 1) / 2;
        if (bytes_of(p, b) <= budget)
            low = b->queries;
        else
            high = b->queries - 1;
    }
    b->queries = low < all && low > ROUND_QUERIES ? round_down(low, ROUND_QUERIES) : low;
    return true;
}

/* Parts that are large copies, in buffers of at most so many bytes. */
static void take_part(const attend_problem *p, double room, attend_gpu_blocks *b)
{
    const int64_t all = b->keys;
    b->batch = b->kv_heads = 1;
    for (b->keys = MOST_SPANS * attend_span_keys;
         b->keys > attend_span_keys && keys_bytes(p, b) * (double)b->key_slots > room;)
        b->keys /= 2;
    if (b->keys >= all) b->keys = all;
    b->carries = b->keys < all;
}

/* Whether the budget will do. All queries of a head with all of its keys, or with parts of them, move each
   byte once; so do blocks of queries while all keys stay. Else each block brings the keys again. */
bool attend_gpu_choose_blocks(const attend_problem *p, double budget, const attend_gpu_blocks *all,
                              attend_gpu_blocks *b)
{
    for (int64_t slots = 2; slots > 0; slots--) {
        *b = *all, b->query_slots = slots, b->key_slots = 2;
        if (take_heads(p, budget, b) && keys_bytes(p, b) <= 4 * (double)large) return true;
    }
    *b = *all, b->query_slots = 1, b->key_slots = 2;
    for (double room = budget / 4; !p->packed && room >= budget / 64; room /= 4) {
        take_part(p, room, b);
        if (take_heads(p, budget, b)) return true;
        b->keys = all->keys, b->queries = all->queries;
    }
    for (int64_t slots = 2; slots > 0; slots--) {
        *b = *all, b->query_slots = b->key_slots = slots;
        if (take_queries(p, budget, b)) return true;
    }
    *b = *all, b->query_slots = 1, b->key_slots = 2;
    if (p->packed) return false;
    /* The rest is for queries. A power of two fits beside a plan's tables, too: half of it would move states
       twice as often. */
    take_part(p, budget / 63, b);
    return take_queries(p, budget, b);
}

static bool streams(const attend_problem *p, int axes, size_t element, double budget)
{
    const attend_gpu_blocks all = {
        .batch = p->batch, .kv_heads = p->num_kv_heads, .queries = p->seqlen_q, .keys = p->seqlen_k};
    return axes & ATTEND_PER_QUERY && axes & ATTEND_PER_KEY && !p->packed &&
           mask_elements(p, &all, axes) * (double)element > budget / 8;
}

attend_gpu_blocks attend_gpu_whole_blocks(const attend_problem *p, const attend_kernel_row *const rows[2],
                                          bool states, double budget)
{
    attend_gpu_blocks all = {.batch = attend_tensor_batch(p),
                             .kv_heads = p->num_kv_heads,
                             .queries = attend_most(attend_rows_q(p), 1),
                             .keys = attend_most(attend_rows_k(p), 1),
                             .states = states && !p->packed,
                             .streams_mask = streams(p, p->mask_axes, 1, budget),
                             .streams_bias = streams(p, p->bias_axes, sizeof(float), budget),
                             .rows = {rows[0], rows[1]}};
    all.partials_of_box = !p->packed && partials_of(p, &all) > budget / 16;
    return all;
}

size_t attend_gpu_least_bytes(const attend_problem *p, const attend_gpu_blocks *all)
{
    attend_gpu_blocks b = *all, whole;
    b.query_slots = 1, b.key_slots = 2, b.batch = b.kv_heads = 1;
    whole = b, whole.key_slots = 1;
    if (p->packed) return saturated(bytes_of(p, &whole));
    b.queries = whole.queries = attend_least(all->queries, LEAST_QUERIES);
    b.keys = attend_least(all->keys, attend_span_keys), b.carries = b.keys < all->keys;
    return saturated(bytes_of(p, &b) < bytes_of(p, &whole) ? bytes_of(p, &b) : bytes_of(p, &whole));
}

/* ---- the steps of a run ---- */

/* The keys that rows of the box see, in whole spans; an empty range where they see none. */
static void seen_keys(const attend_gpu_steps *s, const attend_kernel_box *box, int64_t *first, int64_t *end)
{
    const attend_problem *p = s->problem;
    *first = s->whole.first_key, *end = s->whole.end_key;
    if (!s->lists || p->packed) return;
    int64_t low = *end, high = *first;
    for (int64_t b = box->first_batch; b < box->first_batch + box->batch; b++) {
        const attend_sequence sequence = attend_sequence_of(p, s->lists, b);
        const int64_t last = attend_least(box->end_query, sequence.seqlen_q) - 1;
        if (last < box->first_query) continue;
        low = attend_least(low, attend_visible_begin(p, &sequence, box->first_query));
        high = attend_most(high, attend_visible_end(p, &sequence, last));
    }
    if (low >= high) low = high = *first;
    *first = attend_clamp(round_down(low, attend_span_keys), *first, *end);
    *end = attend_clamp(attend_parts_of(high, attend_span_keys) * attend_span_keys, *first, *end);
}

/* Heads, then batch entries. */
static bool next_box(attend_gpu_steps *s)
{
    attend_kernel_box *box = &s->at.box;
    const attend_kernel_box *whole = &s->whole;
    const int64_t batch = s->problem->packed ? whole->batch : s->blocks->batch;
    if (!s->begun) {
        box->first_batch = whole->first_batch, box->first_kv_head = whole->first_kv_head;
        if (whole->batch <= 0 || whole->end_query <= whole->first_query) return false;
    } else if ((box->first_kv_head += box->kv_heads) >= whole->first_kv_head + whole->kv_heads) {
        box->first_kv_head = whole->first_kv_head;
        if ((box->first_batch += box->batch) >= whole->first_batch + whole->batch) return false;
    }
    box->batch = attend_least(batch, whole->first_batch + whole->batch - box->first_batch);
    box->kv_heads =
        attend_least(s->blocks->kv_heads, whole->first_kv_head + whole->kv_heads - box->first_kv_head);
    return true;
}

/* Packed sequences are not cut: their sizes are those of the longest, in buffers for all. */
static int64_t block_queries(const attend_gpu_steps *s)
{
    return s->problem->packed ? INT64_MAX / 2 : s->blocks->queries;
}

static int64_t part_end(const attend_gpu_steps *s, int64_t first)
{
    return s->problem->packed ? s->seen_end : attend_least(s->seen_end, first + s->blocks->keys);
}

/* The first block of a box is the smaller one: with causality it sees the fewest keys. */
static int64_t first_block(const attend_gpu_steps *s)
{
    const int64_t all = s->whole.end_query - s->whole.first_query, size = block_queries(s);
    return all > size ? all - (attend_parts_of(all, size) - 1) * size : all;
}

/* Keys that stay while all blocks of the box pass are those that any of its rows sees. */
static void begin_block(attend_gpu_steps *s, bool same_box)
{
    attend_gpu_step *at = &s->at;
    const bool stay = !s->blocks->carries && block_queries(s) < s->whole.end_query - s->whole.first_query;
    attend_kernel_box rows = at->box;
    int64_t first;
    if (stay) rows.first_query = s->whole.first_query, rows.end_query = s->whole.end_query;
    seen_keys(s, &rows, &first, &s->seen_end);
    at->begins = true, at->loads = !(stay && same_box);
    at->box.first_key = first, at->box.end_key = part_end(s, first);
}

bool attend_gpu_next_step(attend_gpu_steps *s)
{
    attend_gpu_step *at = &s->at;
    attend_kernel_box *box = &at->box;
    at->index += s->begun;
    if (s->begun && !at->ends) {
        at->begins = false, at->loads = true, at->load++;
        box->first_key = box->end_key, box->end_key = part_end(s, box->first_key);
    } else {
        const bool same_box = s->begun && box->end_query < s->whole.end_query;
        if (!same_box) {
            if (!next_box(s)) return false;
            box->first_query = s->whole.first_query, box->end_query = box->first_query + first_block(s);
        } else {
            box->first_query = box->end_query, box->end_query += block_queries(s);
        }
        begin_block(s, same_box);
        at->block += s->begun, at->load += s->begun && at->loads;
        s->begun = true;
    }
    at->ends = box->end_key >= s->seen_end;
    return true;
}

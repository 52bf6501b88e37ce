/* Packing: copies the caller's rows of any dtype to tiled panels of floats, which the micro-kernels read in
   sequence. */
#ifndef ATTEND_CPU_KERNEL_PACK_H
#define ATTEND_CPU_KERNEL_PACK_H

#include "cpu/elements.h"
#include "cpu/kernel_multiply.h"

#include <string.h>

enum {
    /* adjacent elements of a panel that come from one vector */
    PART = (int)LANES < (int)ROWS ? (int)LANES : (int)ROWS,
    /* the fewest keys that fill both vectors and panels */
    WHOLE = (int)LANES > (int)ROWS ? (int)LANES : (int)ROWS
};

ALWAYS_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ALWAYS_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Loads LANES rows by LANES columns from column c on, transposed; rows from `count` and columns from
   `columns` on are zeros. */
ALWAYS_INLINE void load_transposed(vf tile[LANES], const void *rows, int64_t stride, int64_t count, int64_t c,
                                   int64_t columns, attend_dtype dtype)
{
    if (count >= LANES && columns - c >= LANES) {
        UNROLL_FOR (16, int i = 0; i < LANES; i++) tile[i] = load_vector(rows, i * stride + c, dtype);
    } else {
        for (int i = 0; i < LANES; i++)
            tile[i] = i < count ? load_some(rows, i * stride + c, columns - c, dtype) : splat(0);
    }
    transpose(tile);
}

/* The same for LANES rows by 2·LANES columns of bf16, all valid: pairs are transposed as 32-bit elements,
   then split. */
ALWAYS_INLINE void load_transposed_pairs(vf tile[2 * LANES], const void *rows, int64_t stride, int64_t c)
{
    vf pair[LANES];
    UNROLL_FOR (16, int i = 0; i < LANES; i++)
        pair[i] = (vf)load_pairs((const uint16_t *)rows + i * stride + c);
    transpose(pair);
    UNROLL_FOR (16, int i = 0; i < LANES; i++)
        tile[2 * i] = (vf)((vi)pair[i] << 16), tile[2 * i + 1] = (vf)((vi)pair[i] & -0x10000);
}

/* Stores element i of a vector to row first + i of `panels`, which are `size` long and ROWS wide each. */
ALWAYS_INLINE void store_vectors(float *panels, int64_t size, int64_t first, int64_t at, vf v)
{
    for (int i = 0; i < LANES; i += PART) {
        int64_t packed_row = first + i;
        memcpy(panels + packed_row / ROWS * size * ROWS + at * ROWS + packed_row % ROWS,
               (const float *)&v + i, PART * sizeof(float));
    }
}

/* The element offset of a key's row in K or V. */
ALWAYS_INLINE int64_t key_offset(const attend_cpu_task *task, const attend_cpu_key_rows *rows, int64_t key)
{
    const attend_key_slot slot = attend_slot_of(&task->part->keys, &task->sequence, key);
    return slot.entry * rows->entry_stride + slot.row * rows->stride;
}

/* Copies rows [key, key + count) of K or V, `bytes` each, which lie in several pages. */
__attribute__((noinline)) static void gather_rows(const attend_cpu_task *task,
                                                  const attend_cpu_key_rows *rows, int64_t key, int64_t count,
                                                  int64_t bytes, int64_t element, char *to)
{
    while (count > 0) {
        const int64_t together = attend_keys_together(&task->part->keys, key, count);
        const char *from = rows->data + key_offset(task, rows, key) * element;
        for (int64_t i = 0; i < together; i++, to += bytes)
            memcpy(to, from + i * rows->stride * element, (size_t)bytes);
        key += together, count -= together;
    }
}

/* Rows [key, key + count) of K or V at one stride: in place, or as a copy in `room` where they lie in several
   pages. width: elements of a row. */
ALWAYS_INLINE attend_cpu_rows even_rows(const attend_cpu_task *task, const attend_cpu_key_rows *rows,
                                        int64_t key, int64_t count, int64_t width, int64_t element,
                                        void *room)
{
    if (attend_keys_together(&task->part->keys, key, count) == count)
        return (attend_cpu_rows){rows->data + key_offset(task, rows, key) * element, rows->stride, 0};
    gather_rows(task, rows, key, count, width * element, element, room);
    return (attend_cpu_rows){room, width, 0};
}

/* Packs keys [first, first + blocking.keys) as panels [head_dim][ROWS]; zeros beyond seqlen_k. The scratch
   holds rows of several pages. */
ALWAYS_INLINE void pack_keys(const attend_cpu_task *task, int64_t first, float *panels, attend_dtype dtype)
{
    int64_t d = task->problem->head_dim, count = least(task->sequence.seqlen_k - first, task->blocking.keys);
    int64_t element = attend_dtypes[dtype].bytes;
    for (int64_t j = 0; j < attend_cpu_round_up(count, WHOLE); j += LANES) {
        attend_cpu_rows rows = {0};
        if (j < count)
            rows = even_rows(task, &task->k, first + j, least(count - j, LANES), d, element, task->scratch);
        for (int64_t c = 0; c < d; c += LANES) {
            vf tile[LANES];
            load_transposed(tile, rows.data, rows.stride, count - j, c, d, dtype);
            if (d - c >= LANES) {
                UNROLL_FOR (16, int i = 0; i < LANES; i++) store_vectors(panels, d, j, c + i, tile[i]);
            } else {
                for (int i = 0; i < d - c; i++) store_vectors(panels, d, j, c + i, tile[i]);
            }
        }
    }
}

/* Packs the values of the same keys as panels [blocking.keys][ROWS] of columns; whether they are all finite.
   Four keys at a time fill a cache line of a narrow panel. */
ALWAYS_INLINE bool pack_values(const attend_cpu_task *task, int64_t first, attend_dtype dtype)
{
    int64_t dv = task->problem->head_dim_v, width = attend_cpu_round_up(dv, ROWS), keys = task->blocking.keys;
    int64_t count = least(task->sequence.seqlen_k - first, keys);
    float *panels = task->keys.v + first * width;
    vf none = splat(0);
    for (int64_t j = 0; j < count; j += 4) {
        const attend_cpu_rows rows = even_rows(task, &task->v, first + j, least(count - j, 4), dv,
                                               attend_dtypes[dtype].bytes, task->scratch);
        for (int64_t c = 0; c < width; c += LANES)
            for (int64_t k = j; k < j + 4 && k < count; k++) {
                vf v = load_some(rows.data, (k - j) * rows.stride + c, dv - c, dtype);
                none += v * splat(0);
                if (c + LANES <= width) {
                    store_vectors(panels, keys, c, k, v);
                    continue;
                }
                for (int64_t i = 0; i < width - c; i++)
                    panels[(c + i) / ROWS * keys * ROWS + k * ROWS + (c + i) % ROWS] = ((const float *)&v)[i];
            }
    }
    return !any(none != none);
}

/* Whether the values are all finite. */
static inline bool pack(const attend_cpu_task *task, int64_t first)
{
    float *keys = task->keys.k + first * task->problem->head_dim;
    switch (task->problem->dtype) {
    case ATTEND_F32: pack_keys(task, first, keys, ATTEND_F32); return pack_values(task, first, ATTEND_F32);
    case ATTEND_F16: pack_keys(task, first, keys, ATTEND_F16); return pack_values(task, first, ATTEND_F16);
    case ATTEND_BF16: pack_keys(task, first, keys, ATTEND_BF16); return pack_values(task, first, ATTEND_BF16);
    default: return true; /* activations have no other dtype */
    }
}

/* The query and the head within the group of a KV head's row. */
typedef struct packed_row {
    int64_t query, head;
} packed_row;

ALWAYS_INLINE packed_row packed_row_of(const attend_cpu_task *task, int64_t row)
{
    if (task->group == 1) return (packed_row){row, 0}; /* saves two divisions */
    return (packed_row){row / task->group, row % task->group};
}

/* Where a query lies in q, out, lse and states. */
ALWAYS_INLINE int64_t line_of(const attend_cpu_task *task, int64_t query)
{
    return query - task->part->first_query;
}

/* The visible interval [*begin, *end) of row `row` of the KV head within the run's keys; the kernel asks for
   it here only. */
ALWAYS_INLINE void visible(const attend_cpu_task *task, int64_t row, int64_t *begin, int64_t *end)
{
    int64_t query = packed_row_of(task, row).query;
    *begin = *end = 0;
    if (query >= task->sequence.seqlen_q) return;
    *begin = most(attend_visible_begin(task->problem, &task->sequence, query), task->part->first);
    *end = least(attend_visible_end(task->problem, &task->sequence, query), task->part->end);
}

/* Element offset of a KV head's row */
ALWAYS_INLINE int64_t row_offset(const attend_cpu_task *task, const attend_cpu_rows *rows, int64_t row)
{
    packed_row at = packed_row_of(task, row);
    return line_of(task, at.query) * rows->stride + at.head * rows->head_stride;
}

/* How a row's dot products become exponents of 2: queries are multiplied by a power of two, which is exact,
   and scores by `unit`, from 1 to 2, when they become weights. So dot products have no rounding error beyond
   that of their own products and sums, and none where these are exact. */
typedef struct row_scale {
    float power, unit;
} row_scale;

ALWAYS_INLINE row_scale row_scale_of(const attend_cpu_task *task, int64_t row)
{
    /* elementwise features apply the scale to plain dot products */
    if (task->elements) return (row_scale){1, (float)ATTEND_LOG2E};
    const float scale = (float)(task->heads[packed_row_of(task, row).head].scale * ATTEND_LOG2E);
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    if (!(bits & 0x7f800000)) return (row_scale){scale, 1}; /* 0 or subnormal */
    const uint32_t power = bits & 0xff800000, unit = (bits & 0x7fffff) | 0x3f800000;
    row_scale s;
    memcpy(&s.power, &power, sizeof power);
    memcpy(&s.unit, &unit, sizeof unit);
    return s;
}

/* Packs LANES queries from `row` on, `count` of them valid, times their power of two, as [head_dim][step]
   with the rows as lanes; unit: the units of their scores. */
ALWAYS_INLINE void pack_queries(const attend_cpu_task *task, int64_t row, int64_t count, float *q,
                                int64_t step, float *unit)
{
    int64_t d = task->problem->head_dim, offset[LANES];
    vf scale;
    for (int i = 0; i < LANES; i++) {
        const row_scale s = i < count ? row_scale_of(task, row + i) : (row_scale){0, 1};
        scale[i] = s.power, unit[i] = s.unit;
        offset[i] = i < count ? row_offset(task, &task->q, row + i) : 0;
    }
    for (int64_t c = 0; c < d; c += LANES) {
        vf tile[LANES];
        for (int i = 0; i < LANES; i++)
            tile[i] =
                i < count ? load_some(task->q.data, offset[i] + c, d - c, task->problem->dtype) : splat(0);
        transpose(tile);
        for (int64_t i = 0; i < LANES && i < d - c; i++) store(q + (c + i) * step, tile[i] * scale);
    }
}

#endif

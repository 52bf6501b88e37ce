/* Explains a plan: its decisions and its work, as numbers and as text. The backend gives the reasons. */
#include "core/arguments.h"
#include "core/backend.h"
#include "core/count.h"
#include "core/struct.h"
#include "shared/rope.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const projection_names[] = {"Q", "K", "V", "output"};

static double feature_bytes(const attend_problem *p)
{
    double bytes = 0;
    for (int feature = ATTEND_FEATURE_TENSOR_SEGMENTS_Q; feature <= ATTEND_FEATURE_TENSOR_BIAS; feature++) {
        const attend_feature_shape shape = attend_feature_expected(p, (attend_feature_tensor)feature);
        double elements = shape.rank > 0;
        for (int i = 0; i < shape.rank; i++) elements *= shape.varies[i] ? (double)shape.shape[i] : 1;
        const bool bias = feature == ATTEND_FEATURE_TENSOR_BIAS;
        bytes += elements * (double)attend_dtype_bytes(
                                bias ? p->dtype : attend_feature_dtype((attend_feature_tensor)feature));
    }
    return bytes;
}

static void count(const attend_problem *p, const attend_lists *lists, attend_explanation *e)
{
    const attend_tiling tiling = {e->tile_q, e->tile_k, e->grouped ? p->num_heads / p->num_kv_heads : 1};
    const attend_count counted = attend_count_pairs(p, lists, &tiling);
    const double dims = (double)(p->head_dim + p->head_dim_v), batch = (double)attend_tensor_batch(p);
    const double rows_q = batch * (double)attend_rows_q(p), rows_k = batch * (double)attend_rows_k(p),
                 element = (double)attend_dtype_bytes(p->dtype);
    e->pairs = counted.pairs, e->pairs_computed = counted.pairs_computed;
    e->flops = 2 * counted.pairs * dims;
    e->bytes = (rows_q * (double)p->num_heads + rows_k * (double)p->num_kv_heads) * dims * element +
               feature_bytes(p);
    if (p->absolute) /* x read and written, learned rows read */
        e->position_bytes =
            (p->absolute == ATTEND_ABSOLUTE_LEARNED ? 3 : 2) * rows_q * (double)p->hidden_size * element;
    if (attend_has_rope_or_norm(p))
        e->rope_bytes = 2 * rows_q * (double)(p->num_heads + p->num_kv_heads) * (double)p->head_dim * element;
}

static void count_projections(const attend_problem *p, attend_explanation *e)
{
    int64_t sizes[4][3];
    attend_count_projections(p, sizes);
    e->projection_count = 4;
    for (int i = 0; i < 4; i++) {
        attend_projection_work *w = &e->projections[i];
        const double rows = (double)sizes[i][0], in = (double)sizes[i][1], out = (double)sizes[i][2];
        w->rows = sizes[i][0], w->in = sizes[i][1], w->out = sizes[i][2];
        w->flops = 2 * rows * in * out;
        w->bytes = (rows * in + in * out + rows * out) * (double)attend_dtype_bytes(p->dtype);
    }
}

static attend_status explain(const attend_plan *plan, const attend_lists *lists, attend_explanation *e)
{
    const attend_problem *p = &plan->problem;
    const attend_feature_args listed = {.seqlens_q = lists->seqlens_q,
                                        .seqlens_k = lists->seqlens_k,
                                        .starts_k = lists->starts_k,
                                        .cu_seqlens_q = lists->cu_seqlens_q,
                                        .cu_seqlens_k = lists->cu_seqlens_k};
    ATTEND_TRY(attend_lists_check(p, &listed));
    *e = (attend_explanation){.device = plan->context->backend->device, .kernel = plan->kernel, .splits = 1};
    e->host_bytes = plan->memory.host_bytes;
    e->device_workspace_bytes = plan->memory.device_workspace_bytes,
    e->device_staging_bytes = plan->memory.device_staging_bytes;
    if (plan->context->backend->explain) ATTEND_TRY(plan->context->backend->explain(plan, e));
    count(p, lists, e);
    if (e->link_bytes_per_second > 0)
        e->transfer_seconds = (e->bytes_to_device + e->bytes_to_host) / e->link_bytes_per_second;
    if (plan->operation == ATTEND_LAYER)
        count_projections(p, e);
    else
        e->projection_library = NULL;
    double flops = e->flops;
    for (int i = 0; i < e->projection_count; i++) flops += e->projections[i].flops;
    e->compute_seconds *= flops; /* the backend gave those of one */
    return ATTEND_OK;
}

attend_status attend_plan_explain_sized(const attend_plan *plan, const attend_lists *lists,
                                        size_t lists_bytes, attend_explanation *explanation,
                                        size_t explanation_bytes)
{
    attend_explanation e;
    attend_lists known = {0};
    if (!plan) return attend_fail(ATTEND_INVALID_ARGUMENT, "plan is NULL");
    ATTEND_TRY(attend_struct_check(ATTEND_STRUCT(attend_explanation), "explanation", explanation,
                                   explanation_bytes));
    if (lists)
        ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_lists), "lists", &known, lists, lists_bytes));
    ATTEND_TRY(explain(plan, &known, &e));
    attend_struct_write(ATTEND_STRUCT(attend_explanation), explanation, explanation_bytes, &e);
    return ATTEND_OK;
}

/* ---- why ---- */

static const char *const device_names[] = {"auto", "the CPU", "CUDA", "the reference"};

bool attend_plan_choice_sized(const attend_plan *plan, size_t index, attend_kernel_choice *choice,
                              size_t choice_bytes)
{
    attend_kernel_info row;
    attend_kernel_choice found = {0};
    const attend_backend *backend = plan ? attend_backend_of_row(&index, &row) : NULL,
                         *own = plan ? plan->context->backend : NULL;
    if (!backend || attend_struct_check(ATTEND_STRUCT(attend_kernel_choice), "choice", choice, choice_bytes))
        return false;
    found.name = row.name, found.dtype = row.dtype, found.device = row.device;
    if (backend == own)
        own->choice(plan, index, &found);
    else
        snprintf(found.reason, sizeof found.reason, "runs on %s, the context on %s", device_names[row.device],
                 device_names[own->device]);
    attend_struct_write(ATTEND_STRUCT(attend_kernel_choice), choice, choice_bytes, &found);
    return true;
}

/* ---- in words ---- */

typedef struct text {
    char *bytes;
    size_t room, length;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...)
{
    const size_t left = t->length < t->room ? t->room - t->length : 0;
    va_list list;
    va_start(list, format);
    const int length = vsnprintf(left ? t->bytes + t->length : NULL, left, format, list);
    va_end(list);
    if (length > 0) t->length += (size_t)length;
}

/* Whether an earlier row was left out for the same reason. */
static bool was_said(const attend_plan *plan, size_t index, const char *reason)
{
    attend_kernel_choice choice;
    for (size_t i = 0; i < index && attend_plan_choice(plan, i, &choice); i++)
        if (!choice.chosen && !choice.chosen_unaligned && !strcmp(choice.reason, reason)) return true;
    return false;
}

/* Rows of one reason share a line; of another device they are only counted. */
static void add_reason(text *t, const attend_plan *plan, size_t first)
{
    attend_kernel_choice choice, other;
    int rows = 0;
    attend_plan_choice(plan, first, &choice);
    const bool here = choice.device == plan->context->backend->device;
    for (size_t i = first; attend_plan_choice(plan, i, &other); i++) {
        if (other.chosen || other.chosen_unaligned || strcmp(other.reason, choice.reason)) continue;
        if (here)
            add(t, "%s%s%s%s", rows ? ", " : "", other.name, other.device == ATTEND_CPU ? " " : "",
                other.device == ATTEND_CPU ? attend_dtype_name(other.dtype) : "");
        rows++;
    }
    if (!here) add(t, "%d other row%s", rows, rows == 1 ? "" : "s");
    add(t, ": %s\n", choice.reason);
}

static void add_choices(text *t, const attend_plan *plan)
{
    attend_kernel_choice choice;
    bool any = false;
    for (size_t i = 0; attend_plan_choice(plan, i, &choice); i++) {
        if (choice.chosen || choice.chosen_unaligned || was_said(plan, i, choice.reason)) continue;
        add(t, any ? "            " : "not chosen  ");
        add_reason(t, plan, i);
        any = true;
    }
}

static void add_kernel(text *t, const attend_plan *plan, const attend_explanation *e)
{
    const int64_t group = plan->problem.num_heads / plan->problem.num_kv_heads;
    add(t, "kernel      %s", e->kernel);
    if (e->tile_q && e->grouped && group > 1)
        add(t, ", tiles of %d rows (queries of %" PRId64 " heads side by side) by %d keys", e->tile_q, group,
            e->tile_k);
    else if (e->tile_q)
        add(t, ", tiles of %d queries by %d keys", e->tile_q, e->tile_k);
    if (e->device == ATTEND_CUDA)
        add(t, ", %d threads, %" PRId64 " bytes of shared memory", e->threads, e->shared_bytes);
    add(t, "\n");
    if (e->kernel_unaligned && strcmp(e->kernel, e->kernel_unaligned))
        add(t, "unaligned   %s, for tensors with rows of q, k or v not at multiples of 16 bytes\n",
            e->kernel_unaligned);
}

static void add_backward(text *t, const attend_plan *plan)
{
    attend_kernel_choice choice;
    attend_kernel_info row;
    for (size_t i = 0; attend_plan_choice(plan, i, &choice) && attend_kernel(i, &row); i++) {
        if (row.backward && choice.chosen) add(t, "backwards   %s\n", choice.name);
        if (row.backward && choice.chosen_unaligned && !choice.chosen)
            add(t, "unaligned   %s backwards\n", choice.name);
    }
}

static void add_blocks(text *t, const attend_explanation *e)
{
    const bool cuda = e->device == ATTEND_CUDA;
    if (e->blocks == 0 && e->blocks_at_once == 0) return;
    add(t, "%s      %" PRId64, cuda ? "blocks" : "units ", e->blocks);
    if (e->blocks_at_once && cuda)
        add(t, ", %" PRId64 " at once: %.2f waves", e->blocks_at_once,
            (double)e->blocks / (double)e->blocks_at_once);
    else if (!cuda)
        add(t, " for %" PRId64 " thread%s", e->blocks_at_once, e->blocks_at_once == 1 ? "" : "s");
    if (e->splits > 1) add(t, "; keys split in %" PRId64 " parts, merged in order", e->splits);
    add(t, "\n");
}

static void add_bytes(text *t, double bytes, const char *way)
{
    const bool many = bytes >= 1e9;
    add(t, "%.4g %s %s, ", bytes * (many ? 1e-9 : 1e-6), many ? "GB" : "MB", way);
}

static void add_transfers(text *t, const attend_explanation *e)
{
    const bool cuda = e->device == ATTEND_CUDA;
    if (e->query_blocks == 0) return;
    add(t, cuda ? "transfers   with all on the host: " : "parts       ");
    if (cuda) add_bytes(t, e->bytes_to_device, "in"), add_bytes(t, e->bytes_to_host, "out");
    add(t, "%" PRId64 " block%s of queries, keys %s %" PRId64 " time%s", e->query_blocks,
        e->query_blocks == 1 ? "" : "s", cuda ? "brought" : "packed at most", e->key_parts,
        e->key_parts == 1 ? "" : "s");
    if (e->transfer_seconds > 0)
        add(t, "; %.3g s at %.3g GB/s, computing %.3g s by the model: %s bounds", e->transfer_seconds,
            e->link_bytes_per_second * 1e-9, e->compute_seconds,
            e->transfer_seconds > e->compute_seconds ? "the link" : "the device");
    add(t, "\n");
}

static void add_layer(text *t, const attend_explanation *e)
{
    double flops = 0;
    for (int i = 0; i < e->projection_count; i++) {
        const attend_projection_work *w = &e->projections[i];
        add(t, "project %-6s [%" PRId64 ", %" PRId64 "] x [%" PRId64 ", %" PRId64 "], %.4g GFLOP",
            projection_names[i], w->rows, w->in, w->in, w->out, w->flops * 1e-9);
        if (i > 0 && w->call == e->projections[i - 1].call) add(t, ", in the call before");
        add(t, "\n");
        flops += w->flops;
    }
    if (e->projection_count) add(t, "projections %.4g GFLOP by %s\n", flops * 1e-9, e->projection_library);
    if (e->position_bytes > 0) add(t, "positions   added to x: %.4g MB\n", e->position_bytes * 1e-6);
    if (e->rope_bytes > 0)
        add(t, "turning     Q and K once more: %.4g MB for rotary embedding and QK-norm\n",
            e->rope_bytes * 1e-6);
}

size_t attend_plan_explain_text(const attend_plan *plan, const attend_lists *lists, char *bytes, size_t room)
{
    attend_explanation e;
    text t = {bytes, room, 0};
    if (attend_plan_explain(plan, lists, &e) != ATTEND_OK) return 0;
    add(&t, "device      %s\n", plan->context->name);
    add_kernel(&t, plan, &e);
    add_backward(&t, plan);
    add_blocks(&t, &e);
    add(&t, "memory      %zu bytes on the host, on the device %zu of workspace, %zu of staging\n",
        e.host_bytes, e.device_workspace_bytes, e.device_staging_bytes);
    add(&t, "pairs       %.6g visible", e.pairs);
    if (e.tile_q)
        add(&t, ", %.6g computed in tiles (%.1f %% more)", e.pairs_computed,
            e.pairs > 0 ? 100 * (e.pairs_computed / e.pairs - 1) : 0);
    add(&t, "\n");
    add(&t, "attention   %.4g GFLOP, %.4g MB in and out, %.4g FLOP a byte\n", e.flops * 1e-9, e.bytes * 1e-6,
        e.bytes > 0 ? e.flops / e.bytes : 0);
    add_transfers(&t, &e);
    add_layer(&t, &e);
    add_choices(&t, plan);
    return t.length;
}

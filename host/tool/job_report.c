/* The facts of a job, for its report. */
#include "job.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *causal_name(attend_causal causal)
{
    return causal == ATTEND_CAUSAL_TOP_LEFT ? "top-left" : causal == ATTEND_CAUSAL_BOTTOM_RIGHT ? "bottom-right" : "none";
}

static const char *layout_name(layout layout)
{
    static const char *const names[] = {"auto", "bert", "gpt2", "llama", "torch"};
    return names[layout];
}

static bool as_stored(const job *job)
{
    static const char *const names[] = {[ATTEND_F32] = "F32", [ATTEND_F16] = "F16", [ATTEND_BF16] = "BF16"};
    return !strcmp(job->layer.stored, names[job->problem.dtype]);
}

static void report_layer(const job *job, report *r)
{
    const found_layer *found = &job->layer.found;
    const attend_problem *p = &job->problem;
    report_text(r, "layout", "layout", layout_name(found->naming->layout), "%s names, %s", found->naming->title, found->prefix);
    report_text(r, "prefix", NULL, found->prefix, " ");
    if (found->first == found->last)
        report_number(r, "layer", "layer", (double)found->layer, "%" PRId64 ", the only one", found->layer);
    else
        report_number(r, "layer", "layer", (double)found->layer, "%" PRId64 " of %" PRId64 " to %" PRId64, found->layer,
                      found->first, found->last);
    const char *converted = as_stored(job) ? "" : p->dtype == ATTEND_F32 ? ", widened to " : ", rounded to ";
    report_text(r, "weights_dtype", "weights", job->layer.stored, "%s%s%s%s%s, hidden size %" PRId64, job->layer.stored,
                converted, *converted ? attend_dtype_name(p->dtype) : "", job->layer.weights.bq.data ? ", with biases" : "",
                found->naming->conv1d ? ", Conv1D" : "", p->hidden_size);
    report_number(r, "hidden_size", NULL, (double)p->hidden_size, " ");
    report_text(r, "heads_from", "heads", job->layer.heads_by, "%" PRId64 "%s, from %s", p->num_heads,
                p->num_heads == p->num_kv_heads ? "" : " in groups", job->layer.heads_by);
    if (job->layer.rotary_by) {
        static const char *const scalings[] = {"", ", linear scaling", ", NTK scaling", ", YaRN", ", Llama 3's scaling"};
        const char *kind = p->rotary == ATTEND_ROTARY_HALVES ? "halves" : "interleaved";
        report_text(r, "rotary", "rotary", kind, "%s, base %g%s, from %s", kind, p->rotary_base != 0 ? p->rotary_base : 10000.0,
                    scalings[p->rotary_scaling], job->layer.rotary_by);
    }
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED)
        report_text(r, "absolute", "positions", "learned", "learned, %" PRId64 " of them, added to the input", p->max_positions);
    else if (p->absolute)
        report_text(r, "absolute", "positions", p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL ? "sinusoidal" : "sinusoidal-halves",
                    "sinusoidal%s, base %g, added to the input", p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL ? "" : ", sines first",
                    p->absolute_base != 0 ? p->absolute_base : 10000.0);
    if (job->layer.rotary_missing)
        report_warning(r, "no rotary embedding is applied: models with %s names rotate Q and K before attention",
                       found->naming->title);
}

/* What is asked for beyond plain and causal attention. */
static void report_features(const attend_problem *p, report *r)
{
    uint64_t features = attend_problem_features(p) & ~(uint64_t)ATTEND_FEATURE_CAUSAL;
    cJSON *list = cJSON_AddArrayToObject(r->object, "features");
    char text[512] = "";
    for (int bit = 0; attend_feature_name(bit); bit++) {
        if (!(features >> bit & 1)) continue;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "", attend_feature_name(bit));
        cJSON_AddItemToArray(list, cJSON_CreateString(attend_feature_name(bit)));
    }
    if (*text) report_fact(r, "with", text);
}

void job_report(const job *job, report *r)
{
    const attend_problem *p = &job->problem;
    if (job->is_layer) report_layer(job, r);
    report_text(r, "dtype", "problem", attend_dtype_name(p->dtype),
                "%s, batch %" PRId64 ", %" PRId64 " queries, %" PRId64 " keys, heads %" PRId64 "/%" PRId64 " of %" PRId64 "%s",
                attend_dtype_name(p->dtype), p->batch, p->seqlen_q, p->seqlen_k, p->num_heads, p->num_kv_heads, p->head_dim,
                job->attention.seqlens_q || job->attention.seqlens_k ? ", lengths given" : "");
    report_text(
        r, "causal", "causal", causal_name(p->causal), "%s%s", causal_name(p->causal),
        job->is_layer && job->layer.found.naming->causal && p->causal ? ", as these models are; --causal=none for all keys" : "");
    report_features(p, r);
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {{"batch", p->batch},           {"seqlen_q", p->seqlen_q}, {"seqlen_k", p->seqlen_k},    {"heads", p->num_heads},
                 {"kv_heads", p->num_kv_heads}, {"head_dim", p->head_dim}, {"head_dim_v", p->head_dim_v}};
    for (int i = 0; i < 7; i++) report_number(r, sizes[i].key, NULL, (double)sizes[i].value, " ");
    report_number(r, "scale", NULL, p->softmax_scale != 0 ? (double)p->softmax_scale : 1 / sqrt((double)p->head_dim), " ");
}

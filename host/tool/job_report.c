/* Reports the problem of a job. */
#include "tool/job.h"
#include "tool/measure.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *causal_name(attend_causal causal)
{
    return causal == ATTEND_CAUSAL_TOP_LEFT       ? "top-left"
           : causal == ATTEND_CAUSAL_BOTTOM_RIGHT ? "bottom-right"
                                                  : "none";
}

static bool as_stored(const job *job)
{
    static const char *const names[] = {[ATTEND_F32] = "F32", [ATTEND_F16] = "F16", [ATTEND_BF16] = "BF16"};
    return !strcmp(job->layer.read->stored_dtype, names[job->problem.dtype]);
}

/* The layer's decisions with their sources; causality has its own line. */
static void report_decisions(const attend_checkpoint_layer *layer, report *r)
{
    cJSON *object = cJSON_AddObjectToObject(r->object, "decisions");
    for (int i = 0; i < layer->decision_count; i++) {
        const attend_checkpoint_decision *d = &layer->decisions[i];
        cJSON_AddStringToObject(object, d->of, d->text);
        if (strcmp(d->of, "causal") != 0) report_fact(r, d->of, d->text);
    }
}

static void report_layer(const job *job, report *r)
{
    const attend_checkpoint_layer *layer = job->layer.read;
    const attend_checkpoint_name *name = &layer->name;
    const attend_problem *p = &job->problem;
    report_text(r, "layout", "layout", name->layout, "%s names, %s", name->title, name->prefix);
    report_text(r, "prefix", NULL, name->prefix, " ");
    report_text(r, "model_type", NULL, layer->model_type, " ");
    report_text(r, "input_tensor", NULL, layer->input_tensor, " ");
    report_text(r, "output_tensor", NULL, layer->output_tensor, " ");
    report_number(r, "layer", "layer", (double)name->number, "%" PRId64, name->number);
    const char *converted = as_stored(job) ? "" : p->dtype == ATTEND_F32 ? ", widened to " : ", rounded to ";
    report_text(r, "weights_dtype", "weights", layer->stored_dtype, "%s%s%s%s%s, hidden size %" PRId64,
                layer->stored_dtype, converted, *converted ? attend_dtype_name(p->dtype) : "",
                job->layer.weights.bq.data ? ", with biases" : "", layer->conv1d ? ", Conv1D" : "",
                p->hidden_size);
    report_number(r, "hidden_size", NULL, (double)p->hidden_size, " ");
    if (p->rotary)
        report_text(r, "rotary", NULL, p->rotary == ATTEND_ROTARY_HALVES ? "halves" : "interleaved", " ");
    report_decisions(layer, r);
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED)
        report_text(r, "absolute", "positions", "learned",
                    "%" PRId64 " learned positions, added to the input", p->max_positions);
    else if (p->absolute)
        report_text(r, "absolute", "positions",
                    p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL ? "sinusoidal" : "sinusoidal-halves",
                    "sinusoidal%s, base %g, added to the input",
                    p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL ? "" : ", sines first",
                    p->absolute_base != 0 ? p->absolute_base : 10000.0);
}

/* Features beside the causal mask. */
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
    if (job->layer.read) report_layer(job, r);
    if (job->is_layer && !job->layer.read)
        report_number(r, "hidden_size", "layer", (double)p->hidden_size, "of width %" PRId64 ", made up",
                      p->hidden_size);
    report_text(r, "dtype", "problem", attend_dtype_name(p->dtype),
                "%s, batch %" PRId64 ", %" PRId64 " queries, %" PRId64 " keys, heads %" PRId64 "/%" PRId64
                " of %" PRId64 "%s",
                attend_dtype_name(p->dtype), p->batch, p->seqlen_q, p->seqlen_k, p->num_heads,
                p->num_kv_heads, p->head_dim,
                job->features.seqlens_q || job->features.seqlens_k ? ", lengths given" : "");
    const char *decided = layer_decision(&job->layer, "causal");
    report_text(r, "causal", "causal", causal_name(p->causal), "%s",
                decided ? decided : causal_name(p->causal));
    report_features(p, r);
    if (job->cache.k.data)
        report_number(r, "page_size", "pages", (double)job->cache.k.shape[1],
                      "%" PRId64 " of %" PRId64 " keys, in any order", job->cache.k.shape[0],
                      job->cache.k.shape[1]);
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {{"batch", p->batch},          {"seqlen_q", p->seqlen_q},     {"seqlen_k", p->seqlen_k},
                 {"heads", p->num_heads},      {"kv_heads", p->num_kv_heads}, {"head_dim", p->head_dim},
                 {"head_dim_v", p->head_dim_v}};
    for (int i = 0; i < 7; i++) report_number(r, sizes[i].key, NULL, (double)sizes[i].value, " ");
    report_number(r, "scale", NULL,
                  p->softmax_scale != 0 ? (double)p->softmax_scale : 1 / sqrt((double)p->head_dim), " ");
}

void outcome_report(const outcome *outcome, double seconds, report *r)
{
    report_text(r, "device", "device", outcome->device, "%s", outcome->device);
    report_text(r, "kernel", "kernel", outcome->kernel, "%s", outcome->kernel);
    report_number(r, "seconds", "time", seconds, "%s", time_text(seconds));
    report_number(r, "workspace_bytes", NULL,
                  (double)(outcome->memory.host_bytes + outcome->memory.device_workspace_bytes), " ");
}

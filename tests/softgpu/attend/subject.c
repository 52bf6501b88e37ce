/* The problems, their inputs and expected results; see subject.h. */
#include "attend/subject.h"
#include "support/plans.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SUBJECT_SEQLEN
#define SUBJECT_SEQLEN 33
#endif
enum { BATCH = 2, SEQLEN = SUBJECT_SEQLEN, HEADS = 2, DIM = 16, HIDDEN = 32 };

static float value(int i) { return (float)((i * 7919 + 13) % 101) / 101.0f - 0.5f; }

static void need(bool fine, const char *what)
{
    if (fine) return;
    fprintf(stderr, "subject: %s: %s\n", what, attend_error_message());
    exit(1);
}

static attend_tensor heads(void *data) { return attend_tensor_4d(data, ATTEND_F32, BATCH, SEQLEN, HEADS, DIM); }
static attend_tensor hidden(void *data) { return attend_tensor_3d(data, ATTEND_F32, BATCH, SEQLEN, HIDDEN); }

size_t subject_result_bytes(const subject *s)
{
    (void)s;
    return sizeof(float) * BATCH * SEQLEN * HIDDEN; /* HEADS · DIM is the same */
}

static void compute_expected(subject *s)
{
    attend_context *context;
    attend_plan *plan;
    need(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &context) == ATTEND_OK, "CPU");
    need(subject_plan(s, context, &plan) == ATTEND_OK && subject_run(s, plan, false) == ATTEND_OK, "the CPU's result");
    memcpy(s->expected, s->host[3], subject_result_bytes(s));
    if (s->kind == SUBJECT_ATTENTION) need(subject_inspect(s, plan, false) == ATTEND_OK, "the CPU's inspection");
    memcpy(s->expected_inspection, s->inspection, sizeof s->inspection);
    if (s->kind == SUBJECT_LAYER) need(subject_backward(s, plan) == ATTEND_OK, "the CPU's gradients");
    memcpy(s->expected_gradients, s->gradients, sizeof s->gradients);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

void subject_make(subject *s, subject_kind kind)
{
    *s = (subject){.kind = kind};
    s->problem = (attend_problem){.batch = BATCH, .seqlen_q = SEQLEN, .seqlen_k = SEQLEN, .num_heads = HEADS, .head_dim = DIM,
                                  .causal = ATTEND_CAUSAL_TOP_LEFT};
    if (kind == SUBJECT_LAYER) s->problem.hidden_size = HIDDEN, s->problem.absolute = ATTEND_ABSOLUTE_LEARNED, s->problem.max_positions = SEQLEN;
    if (kind != SUBJECT_ATTENTION) s->problem.rotary = ATTEND_ROTARY_HALVES;
    s->weight_memory = malloc((4 * HIDDEN + SEQLEN) * HIDDEN * sizeof(float));
    s->expected = malloc(subject_result_bytes(s));
    need(s->weight_memory && s->expected, "memory");
    for (int i = 0; i < (4 * HIDDEN + SEQLEN) * HIDDEN; i++) s->weight_memory[i] = value(3 * i) / 4;
    attend_tensor *matrices[] = {&s->weights.wq, &s->weights.wk, &s->weights.wv, &s->weights.wo};
    for (int m = 0; m < 4; m++) *matrices[m] = attend_tensor_2d(s->weight_memory + m * HIDDEN * HIDDEN, ATTEND_F32, HIDDEN, HIDDEN);
    if (kind == SUBJECT_LAYER) s->weights.position_table = attend_tensor_2d(s->weight_memory + 4 * HIDDEN * HIDDEN, ATTEND_F32, SEQLEN, HIDDEN);
    for (int t = 0; t < SUBJECT_TENSORS; t++) {
        s->host[t] = malloc(SUBJECT_BYTES);
        need(s->host[t], "memory");
        for (int i = 0; i < SUBJECT_BYTES / (int)sizeof(float); i++) ((float *)s->host[t])[i] = value(i + 1000 * t);
    }
    compute_expected(s);
}

void subject_free(subject *s)
{
    for (int t = 0; t < SUBJECT_TENSORS; t++) free(s->host[t]);
    free(s->weight_memory), free(s->expected);
}

attend_status subject_plan(subject *s, attend_context *context, attend_plan **plan)
{
    s->context = context, *plan = NULL;
    if (s->kind == SUBJECT_ROTARY) return ATTEND_OK;
    const attend_plan_options both_ways = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
    return s->kind == SUBJECT_LAYER ? attend_layer_plan_with(context, &s->problem, &s->weights, &both_ways, plan)
                                    : test_attention_plan(context, &s->problem, plan);
}

attend_status subject_run(const subject *s, attend_plan *plan, bool on_device)
{
    static const int64_t lengths[BATCH] = {SEQLEN, SEQLEN};
    void *const *at = on_device ? s->device : s->host;
    if (s->kind == SUBJECT_ROTARY)
        return attend_rotary_apply(s->context, &s->problem, &(attend_rotary_args){.q = heads(at[0]), .q_out = heads(at[3]), .seqlens_q = on_device ? NULL : lengths});
    const attend_run how = {.stream = s->stream};
    if (s->kind == SUBJECT_LAYER) return attend_layer_run(plan, &(attend_layer_args){.x = hidden(at[0]), .out = hidden(at[3])}, &how);
    return attend_attention_run(
        plan, &(attend_attention_args){.q = heads(at[0]), .k = heads(at[1]), .v = heads(at[2]), .out = heads(at[3])}, &how);
}

void subject_clear(subject *s) { memset(s->host[3], 0xff, subject_result_bytes(s)); }

/* Actual and expected values are fp32 sums of some dozens of terms below 1. */
bool subject_is_right(const subject *s)
{
    const float *out = s->host[3];
    for (size_t i = 0; i < subject_result_bytes(s) / sizeof *out; i++)
        if (!(fabsf(out[i] - s->expected[i]) < 1e-5f)) return false;
    return true;
}

attend_status subject_inspect(subject *s, attend_plan *plan, bool on_device)
{
    static const int64_t query = SEQLEN - 1;
    enum { MAP = BATCH * HEADS * SEQLEN, WEIGHTS = MAP + BATCH * HEADS * 4 * 4 };
    void *const *at = on_device ? s->device : s->host;
    _Static_assert(WEIGHTS + BATCH * HEADS * SEQLEN <= SUBJECT_INSPECTION_FLOATS, "all fits");
    memset(s->inspection, 0, sizeof s->inspection);
    const attend_inspection want = {.entropy = attend_tensor_3d(s->inspection, ATTEND_F32, BATCH, HEADS, SEQLEN),
                                    .map = attend_tensor_4d(s->inspection + MAP, ATTEND_F32, BATCH, HEADS, 4, 4),
                                    .weights = attend_tensor_4d(s->inspection + WEIGHTS, ATTEND_F32, BATCH, HEADS, 1, SEQLEN),
                                    .queries = &query,
                                    .num_queries = 1};
    return attend_attention_inspect(plan, &(attend_attention_args){.q = heads(at[0]), .k = heads(at[1])}, &want);
}

attend_status subject_merge(const subject *s, attend_plan *plan)
{
    enum { ROWS = BATCH * HEADS * SEQLEN, STATE = ROWS * (DIM + 2) };
    static float memory[2][STATE];
    attend_state states[2];
    for (int i = 0; i < 2; i++)
        states[i] = (attend_state){.out = heads(memory[i]),
                                   .max = attend_tensor_3d(memory[i] + ROWS * DIM, ATTEND_F32, BATCH, HEADS, SEQLEN),
                                   .sum = attend_tensor_3d(memory[i] + ROWS * (DIM + 1), ATTEND_F32, BATCH, HEADS, SEQLEN)};
    memset(memory, 0, sizeof memory);
    for (int i = 0; i < ROWS; i++) memory[1][ROWS * DIM + i] = -INFINITY; /* it saw no key */
    const attend_attention_args args = {.q = heads(s->host[0]), .k = heads(s->host[1]), .v = heads(s->host[2]), .into = states};
    const attend_merge_args merge = {.states = states, .count = 2, .out = heads(s->host[3])};
    const attend_status status = attend_attention_run(plan, &args, NULL);
    return status ? status : attend_merge(s->context, &s->problem, &merge, NULL);
}

bool subject_inspection_is_right(const subject *s)
{
    for (int i = 0; i < SUBJECT_INSPECTION_FLOATS; i++)
        if (!(fabsf(s->inspection[i] - s->expected_inspection[i]) < 1e-5f)) return false;
    return true;
}

attend_status subject_backward(subject *s, attend_plan *plan)
{
    enum { DX = BATCH * SEQLEN * HIDDEN };
    _Static_assert((DX + HIDDEN * HIDDEN) * sizeof(float) <= SUBJECT_BYTES, "all fits");
    memset(s->gradients, 0, sizeof s->gradients);
    const attend_layer_weights weights = {.wq = attend_tensor_2d(s->gradients + DX, ATTEND_F32, HIDDEN, HIDDEN)};
    const attend_layer_grads grads = {.dout = hidden(s->host[1]), .dx = hidden(s->gradients), .weights = &weights};
    const attend_status status = attend_layer_backward(plan, &(attend_layer_args){.x = hidden(s->host[0])}, &grads, NULL);
    return status ? status : attend_layer_reload(plan, NULL);
}

bool subject_gradients_are_right(const subject *s)
{
    for (size_t i = 0; i < SUBJECT_BYTES / sizeof(float); i++)
        if (!(fabsf(s->gradients[i] - s->expected_gradients[i]) < 1e-5f)) return false;
    return true;
}

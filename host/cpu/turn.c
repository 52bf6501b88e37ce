/* Rotary embedding and QK-norm on the CPU: a token's cosines and sines serve all its heads, of Q and of K. */
#include "../arguments.h"
#include "../rotary.h"
#include "angles.h"
#include "cpu.h"

#include <math.h>
#include <stdlib.h>

static void normalise(const attend_turn *t, int64_t d, const float *weight, const float *bias, float *y)
{
    double mean = 0, squares = 0;
    for (int64_t c = 0; c < d && t->norm == ATTEND_QK_NORM_LAYER; c++) mean += y[c];
    mean /= (double)d;
    for (int64_t c = 0; c < d; c++) squares += (y[c] - mean) * (y[c] - mean);
    float shift = (float)mean, factor = (float)(1 / sqrt(squares / (double)d + t->epsilon));
    for (int64_t c = 0; c < d; c++) y[c] = (y[c] - shift) * factor * weight[c] + bias[c];
}

static void turn_halves(int pairs, const float *restrict cosines, const float *restrict sines, float *restrict first, float *restrict second)
{
    for (int i = 0; i < pairs; i++) {
        const float a = first[i], b = second[i];
        first[i] = a * cosines[i] - b * sines[i];
        second[i] = b * cosines[i] + a * sines[i];
    }
}

static void turn_neighbours(int pairs, const float *restrict cosines, const float *restrict sines, float *restrict y)
{
    for (int i = 0; i < pairs; i++) {
        const float a = y[2 * i], b = y[2 * i + 1];
        y[2 * i] = a * cosines[i] - b * sines[i];
        y[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
}

/* What a thread holds: a token's cosines and sines, each side's parameters of the norm, one head. */
typedef struct workplace {
    float cosines[ATTEND_TURN_PAIRS], sines[ATTEND_TURN_PAIRS];
    float *weight[2], *bias[2], *y;
    float memory[];
} workplace;

static void load_parameter(const attend_tensor *t, int64_t d, float absent, float *to)
{
    for (int64_t c = 0; c < d; c++) {
        to[c] = absent;
        if (t->data) attend_cpu_load_row(&to[c], t->data, c * t->stride[0], 1, t->dtype);
    }
}

static workplace *make_workplace(const attend_turn *t, const attend_turning *sides, int count)
{
    const int64_t d = sides->from.shape[3], parts = t->norm != ATTEND_QK_NORM_NONE ? 1 + 2 * count : 1;
    workplace *w = malloc(sizeof *w + (size_t)(parts * d) * sizeof *w->memory);
    if (!w) return NULL;
    for (int s = 0; s < 2; s++) w->weight[s] = w->bias[s] = NULL;
    w->y = w->memory;
    for (int s = 0; s < count && parts > 1; s++) {
        w->weight[s] = w->memory + (1 + 2 * s) * d, w->bias[s] = w->weight[s] + d;
        load_parameter(&sides[s].weight, d, 1, w->weight[s]);
        load_parameter(&sides[s].bias, d, 0, w->bias[s]);
    }
    return w;
}

/* All heads of one token on one side. */
static void turn_token(const attend_turn *t, const attend_turning *side, int64_t b, int64_t i, const float *weight, const float *bias, workplace *w)
{
    const attend_tensor *from = &side->from, *to = &side->to;
    const int64_t d = from->shape[3];
    const int pairs = t->dims / 2;
    for (int64_t h = 0; h < from->shape[2]; h++) {
        attend_cpu_load_row(w->y, from->data, b * from->stride[0] + i * from->stride[1] + h * from->stride[2], d, from->dtype);
        if (t->norm != ATTEND_QK_NORM_NONE) normalise(t, d, weight, bias, w->y);
        if (t->interleaved)
            turn_neighbours(pairs, w->cosines, w->sines, w->y);
        else
            turn_halves(pairs, w->cosines, w->sines, w->y, w->y + pairs);
        attend_cpu_store_row(to->data, b * to->stride[0] + i * to->stride[1] + h * to->stride[2], w->y, d, to->dtype);
    }
}

attend_status attend_cpu_turn(int threads, const attend_turn *t, const attend_places *places, const attend_turning *sides, int count)
{
    const int64_t rows = sides->from.shape[1], tokens = sides->from.shape[0] * rows;
    bool complete = true;
    if (tokens < threads) threads = tokens > 1 ? (int)tokens : 1;
#pragma omp parallel num_threads(threads) reduction(&& : complete)
    {
        workplace *w = make_workplace(t, sides, count);
        complete = w != NULL;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < tokens; n++) {
            const int64_t b = n / rows, i = n % rows;
            if (!w || !attend_is_there(places, b, i)) continue;
            attend_cpu_angles(t->turns, t->dims / 2, attend_place(places, b, i), t->factor, t->sine_factor, w->cosines, w->sines);
            for (int s = 0; s < count; s++) turn_token(t, &sides[s], b, i, w->weight[s], w->bias[s], w);
        }
        free(w);
    }
    return complete ? ATTEND_OK : attend_fail(ATTEND_OUT_OF_MEMORY, "no memory to turn a token's heads");
}

attend_status attend_cpu_layer_turn(const attend_plan *plan, const attend_layer_args *args, const attend_attention_args *attention)
{
    const attend_layer_weights *w = &plan->weights;
    const attend_turn turn = attend_turn_of(&plan->problem);
    const attend_places places = attend_layer_places(&plan->problem, args);
    const attend_turning sides[] = {{attention->q, attention->q, w->q_norm, w->q_norm_bias}, {attention->k, attention->k, w->k_norm, w->k_norm_bias}};
    ATTEND_TRY(attend_lists_check(&plan->problem, attention));
    return attend_cpu_turn(((const attend_cpu_plan *)plan->state)->context->threads, &turn, &places, sides, 2);
}

attend_status attend_cpu_rotary(attend_context *context, const attend_problem *p, const attend_rotary_args *args)
{
    const attend_turn turn = attend_rotary_turn(p, args);
    const attend_places places = attend_rotary_places(p, args);
    attend_turning sides[2];
    ATTEND_TRY(attend_rotary_lists_check(p, args));
    const int count = attend_rotary_sides(args, sides);
    return attend_cpu_turn(((const attend_cpu_context *)context->state)->threads, &turn, &places, sides, count);
}

/* Rotary embedding and QK-norm on the CPU: a token's cosines and sines serve all its heads, of Q and of K. */
#include "core/arguments.h"
#include "core/rotary.h"
#include "core/tensor.h"
#include "cpu/angles.h"
#include "cpu/cpu.h"

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

static void turn_halves(int pairs, const float *restrict cosines, const float *restrict sines,
                        float *restrict first, float *restrict second)
{
    for (int i = 0; i < pairs; i++) {
        const float a = first[i], b = second[i];
        first[i] = a * cosines[i] - b * sines[i];
        second[i] = b * cosines[i] + a * sines[i];
    }
}

static void turn_neighbours(int pairs, const float *restrict cosines, const float *restrict sines,
                            float *restrict y)
{
    for (int i = 0; i < pairs; i++) {
        const float a = y[2 * i], b = y[2 * i + 1];
        y[2 * i] = a * cosines[i] - b * sines[i];
        y[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
}

/* What a call's tokens share: each side's parameters of the norm, and a head for each thread. */
typedef struct job {
    const attend_turn *turn;
    const attend_places *places;
    const attend_turning *sides;
    int count;
    const float *weight[2], *bias[2];
    float *heads; /* [threads][d], with room for whole cache lines */
} job;

static void load_parameter(const attend_tensor *t, int64_t d, float absent, float *to)
{
    for (int64_t c = 0; c < d; c++) {
        to[c] = absent;
        if (t->data) attend_cpu_load_row(&to[c], t->data, c * t->stride[0], 1, t->dtype);
    }
}

/* All heads of one token on one side. */
static void turn_token(const job *j, int s, int64_t b, int64_t i, const float *cosines, const float *sines,
                       float *y)
{
    const attend_turn *t = j->turn;
    const attend_tensor *from = &j->sides[s].from, *to = &j->sides[s].to;
    const int64_t d = from->shape[3];
    const int pairs = t->dims / 2;
    for (int64_t h = 0; h < from->shape[2]; h++) {
        attend_cpu_load_row(y, from->data, b * from->stride[0] + i * from->stride[1] + h * from->stride[2], d,
                            from->dtype);
        if (t->norm != ATTEND_QK_NORM_NONE) normalise(t, d, j->weight[s], j->bias[s], y);
        if (t->interleaved)
            turn_neighbours(pairs, cosines, sines, y);
        else
            turn_halves(pairs, cosines, sines, y, y + pairs);
        attend_cpu_store_row(to->data, b * to->stride[0] + i * to->stride[1] + h * to->stride[2], y, d,
                             to->dtype);
    }
}

static int64_t line_of(int64_t head_dim) { return attend_cpu_round_up(head_dim, 16); }

static void turn_sides(void *data, int64_t n, int thread)
{
    const job *j = data;
    const attend_turn *t = j->turn;
    const int64_t rows = j->sides->from.shape[1], b = n / rows, i = n % rows;
    float cosines[ATTEND_TURN_PAIRS], sines[ATTEND_TURN_PAIRS];
    if (!attend_is_there(j->places, b, i)) return;
    attend_cpu_angles(t->turns, t->dims / 2, attend_place(j->places, b, i), t->factor, t->sine_factor,
                      cosines, sines);
    for (int s = 0; s < j->count; s++)
        turn_token(j, s, b, i, cosines, sines, j->heads + thread * line_of(j->sides->from.shape[3]));
}

int64_t attend_cpu_turn_floats(const attend_pool *pool, int64_t head_dim)
{
    int64_t floats;
    return head_dim < INT64_MAX - 16 &&
                   attend_multiply(attend_pool_threads(pool) + 4, line_of(head_dim), &floats)
               ? floats
               : INT64_MAX;
}

void attend_cpu_turn(attend_pool *pool, const attend_turn *t, const attend_places *places,
                     const attend_turning *sides, int count, float *memory)
{
    const int64_t d = sides->from.shape[3], tokens = sides->from.shape[0] * sides->from.shape[1];
    job j = {.turn = t, .places = places, .sides = sides, .count = count, .heads = memory + 4 * line_of(d)};
    int64_t heads = 0;
    for (int s = 0; s < count; s++) {
        float *weight = memory + 2 * s * line_of(d), *bias = weight + line_of(d);
        heads += sides[s].from.shape[2];
        j.weight[s] = weight, j.bias[s] = bias;
        if (t->norm == ATTEND_QK_NORM_NONE) continue;
        load_parameter(&sides[s].weight, d, 1, weight);
        load_parameter(&sides[s].bias, d, 0, bias);
    }
    attend_pool_run(pool, tokens, (double)tokens * (double)(2 * t->dims + heads * d), turn_sides, &j);
}

void attend_cpu_layer_turn(const attend_plan *plan, const attend_layer_args *args,
                           const attend_attention_args *attention)
{
    const attend_cpu_plan *cpu = plan->state;
    const attend_layer_weights *w = &plan->weights;
    const attend_turn turn = attend_turn_of(&plan->problem);
    const attend_places places = attend_layer_places(&plan->problem, args);
    const attend_turning sides[] = {{attention->q, attention->q, w->q_norm, w->q_norm_bias},
                                    {attention->k, attention->k, w->k_norm, w->k_norm_bias}};
    attend_cpu_turn(cpu->context->pool, &turn, &places, sides, 2, cpu->turning);
}

attend_status attend_cpu_rotary(attend_context *context, const attend_problem *p,
                                const attend_rotary_args *args)
{
    const attend_turn turn = attend_rotary_turn(p, args);
    const attend_places places = attend_rotary_places(p, args);
    attend_turning sides[2];
    ATTEND_TRY(attend_rotary_lists_check(p, args));
    const int count = attend_rotary_sides(args, sides);
    attend_pool *pool = ((const attend_cpu_context *)context->state)->pool;
    size_t bytes = 0;
    float *memory = attend_cpu_allocate(attend_cpu_turn_floats(pool, p->head_dim), sizeof *memory, &bytes);
    if (!memory)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory to turn a token's heads: %zu bytes", bytes);
    attend_cpu_turn(pool, &turn, &places, sides, count, memory);
    free(memory);
    return ATTEND_OK;
}

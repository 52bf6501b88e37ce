/* Rotary embedding and QK-norm on the CPU, in place on the projected Q and K: a token's cosines and sines serve all its heads. */
#include "../turn.h"
#include "cpu.h"

#include <math.h>
#include <stdlib.h>

/* The cosines and sines of one position. */
static void angles(const attend_turn *t, int64_t position, float *cosines, float *sines)
{
    for (int i = 0; i < t->dims / 2; i++) {
        double angle = 6.28318530717958647692 * attend_turn_fraction(t, i, position);
        cosines[i] = (float)(t->factor * cos(angle)), sines[i] = (float)(t->factor * sin(angle));
    }
}

static float parameter(const attend_tensor *t, int64_t c, float absent)
{
    float value = absent;
    if (t->data) attend_cpu_load_row(&value, t->data, c * t->stride[0], 1, t->dtype);
    return value;
}

static void normalise(const attend_turn *t, int64_t d, const float *weight, const float *bias, float *y)
{
    double mean = 0, squares = 0;
    for (int64_t c = 0; c < d && t->norm == ATTEND_QK_NORM_LAYER; c++) mean += y[c];
    mean /= (double)d;
    for (int64_t c = 0; c < d; c++) squares += (y[c] - mean) * (y[c] - mean);
    float shift = (float)mean, factor = (float)(1 / sqrt(squares / (double)d + t->epsilon));
    for (int64_t c = 0; c < d; c++) y[c] = (y[c] - shift) * factor * weight[c] + bias[c];
}

static void turn(const attend_turn *t, const float *cosines, const float *sines, float *y)
{
    for (int i = 0; i < t->dims / 2; i++) {
        float *a = y + attend_turn_first(t, i), *b = y + attend_turn_second(t, i), first = *a, second = *b;
        *a = first * cosines[i] - second * sines[i];
        *b = second * cosines[i] + first * sines[i];
    }
}

/* All heads of one token of q or k. */
static void one_token(const attend_turn *t, const attend_tensor *x, int64_t b, int64_t i, const float *scratch, float *y)
{
    int64_t d = x->shape[3];
    const float *cosines = scratch, *sines = scratch + ATTEND_TURN_PAIRS, *weight = scratch + 2 * ATTEND_TURN_PAIRS, *bias = weight + d;
    for (int64_t h = 0; h < x->shape[2]; h++) {
        int64_t at = b * x->stride[0] + i * x->stride[1] + h * x->stride[2];
        attend_cpu_load_row(y, x->data, at, d, x->dtype);
        if (t->norm != ATTEND_QK_NORM_NONE) normalise(t, d, weight, bias, y);
        turn(t, cosines, sines, y);
        attend_cpu_store_row(x->data, at, y, d, x->dtype);
    }
}

attend_status attend_cpu_turn(const attend_cpu_plan *plan, const attend_lists *lists, const attend_tensor *positions,
                              const attend_tensor *weight, const attend_tensor *bias, const attend_tensor *x)
{
    const attend_problem *p = plan->problem;
    const attend_turn t = attend_turn_of(p);
    int64_t d = p->head_dim, rows = x->shape[1], tokens = x->shape[0] * rows;
    bool complete = true;
#pragma omp parallel num_threads(plan->context->threads) reduction(&& : complete)
    {
        float *scratch = malloc((size_t)(2 * ATTEND_TURN_PAIRS + 3 * d) * sizeof *scratch), *y = scratch ? scratch + 2 * ATTEND_TURN_PAIRS + 2 * d : NULL;
        complete = scratch != NULL;
        for (int64_t c = 0; scratch && c < d; c++) {
            scratch[2 * ATTEND_TURN_PAIRS + c] = parameter(weight, c, 1);
            scratch[2 * ATTEND_TURN_PAIRS + d + c] = parameter(bias, c, 0);
        }
#pragma omp for schedule(static)
        for (int64_t n = 0; n < tokens; n++) {
            if (!scratch) continue;
            int64_t b = n / rows, i = n % rows;
            angles(&t, attend_token_position(p, lists, positions->data, positions->stride[0], positions->stride[1], b, i), scratch,
                   scratch + ATTEND_TURN_PAIRS);
            one_token(&t, x, b, i, scratch, y);
        }
        free(scratch);
    }
    return complete ? ATTEND_OK : attend_fail(ATTEND_OUT_OF_MEMORY, "no memory to turn a token's heads");
}

/* Trains an attention layer with attend alone: associative recall. A sequence is pairs of a symbol and a
 * value, then a symbol that was there before: which value came with it? Attention finds it, an average of all
 * values cannot, which the last lines show.
 *
 *     cc train.c $(pkg-config --cflags --libs attend) -lm -o train
 *     ./train [cpu|cuda]
 */
#include <attend/attend.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 64,
    PAIRS = 12,
    SYMBOLS = 16,
    VALUES = 16,
    PAIR = SYMBOLS + VALUES,
    HEADS = 2,
    DIM = 16,
    WIDTH = HEADS * DIM,
    STEPS = 240
};

static unsigned long long state = 1;
static unsigned draw(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % below;
}

static void ok(attend_status status)
{
    if (status == ATTEND_OK) return;
    fprintf(stderr, "attend: %s\n", attend_error_message());
    exit(1);
}

/* A weight, its gradient, and what Adam keeps of it (Kingma, Ba, arXiv:1412.6980). */
typedef struct matrix {
    attend_tensor w, dw;
    float value[WIDTH * PAIR], gradient[WIDTH * PAIR], mean[WIDTH * PAIR], square[WIDTH * PAIR];
} matrix;

static void matrix_make(matrix *m, int out, int in)
{
    memset(m, 0, sizeof *m);
    m->w = attend_tensor_2d(m->value, ATTEND_F32, out, in);
    m->dw = attend_tensor_2d(m->gradient, ATTEND_F32, out, in);
    for (int i = 0; i < out * in; i++) m->value[i] = ((float)draw(20001) / 10000 - 1) / sqrtf((float)in);
}

static void adam(matrix *m, int step)
{
    const float rate = 0.01f, beta1 = 0.9f, beta2 = 0.99f;
    for (int i = 0; i < m->w.shape[0] * m->w.shape[1]; i++) {
        const float g = m->gradient[i];
        m->mean[i] = beta1 * m->mean[i] + (1 - beta1) * g;
        m->square[i] = beta2 * m->square[i] + (1 - beta2) * g * g;
        m->value[i] -= rate * (m->mean[i] / (1 - powf(beta1, (float)step))) /
                       (sqrtf(m->square[i] / (1 - powf(beta2, (float)step))) + 1e-8f);
    }
}

/* One-hot symbols and values: one question a sequence, and its pairs. */
typedef struct examples {
    float asked[BATCH * SYMBOLS], pairs[BATCH * PAIRS * PAIR];
    int answers[BATCH];
} examples;

static void draw_examples(examples *e)
{
    memset(e, 0, sizeof *e);
    for (unsigned b = 0; b < BATCH; b++) {
        unsigned order[SYMBOLS];
        const unsigned asked = draw(PAIRS);
        for (unsigned s = 0; s < SYMBOLS; s++) order[s] = s;
        for (unsigned j = 0; j < PAIRS; j++) { /* no symbol twice */
            const unsigned other = j + draw(SYMBOLS - j), symbol = order[other], value = draw(VALUES);
            float *pair = e->pairs + (b * PAIRS + j) * PAIR;
            order[other] = order[j], order[j] = symbol;
            pair[symbol] = pair[SYMBOLS + value] = 1;
            if (j == asked) e->asked[b * SYMBOLS + symbol] = 1, e->answers[b] = (int)value;
        }
    }
}

/* Softmax over the values: loss, how many answers are right, and the gradient of the logits. */
static float judge(const float *logits, const int *answers, float *dlogits, int *right)
{
    float loss = 0;
    for (int b = 0; b < BATCH; b++) {
        const float *x = logits + b * VALUES;
        float sum = 0;
        int best = 0;
        for (int i = 1; i < VALUES; i++) best = x[i] > x[best] ? i : best;
        for (int i = 0; i < VALUES; i++) sum += expf(x[i] - x[best]);
        for (int i = 0; i < VALUES; i++)
            dlogits[b * VALUES + i] = (expf(x[i] - x[best]) / sum - (i == answers[b])) / BATCH;
        loss += (logf(sum) + x[best] - x[answers[b]]) / BATCH;
        *right += best == answers[b];
    }
    return loss;
}

/* Trains, and returns the share of answers that are right in the last tenth. */
static double train(attend_context *context, bool attends)
{
    static examples e;
    static float logits[BATCH * VALUES], dlogits[BATCH * VALUES];
    static matrix q, k, v, o;
    matrix *const all[] = {&q, &k, &v, &o};
    matrix_make(&q, WIDTH, SYMBOLS), matrix_make(&k, WIDTH, PAIR), matrix_make(&v, WIDTH, PAIR);
    matrix_make(&o, VALUES, WIDTH);
    if (!attends) memset(q.value, 0, sizeof q.value); /* all keys have the same weight then */

    const attend_problem problem = {.batch = BATCH,
                                    .seqlen_q = 1,
                                    .seqlen_k = PAIRS,
                                    .num_heads = HEADS,
                                    .head_dim = DIM,
                                    .hidden_size = SYMBOLS,
                                    .context_hidden_size = PAIR,
                                    .output_size = VALUES};
    const attend_layer_weights weights = {.wq = q.w, .wk = k.w, .wv = v.w, .wo = o.w},
                               gradients = {.wq = q.dw, .wk = k.dw, .wv = v.dw, .wo = o.dw};
    const attend_layer_args args = {.x = attend_tensor_3d(e.asked, ATTEND_F32, BATCH, 1, SYMBOLS),
                                    .context = attend_tensor_3d(e.pairs, ATTEND_F32, BATCH, PAIRS, PAIR),
                                    .out = attend_tensor_3d(logits, ATTEND_F32, BATCH, 1, VALUES)};
    const attend_layer_grads grads = {.dout = attend_tensor_3d(dlogits, ATTEND_F32, BATCH, 1, VALUES),
                                      .weights = &gradients};
    const attend_plan_options options = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
    attend_plan *plan;
    ok(attend_layer_plan_with(context, &problem, &weights, &options, &plan));

    float loss = 0;
    int right = 0, asked = 0;
    for (int step = 1; step <= STEPS; step++) {
        draw_examples(&e);
        if (step == STEPS * 9 / 10) right = asked = 0;
        ok(attend_layer_forward(plan, &args));
        ok(attend_synchronize(context));
        loss = 0.9f * loss + 0.1f * judge(logits, e.answers, dlogits, &right);
        asked += BATCH;

        ok(attend_layer_backward(plan, &args, &grads, NULL));
        ok(attend_synchronize(context));
        for (int i = attends ? 0 : 1; i < 4; i++) adam(all[i], step);
        ok(attend_layer_reload(plan, NULL)); /* the weights have changed */

        if (step % 12) continue;
        char bar[] = "[....................]";
        for (int i = 1; i <= 20 * step / STEPS; i++) bar[i] = '#';
        printf("\r%s %s step %3d, loss %.4f", attends ? "attention" : "averaging", bar, step, (double)loss);
        fflush(stdout);
    }
    const double share = (double)right / asked;
    printf(": %.1f %% right\n", 100 * share);
    attend_plan_destroy(plan);
    return share;
}

int main(int argc, char **argv)
{
    const bool on_gpu = argc > 1 && strcmp(argv[1], "cuda") == 0;
    const attend_context_options options = {.device = on_gpu ? ATTEND_CUDA : ATTEND_CPU};
    attend_context *context;
    ok(attend_context_create(&options, &context));
    const double attention = train(context, true), averaging = train(context, false);
    attend_context_destroy(context);
    return attention > 0.99 && averaging < 0.5 ? 0 : 1;
}

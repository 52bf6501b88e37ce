/* Trains a small attention layer with attend alone: associative recall, on the CPU. A sequence is pairs of a
 * symbol and a value, then a symbol that was there before: which value came with it? Attention finds it, an
 * average of all values cannot, which the last lines show.
 *
 *     cc train.c $(pkg-config --cflags --libs attend) -lm -o train
 *     ./train [threads]
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
    HEADS = 2,
    DIM = 16,
    WIDTH = HEADS * DIM,
    STEPS = 240
};

/* A linear map y = W·x with Adam (Kingma, Ba, arXiv:1412.6980); gradients arrive in dw. */
typedef struct linear {
    int in, out;
    float *w, *dw, *mean, *square;
} linear;

static unsigned long long state = 1;
static unsigned draw(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % below;
}

static float *zeros(int count)
{
    float *x = calloc((size_t)count, sizeof *x);
    if (!x) exit(1);
    return x;
}

static linear linear_make(int in, int out)
{
    const int count = in * out;
    linear l = {in, out, zeros(count), zeros(count), zeros(count), zeros(count)};
    for (int i = 0; i < count; i++) l.w[i] = ((float)draw(20001) / 10000 - 1) / sqrtf((float)in);
    return l;
}

static void forward(const linear *l, const float *x, float *y, int rows)
{
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < l->out; o++) {
            float sum = 0;
            for (int i = 0; i < l->in; i++) sum += l->w[o * l->in + i] * x[r * l->in + i];
            y[r * l->out + o] = sum;
        }
}

/* dW += dYᵀ·X and, unless NULL, dX = dY·W. */
static void backward(linear *l, const float *x, const float *dy, float *dx, int rows)
{
    if (dx) memset(dx, 0, (size_t)(rows * l->in) * sizeof *dx);
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < l->out; o++)
            for (int i = 0; i < l->in; i++) {
                l->dw[o * l->in + i] += dy[r * l->out + o] * x[r * l->in + i];
                if (dx) dx[r * l->in + i] += dy[r * l->out + o] * l->w[o * l->in + i];
            }
}

static void adam(linear *l, int step)
{
    const float rate = 0.01f, beta1 = 0.9f, beta2 = 0.99f;
    for (int i = 0; i < l->in * l->out; i++) {
        l->mean[i] = beta1 * l->mean[i] + (1 - beta1) * l->dw[i];
        l->square[i] = beta2 * l->square[i] + (1 - beta2) * l->dw[i] * l->dw[i];
        l->w[i] -= rate * (l->mean[i] / (1 - powf(beta1, (float)step))) /
                   (sqrtf(l->square[i] / (1 - powf(beta2, (float)step))) + 1e-8f);
        l->dw[i] = 0;
    }
}

/* One query a sequence, PAIRS keys: one-hot symbols are what queries and keys come from, one-hot values what
 * values do. */
typedef struct examples {
    float asked[BATCH * SYMBOLS], symbols[BATCH * PAIRS * SYMBOLS], values[BATCH * PAIRS * VALUES];
    int answers[BATCH];
} examples;

static void draw_examples(examples *e)
{
    memset(e, 0, sizeof *e);
    for (int b = 0; b < BATCH; b++) {
        unsigned order[SYMBOLS];
        const unsigned asked = draw(PAIRS);
        for (unsigned s = 0; s < SYMBOLS; s++) order[s] = s;
        for (unsigned j = 0; j < PAIRS; j++) { /* no symbol twice */
            const unsigned other = j + draw(SYMBOLS - j), symbol = order[other], value = draw(VALUES);
            order[other] = order[j], order[j] = symbol;
            e->symbols[((unsigned)b * PAIRS + j) * SYMBOLS + symbol] = 1;
            e->values[((unsigned)b * PAIRS + j) * VALUES + value] = 1;
            if (j != asked) continue;
            e->asked[(unsigned)b * SYMBOLS + symbol] = 1, e->answers[b] = (int)value;
        }
    }
}

static void ok(attend_status status)
{
    if (status == ATTEND_OK) return;
    fprintf(stderr, "attend: %s\n", attend_error_message());
    exit(1);
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
    static float q[BATCH * WIDTH], k[BATCH * PAIRS * WIDTH], v[BATCH * PAIRS * WIDTH], out[BATCH * WIDTH],
        lse[BATCH * HEADS], logits[BATCH * VALUES];
    static float dlogits[BATCH * VALUES], dout[BATCH * WIDTH], dq[BATCH * WIDTH], dk[BATCH * PAIRS * WIDTH],
        dv[BATCH * PAIRS * WIDTH];
    linear wq = linear_make(SYMBOLS, WIDTH), wk = linear_make(SYMBOLS, WIDTH),
           wv = linear_make(VALUES, WIDTH), wo = linear_make(WIDTH, VALUES);
    const attend_problem problem = {
        .batch = BATCH, .seqlen_q = 1, .seqlen_k = PAIRS, .num_heads = HEADS, .head_dim = DIM};
    attend_plan *plan;
    const attend_plan_options options = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
    ok(attend_attention_plan_with(context, &problem, &options, &plan));
    const attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_F32, BATCH, 1, HEADS, DIM),
                                        .k = attend_tensor_4d(k, ATTEND_F32, BATCH, PAIRS, HEADS, DIM),
                                        .v = attend_tensor_4d(v, ATTEND_F32, BATCH, PAIRS, HEADS, DIM),
                                        .out = attend_tensor_4d(out, ATTEND_F32, BATCH, 1, HEADS, DIM),
                                        .lse = attend_tensor_3d(lse, ATTEND_F32, BATCH, HEADS, 1)};
    const attend_attention_grads grads = {.dout = attend_tensor_4d(dout, ATTEND_F32, BATCH, 1, HEADS, DIM),
                                          .dq = attend_tensor_4d(dq, ATTEND_F32, BATCH, 1, HEADS, DIM),
                                          .dk = attend_tensor_4d(dk, ATTEND_F32, BATCH, PAIRS, HEADS, DIM),
                                          .dv = attend_tensor_4d(dv, ATTEND_F32, BATCH, PAIRS, HEADS, DIM)};
    float loss = 0;
    int right = 0, asked = 0;
    for (int step = 1; step <= STEPS; step++) {
        draw_examples(&e);
        if (step == STEPS * 9 / 10) right = asked = 0;
        forward(&wq, e.asked, q, BATCH), forward(&wk, e.symbols, k, BATCH * PAIRS);
        forward(&wv, e.values, v, BATCH * PAIRS);
        if (!attends) memset(q, 0, sizeof q); /* all weights are equal then */
        ok(attend_attention_forward(plan, &args));
        forward(&wo, out, logits, BATCH);
        loss = 0.9f * loss + 0.1f * judge(logits, e.answers, dlogits, &right);
        asked += BATCH;

        backward(&wo, out, dlogits, dout, BATCH);
        ok(attend_attention_backward(plan, &args, &grads, NULL));
        backward(&wv, e.values, dv, NULL, BATCH * PAIRS);
        if (attends)
            backward(&wk, e.symbols, dk, NULL, BATCH * PAIRS), backward(&wq, e.asked, dq, NULL, BATCH);
        linear *const all[] = {&wq, &wk, &wv, &wo};
        for (int i = 0; i < 4; i++) adam(all[i], step);
        if (step % 12) continue;
        char bar[] = "[....................]";
        for (int i = 1; i <= 20 * step / STEPS; i++) bar[i] = '#';
        printf("\r%s %s step %3d, loss %.4f", attends ? "attention" : "averaging", bar, step, (double)loss);
        fflush(stdout);
    }
    const double share = (double)right / asked;
    printf(": %.1f %% right\n", 100 * share);
    attend_plan_destroy(plan);
    linear *const all[] = {&wq, &wk, &wv, &wo};
    for (int i = 0; i < 4; i++) free(all[i]->w), free(all[i]->dw), free(all[i]->mean), free(all[i]->square);
    return share;
}

int main(int argc, char **argv)
{
    const attend_context_options options = {.device = ATTEND_CPU, .threads = argc > 1 ? atoi(argv[1]) : 0};
    attend_context *context;
    ok(attend_context_create(&options, &context));
    const double attention = train(context, true), averaging = train(context, false);
    attend_context_destroy(context);
    return attention > 0.99 && averaging < 0.5 ? 0 : 1;
}

/* What scripts/demo shows: the first attention layer of a real sentence encoder on a real paragraph (tests/data/minilm), on each
   device that is there; its errors beside PyTorch's; and which words attend to which. Exits with 1 if a rule is broken. */
#include <attend/attend.h>

#include "file/npy.h"
#include "file/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEADS = 12, DIM = 32, HIDDEN = HEADS * DIM, MOST_TOKENS = 512, STRONGEST = 5 };

typedef struct demo {
    attend_problem problem;
    attend_layer_weights weights;
    attend_layer_args args; /* q, k, lse, … of the last run */
    attend_tensor pytorch;  /* its out for the same x */
    char words[MOST_TOKENS][32];
    int64_t tokens;
} demo;

static void check(attend_status status)
{
    if (!status) return;
    fprintf(stderr, "minilm: %s\n", attend_error_message());
    exit(2);
}

/* ---- loading: all of it is kept until the program ends ---- */

static const char *in_folder(const char *folder, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static attend_tensor load_weight(const attend_safetensors *file, const char *part, const char *kind)
{
    char name[128];
    attend_array array;
    snprintf(name, sizeof name, "encoder.layer.0.attention.%s.%s", part, kind);
    const attend_safetensors_entry *entry = attend_safetensors_find(file, name);
    if (!entry) {
        fprintf(stderr, "minilm: no tensor %s\n", name);
        exit(2);
    }
    check(attend_safetensors_read(file, entry, &array));
    return array.rank == 2 ? attend_tensor_2d(array.data, ATTEND_F32, array.shape[0], array.shape[1])
                           : attend_tensor_1d(array.data, ATTEND_F32, array.shape[0]);
}

static void load_weights(const char *folder, attend_layer_weights *w)
{
    static const char *const parts[] = {"self.query", "self.key", "self.value", "output.dense"};
    attend_tensor *const weights[] = {&w->wq, &w->wk, &w->wv, &w->wo}, *const biases[] = {&w->bq, &w->bk, &w->bv, &w->bo};
    attend_safetensors file;
    check(attend_safetensors_open(in_folder(folder, "layer0.safetensors"), &file));
    for (int i = 0; i < 4; i++) {
        *weights[i] = load_weight(&file, parts[i], "weight");
        *biases[i] = load_weight(&file, parts[i], "bias");
    }
    attend_safetensors_close(&file);
}

static attend_tensor load_rows(const char *path)
{
    attend_array array;
    check(attend_npy_read(path, &array));
    return attend_tensor_3d(array.data, ATTEND_F32, array.shape[0], array.shape[1], array.shape[2]);
}

static void load(const char *folder, demo *d)
{
    load_weights(folder, &d->weights);
    d->args.x = load_rows(in_folder(folder, "x.npy"));
    d->pytorch = load_rows(in_folder(folder, "z.npy"));
    FILE *words = fopen(in_folder(folder, "tokens.txt"), "r");
    while (words && d->tokens < MOST_TOKENS && fscanf(words, "%31s", d->words[d->tokens]) == 1) d->tokens++;
    if (words) fclose(words);
    if (d->tokens == 0 || d->tokens != d->args.x.shape[1] || d->args.x.shape[2] != HIDDEN) {
        fprintf(stderr, "minilm: %s: x.npy and tokens.txt do not fit together\n", folder);
        exit(2);
    }
    int64_t n = d->tokens;
    d->problem = (attend_problem){.batch = 1, .seqlen_q = n, .num_heads = HEADS, .head_dim = DIM, .hidden_size = HIDDEN};
    attend_tensor *const heads[] = {&d->args.q, &d->args.k, &d->args.v, &d->args.heads};
    for (int i = 0; i < 4; i++)
        *heads[i] = attend_tensor_4d(malloc((size_t)n * HIDDEN * sizeof(float)), ATTEND_F32, 1, n, HEADS, DIM);
    d->args.out = attend_tensor_3d(malloc((size_t)n * HIDDEN * sizeof(float)), ATTEND_F32, 1, n, HIDDEN);
    d->args.lse = attend_tensor_3d(malloc((size_t)n * HEADS * sizeof(float)), ATTEND_F32, 1, HEADS, n);
}

/* ---- running and judging ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_once(attend_context *context, attend_plan *plan, const attend_layer_args *args)
{
    check(attend_layer_forward(plan, args));
    check(attend_synchronize(context));
}

/* The least of the runs of a third of a second. */
static double time_runs(attend_context *context, attend_plan *plan, const attend_layer_args *args)
{
    double least = INFINITY;
    for (double begin = now(); now() - begin < 0.3;) {
        double start = now();
        run_once(context, plan, args);
        least = fmin(least, now() - start);
    }
    return least;
}

static bool print_row(const demo *d, const char *name, const attend_layer_args *args, double seconds)
{
    attend_layer_comparison r;
    check(attend_layer_compare(&d->problem, &d->weights, args, NULL, &r));
    printf("%-32s %8.1e %8.1e %7.2f", name, r.max_error, r.rms_error, r.quality_ratio);
    if (seconds > 0)
        printf(" %8.2f ms", 1e3 * seconds);
    else
        printf(" %11s", "");
    printf("  %s\n", r.passed ? "correct" : "WRONG");
    return r.passed;
}

static bool run_on(demo *d, attend_device device)
{
    const attend_plan_options on_host = {.host_tensors = ATTEND_HOST_ALL};
    bool software = device == ATTEND_CUDA && getenv("SOFTGPU_STATUS"); /* its time says nothing */
    attend_context *context;
    attend_plan *plan;
    check(attend_context_create(&(attend_context_options){.device = device}, &context));
    check(attend_layer_plan_with(context, &d->problem, &d->weights, &on_host, &plan));
    run_once(context, plan, &d->args);
    attend_layer_args plain = {.x = d->args.x, .out = d->args.out};
    double seconds = software ? 0 : time_runs(context, plan, &plain);
    bool passed = print_row(d, attend_context_device_name(context), &d->args, seconds);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    return passed;
}

/* ---- which words attend to which ---- */

/* The weight exp(scale·q_i·k_j - lse_i) that head h of query i gives key j: no score matrix was ever stored. */
static double weight(const demo *d, int h, int64_t i, int64_t j)
{
    const float *q = (const float *)d->args.q.data + i * HIDDEN + h * DIM,
                *k = (const float *)d->args.k.data + j * HIDDEN + h * DIM;
    double score = 0;
    for (int c = 0; c < DIM; c++) score += (double)q[c] * (double)k[c];
    return exp(score / sqrt(DIM) - (double)((const float *)d->args.lse.data)[h * d->tokens + i]);
}

static void print_strongest(const demo *d, int64_t query)
{
    double mean[MOST_TOKENS] = {0};
    for (int64_t j = 0; j < d->tokens; j++)
        for (int h = 0; h < HEADS; h++) mean[j] += weight(d, h, query, j) / HEADS;
    printf("  %-14s ->", d->words[query]);
    for (int n = 0; n < STRONGEST; n++) {
        int64_t best = 0;
        for (int64_t j = 1; j < d->tokens; j++)
            if (mean[j] > mean[best]) best = j;
        printf("  %s %.0f %%", d->words[best], 100 * mean[best]);
        mean[best] = -1;
    }
    printf("\n");
}

static void print_words(const demo *d)
{
    static const char *const asked[] = {"bank", "counted", "twice", "granddaughter"};
    printf("\nThe strongest keys of a few words, mean of the heads:\n");
    for (size_t n = 0; n < sizeof asked / sizeof *asked; n++)
        for (int64_t i = 0; i < d->tokens; i++)
            if (!strcmp(d->words[i], asked[n])) {
                print_strongest(d, i);
                break;
            }
    int sharpest = 0;
    double most = 0;
    for (int h = 0; h < HEADS; h++) {
        double before = 0;
        for (int64_t i = 1; i < d->tokens; i++) before += weight(d, h, i, i - 1) / (double)(d->tokens - 1);
        if (before > most) sharpest = h, most = before;
    }
    printf("Head %d looks at the word before: %.0f %% of its weight lies there.\n", sharpest, 100 * most);
}

int main(int argc, char **argv)
{
    static demo d;
    if (argc != 2) {
        fprintf(stderr, "usage: minilm FOLDER (tests/data/minilm)\n");
        return 2;
    }
    load(argv[1], &d);
    printf("all-MiniLM-L6-v2, layer 0, on %d words: x [1, %d, %d], %d heads of %d, fp32\n\n", (int)d.tokens, (int)d.tokens,
           HIDDEN, HEADS, DIM);
    printf("%-32s %8s %8s %7s %11s\n", "errors against fp64", "worst", "rms", "rule 2", "time");
    bool passed = run_on(&d, ATTEND_CPU);
    if (attend_cuda_device_count() > 0) passed &= run_on(&d, ATTEND_CUDA);
    attend_layer_args pytorch = d.args;
    pytorch.out = d.pytorch;
    passed &= print_row(&d, "PyTorch 2.15, for comparison", &pytorch, 0);
    printf("(rule 2: how much of the rms error that docs/numerics.md allows was needed%s)\n",
           getenv("SOFTGPU_STATUS") ? "; softgpu: CUDA kernels on a software device" : "");
    print_words(&d);
    return passed ? 0 : 1;
}

/* The table of options, and reading a command line by it. Help is printed from the same table. */
#include "options.h"
#include "parse.h"
#include "file/fail.h"

#include <stdio.h>
#include <string.h>

enum {
    RUN = COMMAND_RUN,
    ATTENTION = COMMAND_ATTENTION,
    COMPARE = COMMAND_COMPARE,
    BENCH = COMMAND_BENCH,
    INFO = COMMAND_INFO,
    ALL = RUN | ATTENTION | COMPARE | BENCH | INFO
};

static const struct {
    command command;
    const char *name, *what, *usage;
} commands[] = {
    {COMMAND_RUN, "run", "one attention layer: projections, attention, output projection",
     "--weights FILE.safetensors --input X.npy --output Z.npy"},
    {COMMAND_ATTENTION, "attention", "attention on given Q, K and V", "--q Q.npy --k K.npy --v V.npy --output O.npy"},
    {COMMAND_COMPARE, "compare", "a result against the fp64 reference, by both rules of docs/numerics.md",
     "--random seqlen_q=N,... | as run or attention"},
    {COMMAND_BENCH, "bench", "time, memory and speed, against the naive algorithm", "[--random seqlen_q=N,...]"},
    {COMMAND_INFO, "info", "version, build, devices, kernels", "[--kernels]"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

/* What belongs together: options of two of the first three groups are never given at once. */
typedef enum group { OF_LAYER = 1, OF_TENSORS = 2, OF_RANDOM = 4, OF_ATTENTION = 8, OF_ANY = 16 } group;

typedef struct row {
    const char *name, *argument; /* argument NULL: a flag; "[=…": optional */
    int commands;
    group group;
    attend_status (*read)(const struct row *row, const char *text, options *options);
    size_t offset; /* of the field that read_text() fills */
    const char *help;
} row;

static attend_status read_text(const row *row, const char *text, options *options)
{
    if (!*text) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is empty, expected a file name", row->name);
    *(const char **)((char *)options + row->offset) = text;
    return ATTEND_OK;
}

static attend_status read_flag(const row *row, const char *text, options *options)
{
    (void)text;
    *(bool *)((char *)options + row->offset) = true;
    return ATTEND_OK;
}

static attend_status read_count(const row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 1, INT32_MAX, (int64_t *)((char *)options + row->offset));
}

static attend_status read_layer(const row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 0, INT32_MAX, &options->layer);
}

static attend_status read_threads(const row *row, const char *text, options *options)
{
    int64_t threads;
    ATTEND_TRY(parse_whole(row->name, text, 0, 4096, &threads));
    options->threads = (int)threads;
    return ATTEND_OK;
}

static attend_status read_layout(const row *row, const char *text, options *options)
{
    static const char *const names[] = {"auto", "bert", "gpt2", "llama", "torch", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->layout = (layout)index;
    return ATTEND_OK;
}

static attend_status read_causal(const row *row, const char *text, options *options)
{
    static const char *const names[] = {"none", "top-left", "bottom-right", NULL};
    int index;
    options->causal_choice = CAUSAL_BARE;
    if (!text) return ATTEND_OK;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->causal_choice = CAUSAL_NAMED;
    options->causal = (attend_causal)index;
    return ATTEND_OK;
}

static attend_status read_rotary(const row *row, const char *text, options *options)
{
    static const char *const names[] = {"auto", "none", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->without_rotary = index == 1;
    return ATTEND_OK;
}

static attend_status read_scale(const row *row, const char *text, options *options)
{
    return parse_scale(row->name, text, &options->scale);
}

static attend_status read_random(const row *row, const char *text, options *options)
{
    options->random = true;
    return parse_random(row->name, text, &options->shape);
}

static attend_status read_values(const row *row, const char *text, options *options)
{
    const char *names[ATTEND_VALUES_KINDS + 1];
    int index;
    for (int i = 0; i <= ATTEND_VALUES_KINDS; i++) names[i] = attend_values_name((attend_values)i);
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->values = (attend_values)index;
    return ATTEND_OK;
}

static attend_status read_seed(const row *row, const char *text, options *options)
{
    return parse_seed(row->name, text, &options->seed);
}

static attend_status read_against(const row *row, const char *text, options *options)
{
    static const char *const names[] = {"reference", "cpu", "cuda", NULL};
    static const attend_device devices[] = {ATTEND_REFERENCE, ATTEND_CPU, ATTEND_CUDA};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->against = devices[index];
    return ATTEND_OK;
}

static attend_status read_device(const row *row, const char *text, options *options)
{
    static const char *const names[] = {"auto", "cpu", "cuda", "reference", NULL};
    static const attend_device devices[] = {ATTEND_AUTO, ATTEND_CPU, ATTEND_CUDA, ATTEND_REFERENCE};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->device = devices[index];
    return ATTEND_OK;
}

static attend_status read_dtype(const row *row, const char *text, options *options)
{
    static const char *const names[] = {"f32", "f16", "bf16", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->dtype_given = true;
    options->dtype = (attend_dtype)index;
    return ATTEND_OK;
}

#define FIELD(name) offsetof(options, name)
static const row rows[] = {
    {"--weights", "FILE", RUN | COMPARE, OF_LAYER, read_text, FIELD(weights), "a layer's weights, .safetensors"},
    {"--layer", "N", RUN | COMPARE, OF_LAYER, read_layer, 0, "which layer of the file (the first)"},
    {"--layout", "NAME", RUN | COMPARE, OF_LAYER, read_layout, 0, "its tensor names: auto, bert, gpt2, llama, torch (auto)"},
    {"--prefix", "TEXT", RUN | COMPARE, OF_LAYER, read_text, FIELD(prefix), "only tensors whose names begin so"},
    {"--input", "X.npy", RUN | COMPARE, OF_LAYER, read_text, FIELD(input), "[batch, seqlen, hidden] or [seqlen, hidden]"},
    {"--heads", "H", RUN | COMPARE, OF_LAYER, read_count, FIELD(heads), "query heads (config.json beside the weights)"},
    {"--kv-heads", "K", RUN | COMPARE, OF_LAYER, read_count, FIELD(kv_heads), "key and value heads (from the weights' shapes)"},
    {"--rotary", "WHICH", RUN | COMPARE, OF_LAYER, read_rotary, 0, "auto, or none: run a rotary layer without (auto)"},
    {"--q", "Q.npy", ATTENTION | COMPARE, OF_TENSORS, read_text, FIELD(q), "[batch, seqlen_q, heads, head_dim]"},
    {"--k", "K.npy", ATTENTION | COMPARE, OF_TENSORS, read_text, FIELD(k), "[batch, seqlen_k, kv_heads, head_dim]"},
    {"--v", "V.npy", ATTENTION | COMPARE, OF_TENSORS, read_text, FIELD(v), "[batch, seqlen_k, kv_heads, head_dim_v]"},
    {"--seqlens-k", "N.npy", ATTENTION | COMPARE, OF_TENSORS, read_text, FIELD(seqlens_k),
     "integers [batch]: keys of each entry"},
    {"--scale", "S", ATTENTION | COMPARE | BENCH, OF_ATTENTION, read_scale, 0, "factor of the scores (1/sqrt(head_dim))"},
    {"--random", "K=V,...", COMPARE | BENCH, OF_RANDOM, read_random, 0,
     "batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim, head_dim_v"},
    {"--values", "KIND", COMPARE | BENCH, OF_RANDOM, read_values, 0,
     "gauss, sharp, constant, offset, cancel, needle, ascend, descend, uniform, negative, exact (gauss)"},
    {"--seed", "N", COMPARE | BENCH, OF_RANDOM, read_seed, 0, "of the random values (1)"},
    {"--causal", "[=WHERE]", RUN | ATTENTION | COMPARE | BENCH, OF_ANY, read_causal, 0,
     "top-left, bottom-right or none; bare: where both agree"},
    {"--output", "Z.npy", RUN | ATTENTION | COMPARE, OF_ANY, read_text, FIELD(output), "the result; .safetensors holds bf16 too"},
    {"--lse", "L.npy", RUN | ATTENTION | COMPARE, OF_ANY, read_text, FIELD(lse), "log-sum-exp, f32 [batch, heads, seqlen_q]"},
    {"--against", "DEVICE", COMPARE, OF_ANY, read_against, 0, "reference; cpu, cuda: also run there (reference)"},
    {"--result", "Z.npy", COMPARE, OF_LAYER | OF_TENSORS, read_text, FIELD(result), "judge this result instead of running"},
    {"--result-lse", "L.npy", COMPARE, OF_TENSORS, read_text, FIELD(result_lse), "and its log-sum-exp"},
    {"--kernels", NULL, INFO, OF_ANY, read_flag, FIELD(kernels), "the kernel table"},
    {"--device", "NAME", ALL, OF_ANY, read_device, 0, "auto, cpu, cuda, reference (auto)"},
    {"--dtype", "NAME", ALL, OF_ANY, read_dtype, 0, "store tensors as f32, f16 or bf16 (as the input is)"},
    {"--threads", "N", ALL, OF_ANY, read_threads, 0, "CPU threads (all)"},
    {"--json", NULL, ALL, OF_ANY, read_flag, FIELD(json), "one JSON object on stdout"},
    {"--quiet", NULL, ALL, OF_ANY, read_flag, FIELD(quiet), "no table, no progress"},
    {"--help", NULL, ALL, OF_ANY, read_flag, FIELD(help), "this text"},
};
enum { ROWS = sizeof rows / sizeof *rows };

void options_print_usage(void)
{
    puts("attend: multi-head attention on NVIDIA GPUs and CPUs\n");
    for (int i = 0; i < COMMANDS; i++) printf("  attend %-10s %s\n", commands[i].name, commands[i].what);
    puts("\nattend COMMAND --help lists a command's options; attend --version prints the version.\n"
         "Exit status: 0 done or within bounds, 1 run-time failure, 2 bad usage or bad input, 3 outside the "
         "bounds.");
}

void options_print_help(const options *options)
{
    for (int i = 0; i < COMMANDS; i++)
        if (commands[i].command == options->command)
            printf("attend %s %s\n%s\n\n", commands[i].name, commands[i].usage, commands[i].what);
    for (int i = 0; i < ROWS; i++) {
        if (!(rows[i].commands & (int)options->command)) continue;
        const char *argument = rows[i].argument ? rows[i].argument : "";
        int width = printf("  %s%s%s", rows[i].name, *argument && *argument != '[' ? " " : "", argument);
        printf("%*s%s\n", width < 25 ? 25 - width : 2, "", rows[i].help);
    }
}

static const row *find_row(const options *options, const char *argument, size_t length)
{
    for (int i = 0; i < ROWS; i++)
        if (rows[i].commands & (int)options->command && strlen(rows[i].name) == length &&
            !strncmp(rows[i].name, argument, length))
            return &rows[i];
    return NULL;
}

/* Reads argv[*i], and argv[*i + 1] where that is its value. */
static attend_status read_one(int argc, char **argv, int *i, uint64_t *given, options *options)
{
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    if (strncmp(argument, "--", 2) != 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "\"%s\" is not an option; all arguments begin with --", argument);
    const row *row = find_row(options, argument, length);
    if (!row)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%.*s is not an option of attend %s", (int)length, argument,
                                options->name);
    uint64_t bit = (uint64_t)1 << (row - rows);
    if (*given & bit) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is given twice", row->name);
    *given |= bit;
    const char *value = equals ? equals + 1 : NULL;
    if (!row->argument && value) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s takes no value", row->name);
    if (row->argument && row->argument[0] != '[' && !value) {
        if (*i + 1 >= argc || !strncmp(argv[*i + 1], "--", 2))
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s needs a value: %s", row->name, row->argument);
        value = argv[++*i];
    }
    return row->read(row, value, options);
}

/* The first given option that belongs to `group` and to none of the other two sources of a problem; NULL if
 * there is none. */
static const char *given_of(uint64_t given, group group)
{
    const int sources = OF_LAYER | OF_TENSORS | OF_RANDOM;
    for (int i = 0; i < ROWS; i++)
        if (given >> i & 1 && ((int)rows[i].group & sources) == (int)group) return rows[i].name;
    return NULL;
}

static attend_status need(const options *o, const char *name, const void *value)
{
    if (value) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "attend %s needs %s", o->name, name);
}

/* That exactly one source of a problem is given, and completely. */
static attend_status check_sources(const options *o, uint64_t given)
{
    const char *layer = given_of(given, OF_LAYER), *tensors = given_of(given, OF_TENSORS), *random = given_of(given, OF_RANDOM);
    const char *first = layer ? layer : tensors, *second = random ? random : layer && tensors ? tensors : NULL;
    if (first && second) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s and %s exclude each other", first, second);
    if (o->command == COMMAND_COMPARE && !first && !o->random)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "attend compare needs --weights and --input, or --q, --k and --v, or --random");
    if (o->command == COMMAND_RUN || layer) {
        ATTEND_TRY(need(o, "--weights", o->weights));
        ATTEND_TRY(need(o, "--input", o->input));
        if (o->scale != 0)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--scale is for attention on tensors, not for a layer");
    }
    if (o->command == COMMAND_ATTENTION || tensors) {
        ATTEND_TRY(need(o, "--q", o->q));
        ATTEND_TRY(need(o, "--k", o->k));
        ATTEND_TRY(need(o, "--v", o->v));
    }
    if (o->output && o->lse && !strcmp(o->output, o->lse) && strncmp(o->output, "/dev/", 5) != 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--output and --lse are the same file");
    if (o->command == COMMAND_RUN || o->command == COMMAND_ATTENTION) return need(o, "--output", o->output);
    if (o->result_lse && !o->result) return need(o, "--result where --result-lse is given", o->result);
    if (o->result && random) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--result and %s exclude each other", random);
    if (o->result && o->against != ATTEND_REFERENCE)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--result is judged against the reference: leave --against out");
    if (o->result && (o->output || o->lse))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--result judges a file: there is nothing to write to %s",
                                o->output ? "--output" : "--lse");
    return ATTEND_OK;
}

attend_status options_read(int argc, char **argv, options *options)
{
    uint64_t given = 0;
    _Static_assert(ROWS <= 64, "one bit an option");
    memset(options, 0, sizeof *options);
    options->layer = -1;
    options->against = ATTEND_REFERENCE;
    options->seed = 1;
    options->shape = (random_shape){-1, -1, -1, -1, -1, -1, -1};
    for (int i = 1; i < argc; i++) options->json |= !strcmp(argv[i], "--json");
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[0], commands[i].name)) options->command = commands[i].command, options->name = commands[i].name;
    if (!options->name)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "\"%s\" is not a command; run, attention, compare, bench and info are",
                                argv[0]);
    for (int i = 1; i < argc; i++) ATTEND_TRY(read_one(argc, argv, &i, &given, options));
    if (options->help || options->command == COMMAND_INFO) return ATTEND_OK;
    return check_sources(options, given);
}

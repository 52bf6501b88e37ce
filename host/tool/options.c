/* Reads a command line by the table of options and prints help from the same table. */
#include "tool/options.h"
#include "tool/options_files.h"
#include "tool/options_positions.h"
#include "tool/parse.h"
#include "file/fail.h"

#include <stdio.h>
#include <string.h>

static const struct {
    command command;
    const char *name, *what, *usage;
} commands[] = {
    {COMMAND_RUN, "run", "one attention layer: projections, attention, output projection",
     "--weights FILE.safetensors --input X.npy --output Z.npy"},
    {COMMAND_ATTENTION, "attention", "attention on given Q, K and V",
     "--q Q.npy --k K.npy --v V.npy --output O.npy"},
    {COMMAND_COMPARE, "compare", "a result against the fp64 reference, by both rules of docs/numerics.md",
     "--random seqlen_q=N,... | as run or attention"},
    {COMMAND_BENCH, "bench", "time, memory and speed, against the naive algorithm",
     "[--random seqlen_q=N,...] [--offload | --decode] | --sweep"},
    {COMMAND_INSPECT, "inspect", "which keys each query attends to: heads, distances, top keys, pictures",
     "--weights FILE.safetensors --input X.npy [--tokens FILE] [--output FILE.png] | as compare"},
    {COMMAND_ROTARY, "rotary", "applies rotary embedding to a given Q or K, or judges a result of it",
     "--input Q.npy --rotary halves|interleaved --output R.npy | --result R.npy"},
    {COMMAND_GRADIENTS, "gradients", "gradients of attention on given Q, K and V",
     "--q Q.npy --k K.npy --v V.npy --dout D.npy [--dq FILE] [--dk FILE] [--dv FILE] ..."},
    {COMMAND_INFO, "info", "version, build, devices, kernels", "[--kernels]"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

void options_print_usage(void)
{
    puts("attend: multi-head attention on NVIDIA GPUs and CPUs\n");
    for (int i = 0; i < COMMANDS; i++) printf("  attend %-10s %s\n", commands[i].name, commands[i].what);
    puts("\nattend COMMAND --help lists a command's options; attend --version prints the version.\n"
         "Numbers may be written 4k (4096; also M, G), 1e9 or 1.5M.\n"
         "Exit status: 0 done or within bounds, 1 run-time failure, 2 bad usage or bad input, 3 outside the "
         "bounds.");
}

void options_print_help(const options *options)
{
    for (int i = 0; i < COMMANDS; i++)
        if (commands[i].command == options->command)
            printf("attend %s %s\n%s\n\n", commands[i].name, commands[i].usage, commands[i].what);
    for (int i = 0; i < option_row_count; i++) {
        if (!(option_rows[i].commands & (int)options->command)) continue;
        const char *argument = option_rows[i].argument ? option_rows[i].argument : "";
        int width =
            printf("  %s%s%s", option_rows[i].name, *argument && *argument != '[' ? " " : "", argument);
        printf("%*s%s\n", width < 25 ? 25 - width : 2, "", option_rows[i].help);
    }
}

static const option_row *find_row(const options *options, const char *argument, size_t length)
{
    for (int i = 0; i < option_row_count; i++)
        if (option_rows[i].commands & (int)options->command && strlen(option_rows[i].name) == length &&
            !strncmp(option_rows[i].name, argument, length))
            return &option_rows[i];
    return NULL;
}

/* Writes the option, or the key of --random, whose name is most similar; "" if none is similar. */
static void find_meant(const options *options, const char *name, char text[64])
{
    suggestion option = {.written = name}, key = {.written = name + 2};
    for (int i = 0; i < option_row_count; i++)
        if (option_rows[i].commands & (int)options->command) suggest(&option, option_rows[i].name);
    if (find_row(options, "--random", strlen("--random"))) parse_suggest_key(&key);
    if (key.nearest && (!option.nearest || key.distance <= option.distance))
        snprintf(text, 64, "--random %s=…", key.nearest);
    else
        snprintf(text, 64, "%s", option.nearest ? option.nearest : "");
}

/* The error for an option that this command does not have: names the commands that have it, or a similar
   option. */
static attend_status refuse_option(const options *options, const char *argument, size_t length)
{
    char name[64], meant[64], takers[128] = "";
    snprintf(name, sizeof name, "-%.*s", (int)length,
             argument + (argument[1] == '-')); /* reads -json as --json */
    for (int i = 0; i < option_row_count; i++)
        for (int n = 0; n < COMMANDS && !strcmp(option_rows[i].name, name); n++)
            if (option_rows[i].commands & (int)commands[n].command)
                snprintf(takers + strlen(takers), sizeof takers - strlen(takers), "%s%s", *takers ? ", " : "",
                         commands[n].name);
    find_meant(options, name, meant);
    bool here = !strcmp(meant, name);
    if (*takers && !here)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is not an option of attend %s; it is one of %s",
                                name, options->name, takers);
    if (*meant)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%.*s is not an option of attend %s; did you mean %s?", (int)length, argument,
                                options->name, meant);
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%.*s is not an option of attend %s; attend %s --help lists them", (int)length,
                            argument, options->name, options->name);
}

/* Reads argv[*i], and argv[*i + 1] if that is its value. */
static attend_status read_one(int argc, char **argv, int *i, bool *given, options *options)
{
    const char *argument = strcmp(argv[*i], "-h") ? argv[*i] : "--help", *equals = strchr(argument, '=');
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    const option_row *row = find_row(options, argument, length);
    const option_row *before = *i > 1 ? find_row(options, argv[*i - 1], strlen(argv[*i - 1])) : NULL;
    if (!row && argument[0] != '-' && before && before->argument && before->argument[0] == '[')
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s takes its value after =: %s=%s", before->name,
                                before->name, argument);
    if (!row && (argument[0] != '-' || !strcmp(argument, "--")))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "\"%s\" is not an option; all arguments begin with --", argument);
    if (!row) return refuse_option(options, argument, length);
    if (given[row - option_rows])
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is given twice", row->name);
    given[row - option_rows] = true;
    const char *value = equals ? equals + 1 : NULL;
    if (!row->argument && value)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s takes no value", row->name);
    if (row->argument && row->argument[0] != '[' && !value) {
        if (*i + 1 >= argc || !strncmp(argv[*i + 1], "--", 2))
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s needs a value: %s", row->name,
                                    row->argument);
        value = argv[++*i];
    }
    return row->read(row, value, options);
}

/* The first given option that belongs to `group` and to neither of the other two sources of a problem; NULL:
   none. */
static const char *given_of(const bool *given, group group)
{
    const int sources = OF_LAYER | OF_TENSORS | OF_RANDOM;
    for (int i = 0; i < option_row_count; i++)
        if (given[i] && ((int)option_rows[i].group & sources) == (int)group) return option_rows[i].name;
    return NULL;
}

static attend_status need(const options *o, const char *name, const void *value)
{
    if (value) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is missing; attend %s --help lists what is needed",
                            name, o->name);
}

static attend_status check_gradients(const options *o)
{
    const gradient_options *g = &o->gradients;
    ATTEND_TRY(need(o, "--dout", g->dout));
    if (g->dq || g->dk || g->dv || g->bias || g->alibi_slopes || g->relative_table || g->head_scales ||
        g->sinks)
        return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "give a file for one gradient at least: --dq, --dk, --dv, ...");
}

/* layer: an option of one; NULL: none. */
static attend_status check_pages(const options *o, const char *layer)
{
    const char *beside = layer                  ? layer
                         : o->shape.hidden >= 0 ? "--random hidden"
                         : o->backward          ? "--backward"
                         : o->offload           ? "--offload"
                                                : NULL;
    if ((o->page_size || o->decode) && beside)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s and %s exclude each other",
                                o->page_size ? "--page-size" : "--decode", beside);
    if (o->decode && o->shape.head_dim_v >= 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--decode takes head_dim for V too");
    if (o->decode && o->shape.seqlen_q >= 0 && o->shape.seqlen_q != 1)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--decode has one query a sequence: --random seqlen_k is what it takes");
    return ATTEND_OK;
}

/* Checks that exactly one source of a problem is given, and that it is complete. */
static attend_status check_sources(const options *o, const bool *given)
{
    const char *layer = given_of(given, OF_LAYER), *tensors = given_of(given, OF_TENSORS),
               *random = given_of(given, OF_RANDOM);
    const char *first = layer ? layer : tensors, *second = random             ? random
                                                           : layer && tensors ? tensors
                                                                              : NULL;
    if (first && second)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s and %s exclude each other", first, second);
    if (o->command & (COMMAND_COMPARE | COMMAND_INSPECT) && !first && !o->random)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "give --weights and --input, or --q, --k and --v, or --random");
    if (o->command == COMMAND_RUN || layer) {
        ATTEND_TRY(need(o, "--weights", o->weights));
        ATTEND_TRY(need(o, "--input", o->input));
    }
    if (o->command & (COMMAND_ATTENTION | COMMAND_GRADIENTS) || tensors) {
        ATTEND_TRY(need(o, "--q", o->q));
        ATTEND_TRY(need(o, "--k", o->k));
        /* attention weights depend on Q and K only */
        if (o->command != COMMAND_INSPECT) ATTEND_TRY(need(o, "--v", o->v));
    }
    if (o->command == COMMAND_BENCH && o->output && !o->sweep && !o->offload)
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "--output needs --sweep or --offload, whose picture it is; attend bench writes no other file");
    if (o->offload && (layer || o->shape.hidden >= 0 || o->memory_limit || o->explain))
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "--offload is of attention within limits that it chooses: %s and it exclude each other",
            o->memory_limit        ? "--memory-limit"
            : o->explain           ? "--explain"
            : o->shape.hidden >= 0 ? "--random hidden"
                                   : layer);
    ATTEND_TRY(check_pages(o, layer));
    if (o->strict && o->device == ATTEND_AUTO)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--strict needs --device cpu, cuda or reference: auto may take either");
    const int table = o->sweep ? WITH_SWEEP : o->decode ? WITH_DECODE : 0;
    for (int i = 0; i < option_row_count && table; i++)
        if (given[i] && !(option_rows[i].commands & table))
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s and %s exclude each other",
                                    option_rows[i].name, o->sweep ? "--sweep" : "--decode");
    const random_shape *s = &o->shape;
    if (o->sweep && ((s->seqlen_k >= 0 && s->seqlen_q != 1) || s->head_dim_v >= 0 || s->hidden >= 0))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--sweep takes seqlen_q for queries and keys, unless it is 1, and head_dim "
                                "for V too");
    if (o->command == COMMAND_RUN || o->command == COMMAND_ATTENTION) return need(o, "--output", o->output);
    if (o->command == COMMAND_GRADIENTS) return check_gradients(o);
    if (o->backward && layer && o->command == COMMAND_COMPARE)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--backward and %s exclude each other: the command compares "
                                "gradients of attention alone",
                                layer);
    if (o->backward && o->result && o->command == COMMAND_COMPARE)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--backward and --result exclude each other");
    if (o->result_lse && !o->result)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--result-lse needs --result");
    if (o->result && random)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--result and %s exclude each other", random);
    if (o->result && o->against != ATTEND_REFERENCE)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--result is judged against the reference: leave --against out");
    if (o->result && (o->output || o->lse))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--result judges a file and computes nothing that could be written to %s",
                                o->output ? "--output" : "--lse");
    return ATTEND_OK;
}

static attend_status refuse_command(const char *name)
{
    char known[128] = "";
    suggestion meant = {.written = name};
    for (int i = 0; i < COMMANDS; i++) {
        suggest(&meant, commands[i].name);
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 commands[i].name);
    }
    if (name[0] == '-')
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s comes before a command; options follow one of %s", name, known);
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "\"%s\" is not a command; %s%s%s", name,
                            meant.nearest ? "did you mean " : "there are ",
                            meant.nearest ? meant.nearest : known, meant.nearest ? "?" : "");
}

attend_status options_read(int argc, char **argv, options *options)
{
    bool given[MOST_OPTIONS] = {false};
    memset(options, 0, sizeof *options);
    options->layer = -1;
    options->against = ATTEND_REFERENCE;
    options->seed = 1;
    options->shape = (random_shape){-1, -1, -1, -1, -1, -1, -1, -1};
    options->seconds = 2;
    options->inspect = inspect_options_usual();
    for (int i = 1; i < argc; i++) options->json |= !strcmp(argv[i], "--json");
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[0], commands[i].name))
            options->command = commands[i].command, options->name = commands[i].name;
    if (!options->name) return refuse_command(argv[0]);
    for (int i = 1; i < argc; i++) ATTEND_TRY(read_one(argc, argv, &i, given, options));
    if (options->help || options->command == COMMAND_INFO) return ATTEND_OK;
    ATTEND_TRY(files_check(options, given));
    if (options->command == COMMAND_ROTARY) return positions_check_rotary(options);
    ATTEND_TRY(positions_check(options));
    return check_sources(options, given);
}

/* Every option of every command: its argument, its commands, its reader and its line of --help. */
#include "tool/options_table.h"
#include "tool/options_positions.h"
#include "tool/parse.h"
#include "file/fail.h"

#include <attend/checkpoint.h>

#include <stdio.h>
#include <string.h>

enum {
    RUN = COMMAND_RUN,
    ATTENTION = COMMAND_ATTENTION,
    COMPARE = COMMAND_COMPARE,
    BENCH = COMMAND_BENCH,
    INFO = COMMAND_INFO,
    INSPECT = COMMAND_INSPECT,
    ROTARY = COMMAND_ROTARY,
    GRADIENTS = COMMAND_GRADIENTS,
    LAYERS = RUN | COMPARE | INSPECT,
    WITH_ROPE = LAYERS | ROTARY,
    WRITING = RUN | ATTENTION | COMPARE | BENCH | INSPECT,
    COMPUTING = WRITING | GRADIENTS,
    TENSORS = ATTENTION | COMPARE | INSPECT | GRADIENTS,
    ALL = COMPUTING | ROTARY | INFO | WITH_TABLES
};

static attend_status read_text(const option_row *row, const char *text, options *options)
{
    if (!*text)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is empty, expected a file name", row->name);
    *(const char **)((char *)options + row->offset) = text;
    return ATTEND_OK;
}

static attend_status read_input(const option_row *row, const char *text, options *options)
{
    return read_text(row, text, options);
}

static attend_status read_output(const option_row *row, const char *text, options *options)
{
    return read_text(row, text, options);
}

bool option_is_input(const option_row *row) { return row->read == read_input; }
bool option_is_output(const option_row *row) { return row->read == read_output; }

static attend_status read_flag(const option_row *row, const char *text, options *options)
{
    (void)text;
    *(bool *)((char *)options + row->offset) = true;
    return ATTEND_OK;
}

static attend_status read_count(const option_row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 1, INT32_MAX, (int64_t *)((char *)options + row->offset));
}

static attend_status read_bytes(const option_row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 1, INT64_MAX, (int64_t *)((char *)options + row->offset));
}

static attend_status read_layer(const option_row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 0, INT32_MAX, &options->layer);
}

static attend_status read_threads(const option_row *row, const char *text, options *options)
{
    int64_t threads;
    ATTEND_TRY(parse_whole(row->name, text, 0, ATTEND_MAX_THREADS, &threads));
    options->threads = (int)threads;
    return ATTEND_OK;
}

static attend_status read_layout(const option_row *row, const char *text, options *options)
{
    const char *names[32] = {"auto"};
    int index;
    for (int i = 0; i < 30 && attend_checkpoint_layout(i); i++) names[i + 1] = attend_checkpoint_layout(i);
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->layout = index ? names[index] : NULL;
    return ATTEND_OK;
}

static attend_status read_causal(const option_row *row, const char *text, options *options)
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

/* KIND,DISTANCE */
static attend_status read_relative(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"one-sided", "both", NULL};
    char kind[16];
    size_t length = strcspn(text, ",");
    int index;
    snprintf(kind, sizeof kind, "%.*s", (int)length, text);
    ATTEND_TRY(parse_choice(row->name, kind, names, &index));
    options->features.relative_bidirectional = index == 1;
    return parse_whole(row->name, text + length + (text[length] == ','), 1, 1 << 24,
                       &options->features.relative_max_distance);
}

static attend_status read_blocks(const option_row *row, const char *text, options *options)
{
    double numbers[2];
    ATTEND_TRY(parse_numbers(row->name, text, 2, 2, numbers));
    for (int i = 0; i < 2; i++)
        if (!(numbers[i] >= 1 && numbers[i] <= INT32_MAX) || numbers[i] != (double)(int64_t)numbers[i])
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "%s is \"%s\", expected two whole numbers of at least 1", row->name,
                                    text);
    options->features.block_q = (int64_t)numbers[0], options->features.block_k = (int64_t)numbers[1];
    return ATTEND_OK;
}

static attend_status read_scale(const option_row *row, const char *text, options *options)
{
    return parse_scale(row->name, text, &options->scale);
}

static attend_status read_random(const option_row *row, const char *text, options *options)
{
    options->random = true;
    return parse_random(row->name, text, &options->shape);
}

static attend_status read_values(const option_row *row, const char *text, options *options)
{
    const char *names[ATTEND_VALUES_KINDS + 1];
    int index;
    for (int i = 0; i <= ATTEND_VALUES_KINDS; i++) names[i] = attend_values_name((attend_values)i);
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->values = (attend_values)index;
    return ATTEND_OK;
}

static attend_status read_seed(const option_row *row, const char *text, options *options)
{
    return parse_seed(row->name, text, &options->seed);
}

static attend_status read_seconds(const option_row *row, const char *text, options *options)
{
    ATTEND_TRY(parse_numbers(row->name, text, 1, 1, &options->seconds));
    if (options->seconds >= 0) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a number of at least 0",
                            row->name, text);
}

static attend_status read_against(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"reference", "cpu", "cuda", NULL};
    static const attend_device devices[] = {ATTEND_REFERENCE, ATTEND_CPU, ATTEND_CUDA};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->against = devices[index];
    return ATTEND_OK;
}

static attend_status read_device(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"auto", "cpu", "cuda", "reference", NULL};
    static const attend_device devices[] = {ATTEND_AUTO, ATTEND_CPU, ATTEND_CUDA, ATTEND_REFERENCE};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->device = devices[index];
    return ATTEND_OK;
}

static attend_status read_dtype(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"f32", "f16", "bf16", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->dtype_given = true;
    options->dtype = (attend_dtype)index;
    return ATTEND_OK;
}

static attend_status read_window(const option_row *row, const char *text, options *options)
{
    char left[32];
    const char *comma = strchr(text, ',');
    feature_options *f = &options->features;
    if (!comma || (size_t)(comma - text) >= sizeof left)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected LEFT,RIGHT", row->name,
                                text);
    memcpy(left, text, (size_t)(comma - text));
    left[comma - text] = 0;
    f->windowed = true;
    ATTEND_TRY(parse_whole(row->name, left, -1, INT64_MAX, &f->window_left));
    return parse_whole(row->name, comma + 1, -1, INT64_MAX, &f->window_right);
}

static attend_status read_softcap(const option_row *row, const char *text, options *options)
{
    ATTEND_TRY(parse_scale(row->name, text, &options->features.softcap));
    if (options->features.softcap > 0) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a number above 0", row->name,
                            text);
}

static attend_status read_alibi(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"none", "symmetric", "causal", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->features.alibi_given = true;
    options->features.alibi = (attend_alibi)index;
    return ATTEND_OK;
}

static attend_status read_align(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"top-left", "bottom-right", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->features.align_bottom_right = index == 1;
    return ATTEND_OK;
}

static attend_status read_top(const option_row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 1, ATTEND_MAX_TOP_KEYS, &options->inspect.top);
}

static attend_status read_place(const option_row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 0, INT32_MAX, (int64_t *)((char *)options + row->offset));
}

static attend_status read_queries(const option_row *row, const char *text, options *options)
{
    return parse_queries(row->name, text, &options->inspect);
}

static attend_status read_regions(const option_row *row, const char *text, options *options)
{
    return parse_regions(row->name, text, &options->inspect);
}

static attend_status read_map(const option_row *row, const char *text, options *options)
{
    return parse_map(row->name, text, &options->inspect);
}

#define FIELD(name) offsetof(options, name)
const option_row option_rows[] = {
    {"--weights", "FILE", LAYERS, OF_LAYER, read_input, FIELD(weights), "a layer's weights, .safetensors"},
    {"--layer", "N", LAYERS, OF_LAYER, read_layer, 0, "which layer of the file (the first)"},
    {"--layout", "NAME", LAYERS, OF_LAYER, read_layout, 0,
     "its tensor names: auto, bert, gpt2, llama, torch (auto)"},
    {"--name-prefix", "TEXT", LAYERS, OF_LAYER, read_text, FIELD(name_prefix),
     "only tensors whose names begin with TEXT"},
    {"--input", "X.npy", WITH_ROPE, OF_LAYER, read_input, FIELD(input),
     "[batch, seqlen, hidden] or [seqlen, hidden]; of rotary [batch, seqlen, heads, head_dim]"},
    {"--heads", "H", LAYERS, OF_LAYER, read_count, FIELD(heads),
     "query heads (config.json beside the weights)"},
    {"--kv-heads", "K", LAYERS, OF_LAYER, read_count, FIELD(kv_heads),
     "key and value heads (from the weights' shapes)"},
    {"--q", "Q.npy", TENSORS, OF_TENSORS, read_input, FIELD(q), "[batch, seqlen_q, heads, head_dim]"},
    {"--k", "K.npy", TENSORS, OF_TENSORS, read_input, FIELD(k), "[batch, seqlen_k, kv_heads, head_dim]"},
    {"--v", "V.npy", TENSORS, OF_TENSORS, read_input, FIELD(v),
     "[batch, seqlen_k, kv_heads, head_dim_v]; optional for inspect"},
    {"--seqlens-k", "N.npy", TENSORS, OF_TENSORS, read_input, FIELD(seqlens_k),
     "integers [batch]: keys of each entry"},
    {"--scale", "S", COMPUTING | WITH_TABLES, OF_ANY, read_scale, 0,
     "factor of the scores (1/sqrt(head_dim))"},
    {"--random", "K=V,...", COMPARE | BENCH | INSPECT | WITH_TABLES, OF_RANDOM, read_random, 0,
     "batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim, head_dim_v; hidden: a layer"},
    {"--values", "KIND", COMPARE | BENCH | INSPECT | WITH_TABLES, OF_RANDOM, read_values, 0,
     "gauss, sharp, constant, offset, cancel, needle, ascend, descend, uniform, negative, exact (gauss)"},
    {"--seed", "N", COMPARE | BENCH | INSPECT | WITH_TABLES, OF_RANDOM, read_seed, 0,
     "of the random values (1)"},
    {"--causal", "[=WHERE]", COMPUTING | WITH_SWEEP, OF_ANY, read_causal, 0,
     "top-left, bottom-right or none; no value: if seqlen_q = seqlen_k"},
    {"--window", "L,R", COMPUTING, OF_ANY, read_window, 0,
     "only keys from L before to R after the query; -1: no limit"},
    {"--align", "WHERE", COMPUTING, OF_ANY, read_align, 0,
     "which key query 0 is aligned to: top-left (key 0), bottom-right"},
    {"--chunk", "N", COMPUTING, OF_ANY, read_count, FIELD(features.chunk),
     "only keys of the query's chunk of N"},
    {"--prefix", "N", COMPUTING, OF_ANY, read_count, FIELD(features.prefix),
     "all queries attend to the first N keys"},
    {"--softcap", "C", COMPUTING, OF_ANY, read_softcap, 0, "limit scores to C·tanh(score / C)"},
    {"--alibi", "KIND", COMPUTING, OF_ANY, read_alibi, 0, "penalty by distance: symmetric, causal"},
    {"--alibi-slopes", "S.npy", COMPUTING, OF_ANY, read_input, FIELD(features.alibi_slopes),
     "f32 [heads] (the paper's)"},
    {"--mask", "M.npy", COMPUTING, OF_ANY, read_input, FIELD(features.mask),
     "bool or uint8 [batch, heads, queries, keys], or broadcast"},
    {"--bias", "B.npy", COMPUTING, OF_ANY, read_input, FIELD(features.bias),
     "added to the scores; shaped as a mask"},
    {"--head-scales", "S.npy", COMPUTING, OF_ANY, read_input, FIELD(features.head_scales),
     "f32 [heads]: factors of the scale"},
    {"--sinks", "S.npy", COMPUTING, OF_ANY, read_input, FIELD(features.sinks),
     "f32 [heads]: logits added to softmax's sum"},
    {"--seqlens-q", "N.npy", COMPUTING | ROTARY, OF_ANY, read_input, FIELD(features.seqlens_q),
     "integers [batch]: queries of each entry"},
    {"--starts-k", "N.npy", COMPUTING | ROTARY, OF_ANY, read_input, FIELD(features.starts_k),
     "integers [batch]: first key of each entry, after left padding"},
    {"--cu-seqlens-q", "N.npy", COMPUTING | ROTARY, OF_ANY, read_input, FIELD(features.cu_seqlens_q),
     "integers [sequences + 1]: first row of each packed sequence, and the total"},
    {"--cu-seqlens-k", "N.npy", COMPUTING, OF_ANY, read_input, FIELD(features.cu_seqlens_k),
     "the same for keys (as for queries)"},
    {"--segments-q", "S.npy", COMPUTING, OF_ANY, read_input, FIELD(features.segments_q),
     "integers [batch, queries]: queries attend to keys of equal id"},
    {"--segments-k", "S.npy", COMPUTING, OF_ANY, read_input, FIELD(features.segments_k),
     "the same for keys (as for queries)"},
    {"--blocks", "Q,K", COMPUTING, OF_ANY, read_blocks, 0,
     "queries and keys in a block of --block-mask or of --block-indices"},
    {"--block-mask", "B.npy", COMPUTING, OF_ANY, read_input, FIELD(features.block_mask),
     "bool or uint8 [batch, heads, blocks of queries, blocks of keys], or broadcast"},
    {"--block-offsets", "O.npy", COMPUTING, OF_ANY, read_input, FIELD(features.block_offsets),
     "instead of a mask: integers [batch, heads, blocks of queries + 1], or broadcast"},
    {"--block-indices", "I.npy", COMPUTING, OF_ANY, read_input, FIELD(features.block_indices),
     "integers: visible key blocks of each block of queries, ascending"},
    {"--relative", "KIND,D", COMPUTING, OF_ANY, read_relative, 0,
     "T5's buckets up to distance D: one-sided, both"},
    {"--relative-table", "T.npy", COMPUTING, OF_ANY, read_input, FIELD(features.relative_table),
     "f32 [heads, buckets], or as T5 stores it [buckets, heads]"},
    {"--rotary", "KIND", WITH_ROPE, OF_LAYER, positions_read_rotary, 0,
     "halves, interleaved, none; auto: as config.json says (auto)"},
    {"--rotary-dim", "N", WITH_ROPE, OF_LAYER, read_count, FIELD(rope.dim),
     "leading elements of a head that are rotated (all)"},
    {"--rotary-base", "B", WITH_ROPE, OF_LAYER, positions_read_rotary_base, 0,
     "base of the frequencies (10000)"},
    {"--rotary-scaling", "KIND,...", WITH_ROPE, OF_LAYER, positions_read_rotary_scaling, 0,
     "linear, ntk, yarn or llama3, then factor[,training length[,low,high[,attention factor]]]"},
    {"--absolute", "KIND", LAYERS, OF_LAYER, positions_read_absolute, 0,
     "added to the input: sinusoidal; sinusoidal-halves, all sines first; none (none)"},
    {"--absolute-base", "B", LAYERS, OF_LAYER, positions_read_absolute_base, 0,
     "base of the sinusoids (10000)"},
    {"--position-table", "T.npy", LAYERS, OF_LAYER, read_input, FIELD(features.position_table),
     "learned positions added to the input, [positions, hidden]"},
    {"--first-position", "N", WITH_ROPE, OF_LAYER, positions_read_first_position, 0,
     "position of the first token (0)"},
    {"--positions", "P.npy", WITH_ROPE, OF_LAYER, read_input, FIELD(features.positions),
     "integers [batch, seqlen]: position of each token"},
    {"--qk-norm", "KIND[,E]", WITH_ROPE, OF_LAYER, positions_read_qk_norm, 0,
     "norm of each head of Q and K: none, rms, layer; and epsilon (as the checkpoint says)"},
    {"--backward", NULL, ROTARY | COMPARE, OF_ANY, read_flag, FIELD(backward),
     "compare gradients, too; rotary: rotate by the negative angles, as for gradients"},
    {"--dout", "D.npy", GRADIENTS | COMPARE, OF_TENSORS, read_input, FIELD(gradients.dout),
     "gradient of the output, shaped as it (compare: random)"},
    {"--dlse", "D.npy", GRADIENTS | COMPARE, OF_TENSORS, read_input, FIELD(gradients.dlse),
     "gradient of log-sum-exp, f32 [batch, heads, seqlen_q] (none)"},
    {"--dq", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.dq), "gradient of Q, shaped as it"},
    {"--dk", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.dk), "of K"},
    {"--dv", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.dv), "of V"},
    {"--dbias", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.bias),
     "of --bias, f32, of extent 1 along what that does not vary along"},
    {"--dalibi-slopes", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.alibi_slopes),
     "of the slopes, f32"},
    {"--drelative-table", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.relative_table),
     "of --relative-table, f32 [heads, buckets]"},
    {"--dhead-scales", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.head_scales),
     "of --head-scales, f32"},
    {"--dsinks", "FILE", GRADIENTS, OF_ANY, read_output, FIELD(gradients.sinks), "of --sinks, f32"},
    {"--output", "FILE", WRITING | ROTARY | WITH_SWEEP, OF_ANY, read_output, FIELD(output),
     "the result, .npy or .safetensors; the picture of a bench or of inspect, .png"},
    {"--lse", "L.npy", RUN | ATTENTION | COMPARE, OF_ANY, read_output, FIELD(lse),
     "log-sum-exp, f32 [batch, heads, seqlen_q]"},
    {"--against", "DEVICE", COMPARE, OF_ANY, read_against, 0,
     "reference; cpu, cuda: also run there (reference)"},
    {"--result", "Z.npy", COMPARE | ROTARY, OF_LAYER | OF_TENSORS, read_input, FIELD(result),
     "judge this result instead of running"},
    {"--result-lse", "L.npy", COMPARE, OF_TENSORS, read_input, FIELD(result_lse), "and its log-sum-exp"},
    {"--tokens", "FILE", INSPECT, OF_ANY, read_input, FIELD(inspect.tokens),
     "labels: a text file with one token per line"},
    {"--top", "N", INSPECT, OF_ANY, read_top, 0, "keys to list for a query (5)"},
    {"--queries", "LIST", INSPECT, OF_ANY, read_queries, 0,
     "queries to list keys for and to write to --rows: 3,7,10-20"},
    {"--regions", "LIST", INSPECT, OF_ANY, read_regions, 0,
     "self, previous, next, first, A..B after the query, @A..B keys (the first four)"},
    {"--entry", "N", INSPECT, OF_ANY, read_place, FIELD(inspect.entry), "batch entry or packed sequence (0)"},
    {"--head", "N", INSPECT, OF_ANY, read_place, FIELD(inspect.head), "draw only this head (all)"},
    {"--map", "Q:Q,K:K", INSPECT, OF_ANY, read_map, 0,
     "the part to draw: queries and keys from:to; an empty `to` means the end"},
    {"--tiles", "N", INSPECT, OF_ANY, read_count, FIELD(inspect.tiles),
     "tiles of the map along queries and along keys (256)"},
    {"--rows", "W.npy", INSPECT, OF_ANY, read_output, FIELD(inspect.rows),
     "all weights of --queries, f32 [batch, heads, queries, keys]"},
    {"--map-output", "M.npy", INSPECT, OF_ANY, read_output, FIELD(inspect.map_output),
     "the map, f32 [batch, heads, tiles, tiles]"},
    {"--seconds", "S", BENCH | WITH_TABLES, OF_ANY, read_seconds, 0,
     "how long to time each algorithm; 0: one run (2)"},
    {"--sweep", NULL, BENCH | WITH_SWEEP, OF_ANY, read_flag, FIELD(sweep),
     "a table over head_dim 64 to 256, seqlen 512 to 16384, full and causal; --output draws it"},
    {"--offload", NULL, BENCH, OF_ANY, read_flag, FIELD(offload),
     "tensors on the device, and on the host within ever less memory; --output draws it"},
    {"--decode", NULL, BENCH | WITH_DECODE, OF_ANY, read_flag, FIELD(decode),
     "a table over batch, seqlen_k and page size: one query a sequence, beside plain reading"},
    {"--page-size", "N", COMPARE | BENCH | WITH_DECODE, OF_TENSORS | OF_RANDOM, read_count, FIELD(page_size),
     "keys and values in pages of N keys, in any order"},
    {"--explain", NULL, RUN | ATTENTION | COMPARE | BENCH, OF_ANY, read_flag, FIELD(explain),
     "what the plan will do, and why it did not choose the other kernels"},
    {"--strict", NULL, COMPUTING | WITH_TABLES, OF_ANY, read_flag, FIELD(strict),
     "no fallback to another kernel or device; needs --device"},
    {"--kernels", NULL, INFO, OF_ANY, read_flag, FIELD(kernels), "the kernel table"},
    {"--device", "NAME", ALL, OF_ANY, read_device, 0, "auto, cpu, cuda, reference (auto)"},
    {"--dtype", "NAME", ALL, OF_ANY, read_dtype, 0, "store tensors as f32, f16 or bf16 (as the input is)"},
    {"--memory-limit", "BYTES", RUN | ATTENTION | COMPARE | BENCH, OF_ANY, read_bytes, FIELD(memory_limit),
     "of device memory, on a CPU of the plan; what does not fit comes in parts: 2G (what is free)"},
    {"--threads", "N", ALL, OF_ANY, read_threads, 0, "CPU threads (all)"},
    {"--json", NULL, ALL, OF_ANY, read_flag, FIELD(json), "one JSON object on stdout"},
    {"--quiet", NULL, ALL, OF_ANY, read_flag, FIELD(quiet), "no table, no progress"},
    {"--help", NULL, ALL, OF_ANY, read_flag, FIELD(help), "this text"},
};
_Static_assert(sizeof option_rows / sizeof *option_rows <= MOST_OPTIONS,
               "options.c remembers which were given");
const int option_row_count = sizeof option_rows / sizeof *option_rows;

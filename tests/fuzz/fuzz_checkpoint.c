/* Hostile checkpoints: config.json, index and headers of small checkpoints with words and bytes exchanged at
   random are opened, decided and loaded. Each is read or refused with a sentence, and what is read makes a
   plan or none; nothing crashes (the asan preset looks).

       fuzz_checkpoint [COUNT [FIRST_SEED]]

   A checkpoint depends on its seed alone: `fuzz_checkpoint 1 SEED` repeats it. Exit status 1 where one was
   neither read nor refused. */
#include "support/checkpoints.h"
#include "support/files.h"
#include "shared/splitmix.h"

#include <attend/attend.h>
#include <attend/checkpoint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 16 };

static uint64_t state;
static uint64_t bits(void) { return attend_draw(&state); }

static size_t below(size_t n) { return n ? (size_t)(bits() % n) : 0; }

/* Checkpoints that are whole: a config, and tensors whose names differ. */
static const struct seed {
    const char *config, *tensors;
} seeds[] = {
    {"{\"model_type\": \"gemma3_text\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
     "\"head_dim\": 8, \"sliding_window\": 4, "
     "\"layer_types\": [\"sliding_attention\", \"full_attention\"], \"rope_parameters\": "
     "{\"sliding_attention\": {\"rope_type\": \"default\", "
     "\"rope_theta\": 10000}, \"full_attention\": {\"rope_type\": \"yarn\", \"factor\": 8, \"rope_theta\": "
     "1000000, "
     "\"original_max_position_embeddings\": 64}}, \"rms_norm_eps\": 1e-06, \"query_pre_attn_scalar\": 16, "
     "\"attn_logit_softcapping\": 5}",
     TEST_LLAMA_LAYER("0") ";layers.0.self_attn.q_norm.weight 8;layers.0.self_attn.k_norm.weight "
                           "8;" TEST_LLAMA_LAYER("1") ";layers.1.self_attn.q_norm.weight 8;"
                                                      "layers.1.self_attn.k_norm.weight 8"},
    {"{\"model_type\": \"persimmon\", \"num_attention_heads\": 2, \"rope_theta\": 25000.0, \"qk_layernorm\": "
     "true, \"layer_norm_eps\": 1e-05, \"partial_rotary_factor\": 0.5}",
     "layers.0.self_attn.query_key_value.weight 48x16;layers.0.self_attn.query_key_value.bias 48;"
     "layers.0.self_attn.dense.weight 16x16;layers.0.self_attn.q_layernorm.weight 8;"
     "layers.0.self_attn.k_layernorm.weight 8"},
    {"{\"model_type\": \"llama\", \"attention_bias\": true, \"num_attention_heads\": 4}",
     TEST_LLAMA_LAYER("0") ";layers.0.self_attn.q_proj.bias 32;layers.0.self_attn.o_proj.bias 16"},
    {"{\"model_type\": \"gpt_neox\", \"num_attention_heads\": 2, \"rotary_pct\": 0.5, \"rotary_emb_base\": "
     "10000, \"layer_norm_eps\": 1e-05}",
     "layers.0.attention.query_key_value.weight 48x16;layers.0.attention.query_key_value.bias "
     "48;layers.0.attention.dense.weight 16x16;"
     "layers.0.attention.dense.bias 16"},
    {"{\"model_type\": \"t5\", \"num_heads\": 2, \"d_kv\": 8, \"relative_attention_num_buckets\": 8, "
     "\"relative_attention_max_distance\": 20}",
     "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight "
     "8x2;encoder.block.1.layer.0.SelfAttention.q.weight 16x16;"
     "encoder.block.1.layer.0.SelfAttention.k.weight 16x16;encoder.block.1.layer.0.SelfAttention.v.weight "
     "16x16;"
     "encoder.block.1.layer.0.SelfAttention.o.weight 16x16"},
    {"{\"model_type\": \"llava\", \"text_config\": {\"model_type\": \"falcon\", \"num_attention_heads\": 4, "
     "\"alibi\": true}, \"vision_config\": "
     "{\"model_type\": \"clip_vision_model\", \"num_attention_heads\": 2}}",
     "language_model.h.0.self_attention.query_key_value.weight "
     "24x16;language_model.h.0.self_attention.dense.weight 16x16;"
     "vision_tower.layers.0.self_attn.q_proj.weight 16x16;vision_tower.layers.0.self_attn.k_proj.weight "
     "16x16;"
     "vision_tower.layers.0.self_attn.v_proj.weight 16x16;vision_tower.layers.0.self_attn.out_proj.weight "
     "16x16"},
    {"{\"model_type\": \"gpt2\", \"n_head\": 2, \"scale_attn_by_inverse_layer_idx\": true, "
     "\"layer_norm_epsilon\": 1e-05}",
     "h.0.attn.c_attn.weight 16x48;h.0.attn.c_attn.bias 48;h.0.attn.c_proj.weight 16x16;h.0.attn.c_proj.bias "
     "16"},
};

/* One place of a text exchanged: a word for one that hurts, a byte, a piece left out or there twice. */
static void mutate(char *text, size_t *length)
{
    static const char *const words[] = {"null",
                                        "true",
                                        "-1",
                                        "0",
                                        "1",
                                        "3",
                                        "1e999",
                                        "-1e-320",
                                        "9223372036854775808",
                                        "2147483647",
                                        "0.5",
                                        "\"\"",
                                        "\"yarn\"",
                                        "\"../x\"",
                                        "[]",
                                        "{}",
                                        "[[[[[[[[[[[[",
                                        "\"llama\"",
                                        "\"\\u0000\"",
                                        "\"full_attention\"",
                                        "\"rope_parameters\"",
                                        "\"text_config\"",
                                        "\"sliding_window\"",
                                        "\"clip_qkv\"",
                                        "\"partial_rotary_factor\"",
                                        "nan",
                                        "\xff\xfe",
                                        "\"model_type\""};
    char copy[ROOM];
    size_t from = below(*length), to = from;
    const char *word = "";
    switch (below(4)) {
    case 0: /* a word */
        while (from > 0 && !strchr(" ,:[{", text[from - 1])) from--;
        to = from + strcspn(text + from, " ,:]}");
        word = words[below(sizeof words / sizeof *words)];
        break;
    case 1: text[from] = (char)bits(); return;
    case 2: to = from + below(*length - from < 40 ? *length - from : 40); break;
    default: snprintf(copy, sizeof copy, "%.*s", (int)(below(40)), text + from), word = copy; /* twice */
    }
    const size_t more = strlen(word);
    if (*length - (to - from) + more >= ROOM) return;
    char *tail = malloc(*length - to + 1);
    memcpy(tail, text + to, *length - to);
    memcpy(text + from, word, more);
    memcpy(text + from + more, tail, *length - to);
    *length += more - (to - from);
    text[*length] = 0;
    free(tail);
}

static void mutate_file(const char *name)
{
    static char text[ROOM];
    size_t length;
    char *bytes = test_read_file(test_path(name), &length);
    memcpy(text, bytes, length);
    text[length] = 0;
    for (size_t n = below(3) ? 1 : 3; n > 0 && length > 0; n--) mutate(text, &length);
    test_write_file(test_path(name), text, length);
    free(bytes);
}

/* All tensors in one shard, by an index. */
static void write_index(const char *tensors)
{
    char index[ROOM], *list = strdup(tensors), *rest = NULL;
    int length = sprintf(index, "{\"metadata\": {}, \"weight_map\": {");
    for (char *entry = strtok_r(list, ";", &rest), *first = entry; entry; entry = strtok_r(NULL, ";", &rest))
        length += sprintf(index + length, "%s\"%.*s\": \"model-00001.safetensors\"",
                          entry == first ? "" : ", ", (int)strcspn(entry, " "), entry);
    sprintf(index + length, "}}");
    test_write_text("model.safetensors.index.json", index);
    free(list);
}

static bool fail(uint64_t seed, const char *what, attend_status status)
{
    printf("seed %" PRIu64 ": %s: %s \"%s\"\n", seed, what, attend_status_name(status),
           attend_checkpoint_error_message());
    return false;
}

/* A layer that was read makes a plan, or a problem that attend refuses in words. */
static bool plan(attend_context *context, const attend_checkpoint_layer *layer)
{
    attend_problem p = layer->problem;
    attend_plan *made = NULL;
    p.batch = 1, p.seqlen_q = 3;
    attend_status status = attend_layer_plan(context, &p, &layer->weights, &made);
    attend_plan_destroy(made);
    return status == ATTEND_OK || (status <= ATTEND_OUT_OF_MEMORY && *attend_error_message());
}

enum { SEEDS = sizeof seeds / sizeof *seeds, OVERRIDES = 2 * ATTEND_OVERRIDE_CHUNK - 1 };

/* Seeds up to SEEDS leave the checkpoint whole. */
static bool fuzz_one(uint64_t seed, attend_context *context, int64_t *read, int64_t *refused)
{
    state = seed * 0x2545f4914f6cdd1du;
    const bool whole = seed <= SEEDS;
    const struct seed *s = &seeds[whole ? seed - 1 : below(SEEDS)];
    const bool given = !whole && below(2);
    attend_checkpoint_options options = {.overrides = given ? (int)(bits() & bits() & bits() & OVERRIDES) : 0,
                                         .problem = {.causal = ATTEND_CAUSAL_TOP_LEFT, .softmax_scale = 1}};
    attend_checkpoint *checkpoint;
    attend_checkpoint_name name;
    test_write_text("config.json", s->config);
    test_write_safetensors("model-00001.safetensors", s->tensors);
    write_index(s->tensors);
    if (!whole)
        mutate_file((const char *[]){"config.json", "config.json", "model.safetensors.index.json",
                                     "model-00001.safetensors"}[below(4)]);
    attend_status status = attend_checkpoint_open(test_path("model.safetensors.index.json"), &checkpoint);
    if (status)
        return (*refused)++,
               *attend_checkpoint_error_message() && !checkpoint ? true : fail(seed, "open", status);
    bool good = true;
    for (int64_t i = 0; good && attend_checkpoint_layer_name(checkpoint, i, &name); i++) {
        attend_checkpoint_layer *layer;
        status = attend_checkpoint_decide(checkpoint, i, &options, &layer);
        if (!status) status = attend_checkpoint_load(layer, below(2) ? ATTEND_F32 : ATTEND_BF16);
        if (status) {
            (*refused)++;
            good = (!whole && *attend_checkpoint_error_message()) || fail(seed, "layer", status);
        } else {
            (*read)++;
            good = (layer->weights.wq.data && layer->weights.wo.data && plan(context, layer)) ||
                   fail(seed, "plan", status);
        }
        attend_checkpoint_free(layer);
    }
    attend_checkpoint_close(checkpoint);
    return good;
}

int main(int argc, char **argv)
{
    const uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000,
                   first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    attend_context *context;
    int64_t read = 0, refused = 0, failed = 0;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &context))
        return 2;
    for (uint64_t i = 0; i < count; i++) failed += !fuzz_one(first + i, context, &read, &refused);
    printf("%" PRIu64 " checkpoints: %" PRId64 " layers read, %" PRId64 " refused, %" PRId64 " failures\n",
           count, read, refused, failed);
    attend_context_destroy(context);
    return failed > 0 || read == 0 || refused == 0;
}

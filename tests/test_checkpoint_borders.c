/* What a caller says and what files hold meet at borders that neither may cross: a table of another shape, an
 * enum that has no such value, half a pair of norms. */
#include "file/array.h"
#include "support/checkpoints.h"
#include "support/files.h"

#include <attend/checkpoint.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

/* Fields lie side by side: what is behind the last has no room left, nor has what is between two. */
#define END(type, field) (offsetof(type, field) + sizeof((type){0}.field))
#define ADJACENT(type, field, next) \
    _Static_assert(END(type, field) == offsetof(type, next), #type ": padding before " #next)
#define LAST(type, field) _Static_assert(END(type, field) == sizeof(type), #type ": padding at its end")
ADJACENT(attend_checkpoint_options, overrides, reserved);
ADJACENT(attend_checkpoint_options, reserved, problem);
ADJACENT(attend_checkpoint_options, problem, num_heads);
LAST(attend_checkpoint_options, num_kv_heads);
ADJACENT(attend_checkpoint_layer, problem, weights);
ADJACENT(attend_checkpoint_layer, weights, sinks);
ADJACENT(attend_checkpoint_layer, alibi_slopes, name);
ADJACENT(attend_checkpoint_layer, name, model_type);
ADJACENT(attend_checkpoint_layer, output_tensor, decisions);
ADJACENT(attend_checkpoint_layer, decisions, decision_count);
ADJACENT(attend_checkpoint_layer, decision_count, conv1d);
ADJACENT(attend_checkpoint_layer, conv1d, reserved);
LAST(attend_checkpoint_layer, reserved);
LAST(attend_checkpoint_query, number);
LAST(attend_checkpoint_name, number);

#define LLAMA TEST_LLAMA_LAYER("0")
#define HEAD  "\"num_attention_heads\": 4"
#define T5(n)                                                   \
    "decoder.block." n ".layer.0.SelfAttention.q.weight 16x16;" \
    "decoder.block." n ".layer.0.SelfAttention.k.weight 16x16;" \
    "decoder.block." n ".layer.0.SelfAttention.v.weight 16x16;" \
    "decoder.block." n ".layer.0.SelfAttention.o.weight 16x16"
#define T5_TABLE ";decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight 8x4"

/* Writes a config and the tensors of a model, and decides its first layer as `options` say. */
static attend_status open_layer(const char *config, const char *tensors,
                                const attend_checkpoint_options *options, attend_checkpoint **checkpoint,
                                attend_checkpoint_layer **layer)
{
    *layer = NULL;
    remove(test_path("config.json"));
    if (config) test_write_text("config.json", config);
    test_write_safetensors("model.safetensors", tensors);
    attend_status status = attend_checkpoint_open(test_folder(), checkpoint);
    if (!status) status = attend_checkpoint_decide(*checkpoint, 0, options, layer);
    return status;
}

static attend_status load(const char *config, const char *tensors, const attend_checkpoint_options *options,
                          attend_checkpoint **checkpoint, attend_checkpoint_layer **layer)
{
    attend_status status = open_layer(config, tensors, options, checkpoint, layer);
    return status ? status : attend_checkpoint_load(*layer, ATTEND_F32);
}

static void close(attend_checkpoint *checkpoint, attend_checkpoint_layer *layer)
{
    attend_checkpoint_free(layer), attend_checkpoint_close(checkpoint);
}

/* Who says what the table is brings it: the file's has another shape. */
static void a_table_that_is_given_is_not_the_files(void **state)
{
    (void)state;
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *layer;
    attend_checkpoint_options o = {
        .overrides = ATTEND_OVERRIDE_RELATIVE,
        .problem = {.relative_buckets = 4096, .relative_max_distance = 128, .relative_bidirectional = true}};
    if (load("{\"model_type\": \"t5\", \"num_heads\": 4}", T5("0") T5_TABLE, &o, &checkpoint, &layer))
        fail_msg("%s", attend_checkpoint_error_message());
    assert_int_equal(layer->problem.relative_buckets, 4096);
    assert_null(layer->relative_table.data);
    close(checkpoint, layer);
    if (load("{\"model_type\": \"t5\", \"num_heads\": 4}", T5("0") T5_TABLE, NULL, &checkpoint, &layer))
        fail_msg("%s", attend_checkpoint_error_message());
    assert_non_null(layer->relative_table.data);
    assert_int_equal(layer->relative_table.shape[1], 8);
    close(checkpoint, layer);
    o = (attend_checkpoint_options){.overrides = ATTEND_OVERRIDE_SINKS, .problem = {.sinks = true}};
    if (load("{\"model_type\": \"gpt_oss\", "
             "\"attention_bias\": false, " HEAD
             ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 32, "
             "\"original_max_position_embeddings\": 4096}, \"sliding_window\": 4, \"layer_types\": "
             "[\"full_attention\"]}",
             LLAMA ";layers.0.self_attn.sinks 9", &o, &checkpoint, &layer))
        fail_msg("%s", attend_checkpoint_error_message());
    assert_true(layer->problem.sinks && !layer->sinks.data);
    close(checkpoint, layer);
}

static const struct {
    attend_checkpoint_options options;
    const char *sentence;
} values[] = {
    {{.overrides = ATTEND_OVERRIDE_ROTARY_SCALING, .problem = {.rotary_scaling = 6}},
     "options: rotary_scaling is 6, expected 0 to 4"},
    {{.overrides = ATTEND_OVERRIDE_QK_NORM, .problem = {.qk_norm = 3}}, "options: qk_norm is 3, expected 0 to 2"},
    {{.overrides = ATTEND_OVERRIDE_QK_NORM, .problem = {.qk_norm = 900000}}, "options: qk_norm is 900000"},
    {{.overrides = ATTEND_OVERRIDE_ROTARY, .problem = {.rotary = 3}}, "options: rotary is 3, expected 0 to 2"},
    {{.overrides = ATTEND_OVERRIDE_CAUSAL, .problem = {.causal = 3}}, "options: causal is 3, expected 0 to 2"},
    {{.overrides = ATTEND_OVERRIDE_ALIBI, .problem = {.alibi = 3}}, "options: alibi is 3, expected 0 to 2"},
    {{.overrides = 1 << 14}, "options: overrides is 16384, expected 0 to 16383"},
    {{.overrides = -1}, "options: overrides is -1"},
    {{.reserved = {0, 0, 0, 1}}, "options: reserved bytes are not zero"},
    {{.num_heads = -4}, "options: num_heads is -4, expected 0 to"},
    {{.num_kv_heads = -2}, "options: num_kv_heads is -2"},
    {{.problem = {.qk_norm = 3, .rotary = 3, .causal = 3}}, NULL}, /* none of it is given */
};

static void values_that_there_are_not_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        attend_checkpoint *checkpoint;
        attend_checkpoint_layer *layer;
        attend_status status =
            load("{" TEST_LLAMA_CONFIG "}", LLAMA, &values[i].options, &checkpoint, &layer);
        const char *sentence = values[i].sentence;
        if (status != (sentence ? ATTEND_INVALID_ARGUMENT : ATTEND_OK) ||
            (sentence && !strstr(attend_checkpoint_error_message(), sentence)))
            fail_msg("case %d: %s \"%s\", expected \"%s\"", (int)i, attend_status_name(status),
                     attend_checkpoint_error_message(), sentence ? sentence : "");
        close(checkpoint, layer);
    }
}

/* Falcon divides the paper's slopes, as bf16 holds them, by the root of head_dim: eight heads have those of
 * eight, four more every second one of sixteen. */
static void slopes_are_those_of_the_paper_for_any_number_of_heads(void **state)
{
    (void)state;
    static const float slopes[12] = {0x1p-2f, 0x1p-3f, 0x1p-4f,    0x1p-5f,    0x1p-6f,    0x1p-7f,
                                     0x1p-8f, 0x1p-9f, 0.3535156f, 0.1767578f, 0.0883789f, 0.0441895f};
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *layer;
    if (load("{\"model_type\": \"falcon\", \"num_attention_heads\": 12, \"multi_query\": false, "
             "\"alibi\": true}",
             "h.0.self_attention.query_key_value.weight 144x48;h.0.self_attention.dense.weight 48x48", NULL,
             &checkpoint, &layer))
        fail_msg("%s", attend_checkpoint_error_message());
    for (int h = 0; h < 12; h++)
        assert_float_equal(((const float *)layer->alibi_slopes.data)[h], slopes[h], 1e-6);
    close(checkpoint, layer);
}

#define ROW(type, rest) "{\"model_type\": \"" type "\", " HEAD rest "}"
#define OF(name)        ";layers.0.self_attn." name
#define PHI                                                                          \
    "layers.0.self_attn.q_proj.weight 32x16;layers.0.self_attn.k_proj.weight 16x16;" \
    "layers.0.self_attn.v_proj.weight 16x16;layers.0.self_attn.dense.weight 16x32"

#define PERSIMMON "layers.0.self_attn.query_key_value.weight 96x32;layers.0.self_attn.dense.weight 32x32"
#define BERT                                                                             \
    "layer.0.attention.self.query.weight 16x16;layer.0.attention.self.key.weight 16x16;" \
    "layer.0.attention.self.value.weight 16x16;layer.0.attention.output.dense.weight 16x16"

#define SCALED                                                                                \
    ", \"rms_norm_eps\": 1e-5, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, " \
    "\"original_max_position_embeddings\": 64}"

static const attend_checkpoint_options none = {.overrides = ATTEND_OVERRIDE_QK_NORM},
                                       rms = {.overrides = ATTEND_OVERRIDE_QK_NORM,
                                              .problem = {.qk_norm = ATTEND_QK_NORM_RMS}},
                                       no_sinks = {.overrides = ATTEND_OVERRIDE_SINKS};

static const struct {
    const char *config, *tensors, *sentence; /* NULL: read */
    const attend_checkpoint_options *options;
} neighbours[] = {
    {ROW("llama", ""), LLAMA OF("q_layer_norm.weight 8") OF("k_layer_norm.weight 8"),
     "holds layers.0.self_attn.k_layer_norm.weight beside", NULL},
    {ROW("llama", ""), LLAMA OF("q_LayerNorm.weight 8"), "holds layers.0.self_attn.q_LayerNorm.weight beside",
     NULL},
    {ROW("llama", ""), LLAMA OF("attn.bias_scale 8"), "attn.bias_scale beside", NULL},
    {ROW("llama", ""), LLAMA OF("LayerNorm.gamma 16") OF("rotary_emb.inv_freq 4") OF("masked_bias 1"), NULL,
     NULL},
    /* Half a pair. */
    {ROW("qwen3", ""), LLAMA OF("k_norm.weight 8"),
     "has layers.0.self_attn.k_norm.weight, but no such tensor of Q", NULL},
    {ROW("qwen3", ""), LLAMA OF("q_norm.weight 8"),
     "has layers.0.self_attn.q_norm.weight, but no such tensor of K", NULL},
    {ROW("qwen3", ""), LLAMA OF("q_norm.weight 8"), NULL, &none},
    {ROW("phi", ", \"layer_norm_eps\": 1e-5, \"qk_layernorm\": true"),
     PHI OF("q_layernorm.weight 8") OF("k_layernorm.weight 8") OF("k_layernorm.bias 8"),
     "has layers.0.self_attn.k_layernorm.bias, but no such tensor of Q", NULL},
    {ROW("qwen3", ""), LLAMA,
     "lacks norms of Q and K in layers.0., which layers of model_type \"qwen3\" have", NULL},
    {ROW("qwen3", ""), LLAMA, NULL, &none},
    /* Tensors that the type's models have only where a key says so. */
    {ROW("phi", ", \"layer_norm_eps\": 1e-5"), PHI OF("q_layernorm.weight 8") OF("k_layernorm.weight 8"),
     "have norms of Q and K only if", NULL},
    {ROW("phi", ", \"layer_norm_eps\": 1e-5"), PHI OF("q_layernorm.weight 8") OF("k_layernorm.weight 8"),
     NULL, &none},
    {ROW("persimmon", ", \"layer_norm_eps\": 1e-5, \"rope_theta\": 9, \"qk_layernorm\": null"),
     PERSIMMON OF("q_layernorm.weight 8") OF("k_layernorm.weight 8"),
     "config.json has qk_layernorm = true", NULL},
    {ROW("persimmon", ", \"layer_norm_eps\": 1e-5, \"rope_theta\": 9"),
     PERSIMMON OF("q_layernorm.weight 8") OF("k_layernorm.weight 8"), NULL, NULL},
    {ROW("apertus", SCALED ", \"qk_norm\": true"), LLAMA OF("q_norm.weight 8") OF("k_norm.weight 8"), NULL,
     NULL},
    {ROW("llama", ""), LLAMA OF("v_proj.bias 16"),
     "holds layers.0.self_attn.v_proj.bias, but layers of model_type \"llama\" have biases only if", NULL},
    {ROW("llama", ", \"attention_bias\": false"), LLAMA OF("o_proj.bias 16"),
     "has attention_bias = true", NULL},
    {ROW("llama", ", \"attention_bias\": true"), LLAMA OF("q_proj.bias 32") OF("o_proj.bias 16"), NULL, NULL},
    {ROW("llama", ", \"attention_bias\": true"), LLAMA,
     "lacks biases in layers.0., which layers of model_type \"llama\" have unless", NULL},
    {ROW("glm", ""), LLAMA, "has attention_bias = false", NULL},
    {ROW("glm", ""), LLAMA OF("q_proj.bias 32"), NULL, NULL},
    {ROW("glm", ", \"attention_bias\": false"), LLAMA OF("v_proj.bias 16"),
     "has attention_bias = true", NULL},
    {ROW("qwen2", ""), LLAMA OF("v_proj.bias 16"), NULL, NULL},
    {ROW("xlm-roberta-xl", ""), BERT ";layer.0.attention.self_attn_layer_norm.bias 16", NULL, NULL},
    /* A bias of a norm that has none. */
    {ROW("qwen3", ""),
     LLAMA OF("q_norm.weight 8") OF("k_norm.weight 8") OF("q_norm.bias 8") OF("k_norm.bias 8"),
     "holds layers.0.self_attn.k_norm.bias beside", NULL},
    {ROW("phi", ", \"layer_norm_eps\": 1e-5, \"qk_layernorm\": true"),
     PHI OF("q_layernorm.weight 8") OF("k_layernorm.weight 8") OF("q_layernorm.bias 8")
         OF("k_layernorm.bias 8"),
     NULL, &rms},
    {ROW("phi", ", \"layer_norm_eps\": 1e-5, \"qk_layernorm\": true"),
     PHI OF("q_layernorm.weight 8") OF("k_layernorm.weight 8") OF("q_layernorm.bias 8")
         OF("k_layernorm.bias 8"),
     NULL, &none},
    /* Sinks that should be there. */
    {ROW("gpt_oss",
         ", \"attention_bias\": false, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 32, "
         "\"original_max_position_embeddings\": 4096}, \"sliding_window\": 4"),
     LLAMA, "lacks layers.0.self_attn.sinks, which gpt_oss layers have; give --sinks", NULL},
    {ROW("gpt_oss",
         ", \"attention_bias\": false, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 32, "
         "\"original_max_position_embeddings\": 4096}, \"sliding_window\": 4"),
     LLAMA, NULL, &no_sinks},
    {ROW("gpt_oss",
         ", \"attention_bias\": false, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 32, "
         "\"original_max_position_embeddings\": 4096}, \"sliding_window\": 4"),
     LLAMA OF("sinks 4"), NULL, NULL},
};

static void what_lies_beside_projections_is_consumed_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof neighbours / sizeof *neighbours; i++) {
        attend_checkpoint *checkpoint;
        attend_checkpoint_layer *layer;
        const char *sentence = neighbours[i].sentence;
        attend_status status =
            load(neighbours[i].config, neighbours[i].tensors, neighbours[i].options, &checkpoint, &layer);
        if (!status != !sentence || (sentence && !strstr(attend_checkpoint_error_message(), sentence)))
            fail_msg("case %d: %s \"%s\", expected \"%s\"", (int)i, attend_status_name(status),
                     attend_checkpoint_error_message(), sentence ? sentence : "");
        close(checkpoint, layer);
    }
}

/* Names of T5 under a type without a row: what the caller says of causality decides the sides of the table,
 * and nobody guesses the scale. */
static void names_with_a_table_do_not_say_the_scale(void **state)
{
    (void)state;
    const char *config =
        "{\"model_type\": \"pop2piano\", \"num_heads\": 4, \"relative_attention_max_distance\": 128}";
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *layer;
    attend_checkpoint_options o = {.overrides = ATTEND_OVERRIDE_CAUSAL, .problem = {.causal = ATTEND_CAUSAL_TOP_LEFT}};
    assert_int_equal(load(config, T5("0") T5_TABLE, &o, &checkpoint, &layer), ATTEND_INVALID_ARGUMENT);
    assert_non_null(
        strstr(attend_checkpoint_error_message(), "names of T5 do not say how scores are scaled"));
    close(checkpoint, layer);
    o.overrides |= ATTEND_OVERRIDE_SCALE, o.problem.softmax_scale = 1;
    for (int causal = ATTEND_CAUSAL_NONE; causal <= ATTEND_CAUSAL_BOTTOM_RIGHT; causal++) {
        o.problem.causal = (attend_causal)causal;
        if (load(config, T5("0") T5_TABLE, &o, &checkpoint, &layer))
            fail_msg("%s", attend_checkpoint_error_message());
        assert_int_equal(layer->problem.relative_bidirectional, causal == ATTEND_CAUSAL_NONE);
        assert_true(layer->problem.softmax_scale == 1 && layer->relative_table.data);
        close(checkpoint, layer);
    }
}

/* Nor is a layer with such names run without its table. */
static void names_with_a_table_need_one(void **state)
{
    (void)state;
    const attend_checkpoint_options o = {.overrides = ATTEND_OVERRIDE_CAUSAL | ATTEND_OVERRIDE_SCALE,
                                         .problem = {.softmax_scale = 1}};
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *layer;
    assert_int_equal(
        load("{\"model_type\": \"pop2piano\", \"num_heads\": 4}", T5("0"), &o, &checkpoint, &layer),
        ATTEND_BAD_FILE);
    assert_non_null(strstr(attend_checkpoint_error_message(), "lacks the table of relative positions"));
    close(checkpoint, layer);
}

/* One plus the weight, rounded once, whatever dtype is asked for. */
static void norms_by_one_plus_weight_are_read_in_each_dtype(void **state)
{
    (void)state;
    const char *config =
        ROW("gemma3_text", ", \"query_pre_attn_scalar\": 8, \"rms_norm_eps\": 1e-6, "
                           "\"sliding_window\": 4, \"layer_types\": [\"sliding_attention\"]");
    float exact[2][8];
    for (int dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++) {
        attend_checkpoint *checkpoint;
        attend_checkpoint_layer *layer;
        if (open_layer(config, LLAMA OF("q_norm.weight 8") OF("k_norm.weight 8"), NULL, &checkpoint,
                       &layer) ||
            attend_checkpoint_load(layer, (attend_dtype)dtype))
            fail_msg("%s", attend_checkpoint_error_message());
        const attend_tensor *norms[] = {&layer->weights.q_norm, &layer->weights.k_norm};
        for (int n = 0; n < 2; n++) {
            assert_int_equal(norms[n]->dtype, dtype);
            for (int i = 0; i < 8; i++) {
                const float read = attend_array_load(norms[n]->data, norms[n]->dtype, i);
                float rounded; /* room for any dtype */
                if (dtype == ATTEND_F32) exact[n][i] = read;
                assert_true(exact[n][i] >= 0.5f && exact[n][i] <= 1.5f); /* weights are within 1/2 of 0 */
                attend_array_store(&rounded, (attend_dtype)dtype, 0, exact[n][i]);
                assert_true(read == attend_array_load(&rounded, (attend_dtype)dtype, 0));
            }
        }
        close(checkpoint, layer);
    }
}

/* An index of a few megabytes takes no minutes, whatever it names. */
static void an_index_of_many_files_is_read_at_once(void **state)
{
    (void)state;
    enum { TENSORS = 60000, FILES = 30000, LINE = 48 };
    char *index = malloc((size_t)TENSORS * LINE), *end = index;
    attend_checkpoint *checkpoint;
    assert_non_null(index);
    end += sprintf(end, "{\"weight_map\": {");
    for (int i = 0; i < TENSORS; i++)
        end += sprintf(end, "%s\"t%06d\": \"f%05d.safetensors\"", i ? "," : "", i, i % FILES);
    sprintf(end, "}}");
    test_write_text("model.safetensors.index.json", index);
    free(index);
    const clock_t start = clock();
    assert_int_equal(attend_checkpoint_open(test_path("model.safetensors.index.json"), &checkpoint),
                     ATTEND_OK);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    if (seconds > 2) fail_msg("%g seconds", seconds);
    attend_checkpoint_close(checkpoint);
}

/* Python takes the last value of a key, others the first. */
static void a_key_is_there_once(void **state)
{
    (void)state;
    static const char *const configs[][2] = {
        {"{" TEST_LLAMA_CONFIG ", \"rope_theta\": 10000}", "config.json has the key \"rope_theta\" twice"},
        {"{" TEST_LLAMA_CONFIG ", \"head_dim\": null, \"head_dim\": 8}", "has the key \"head_dim\" twice"},
        {"{" TEST_LLAMA_CONFIG
         ", \"rope_scaling\": {\"factor\": 2, \"rope_type\": \"linear\", \"factor\": 4}}",
         "has the key \"factor\" twice"},
        {"{" TEST_LLAMA_CONFIG ", \"parts\": [{\"a\": 1}, {\"a\": 1, \"a\": 2}]}", "has the key \"a\" twice"},
        {"{" TEST_LLAMA_CONFIG ", \"parts\": [{\"a\": 1}, {\"a\": 1, \"A\": 2}]}", NULL}};
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *layer;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        attend_status status = load(configs[i][0], LLAMA, NULL, &checkpoint, &layer);
        const char *sentence = configs[i][1];
        if (status != (sentence ? ATTEND_BAD_FILE : ATTEND_OK) ||
            (sentence && !strstr(attend_checkpoint_error_message(), sentence)))
            fail_msg("case %d: %s \"%s\"", (int)i, attend_status_name(status),
                     attend_checkpoint_error_message());
        close(checkpoint, layer);
    }
    test_write_text("model.safetensors.index.json", "{\"weight_map\": {}, \"x\": 1, \"weight_map\": {}}");
    assert_int_equal(attend_checkpoint_open(test_path("model.safetensors.index.json"), &checkpoint),
                     ATTEND_BAD_FILE);
    assert_non_null(strstr(attend_checkpoint_error_message(), "has the key \"weight_map\" twice"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_that_is_given_is_not_the_files),
        cmocka_unit_test(values_that_there_are_not_are_refused),
        cmocka_unit_test(slopes_are_those_of_the_paper_for_any_number_of_heads),
        cmocka_unit_test(what_lies_beside_projections_is_consumed_or_refused),
        cmocka_unit_test(names_with_a_table_do_not_say_the_scale),
        cmocka_unit_test(names_with_a_table_need_one),
        cmocka_unit_test(norms_by_one_plus_weight_are_read_in_each_dtype),
        cmocka_unit_test(an_index_of_many_files_is_read_at_once),
        cmocka_unit_test(a_key_is_there_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

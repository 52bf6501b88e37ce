/* A checkpoint's layer is right or refused: what files say, what overrides them, and what neither may
 * leave open. */
#include "support/checkpoints.h"
#include "support/files.h"

#include <attend/checkpoint.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* Writes a config and the tensors of a model, decides its first layer as `options` say. */
static attend_status decide(const char *config, const char *tensors, const attend_checkpoint_options *options,
                            attend_checkpoint **checkpoint, attend_checkpoint_layer **layer)
{
    const attend_checkpoint_query any = {.number = -1};
    int64_t index;
    *layer = NULL;
    remove(test_path("config.json"));
    if (config) test_write_text("config.json", config);
    test_write_safetensors("model.safetensors", tensors);
    attend_status status = attend_checkpoint_open(test_folder(), checkpoint);
    if (!status) status = attend_checkpoint_find(*checkpoint, &any, &index);
    if (!status) status = attend_checkpoint_decide(*checkpoint, index, options, layer);
    return status;
}

#define LLAMA      TEST_LLAMA_LAYER("0")
#define WITH(rest) "{" TEST_LLAMA_CONFIG ", " rest "}"

#define TYPE(type, rest) "{\"model_type\": \"" type "\", \"num_attention_heads\": 4, " rest "}"
#define NORMS_OF(dim)    ";layers.0.self_attn.q_norm.weight " dim ";layers.0.self_attn.k_norm.weight " dim
#define NORMS            NORMS_OF("8")
#define NEOX                                                                                        \
    "layers.0.attention.query_key_value.weight 192x64;layers.0.attention.query_key_value.bias 192;" \
    "layers.0.attention.dense.weight 64x64"
#define HEADS_32                                                                     \
    "layers.0.self_attn.q_proj.weight 64x16;layers.0.self_attn.k_proj.weight 32x16;" \
    "layers.0.self_attn.v_proj.weight 32x16;layers.0.self_attn.o_proj.weight 16x64"

#define EPSILON "\"rms_norm_eps\": 1e-6, "
#define GEMMA   "\"query_pre_attn_scalar\": 8, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 8}"

#define MPT "blocks.0.attn.Wqkv.weight 48x16;blocks.0.attn.out_proj.weight 16x16"
#define GPTJ                                                                                  \
    "h.0.attn.q_proj.weight 16x16;h.0.attn.k_proj.weight 16x16;h.0.attn.v_proj.weight 16x16;" \
    "h.0.attn.out_proj.weight 16x16"
#define MAE                                                            \
    "decoder.decoder_layers.0.attention.attention.query.weight 16x16;" \
    "decoder.decoder_layers.0.attention.attention.key.weight 16x16;"   \
    "decoder.decoder_layers.0.attention.attention.value.weight 16x16;" \
    "decoder.decoder_layers.0.attention.output.dense.weight 16x16"

static const attend_checkpoint_options causal = {.overrides = ATTEND_OVERRIDE_CAUSAL,
                                                 .problem = {.causal = ATTEND_CAUSAL_TOP_LEFT}};
static const attend_checkpoint_options known = {
    .overrides = ATTEND_OVERRIDE_CAUSAL | ATTEND_OVERRIDE_ROTARY,
    .problem = {.causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_HALVES}};
static const attend_checkpoint_options known_and_heads = {.overrides = ATTEND_OVERRIDE_CAUSAL | ATTEND_OVERRIDE_ROTARY,
                                                          .num_heads = 4};
static const attend_checkpoint_options scale = {.overrides = ATTEND_OVERRIDE_SCALE,
                                                .problem = {.softmax_scale = 0.5f}};
static const attend_checkpoint_options window = {
    .overrides = ATTEND_OVERRIDE_WINDOW, .problem = {.windowed = true, .window_left = 3, .window_right = -1}};

static const struct refusal {
    const char *config, *tensors, *sentence;
    const attend_checkpoint_options *options;
} refusals[] = {
    /* Names alone decide nothing. */
    {NULL, LLAMA, "give --causal=none or --causal=top-left, and --rotary none, halves or interleaved", NULL},
    {NULL, LLAMA, "give --causal=none or --causal=top-left, and --rotary none, halves or interleaved",
     &causal},
    {NULL, LLAMA, "does not say how many heads it has, and", &known},
    {NULL, "in_proj_weight 48x16;out_proj.weight 16x16",
     "do not say what the layer computes: give --causal=none or --causal=top-left", NULL},
    {"{\"model_type\": \"llamoid\"}", LLAMA,
     "model_type \"llamoid\", which attend does not know; its names are those of Llama", NULL},
    {"{\"model_type\": \"llamoid\"}", LLAMA, "for example --layout llama --causal=top-left --rotary halves",
     NULL},
    {"{\"model_type\": \"bert\", \"num_attention_heads\": 4}", LLAMA, "models of type \"bert\" in", NULL},
    {"{}", LLAMA, "which attend does not know", NULL},
    /* Another algorithm under known names. */
    {"{\"model_type\": \"bitnet\"}", LLAMA, "attn_sub_norm", NULL},
    {"{\"model_type\": \"diffllama\"}", LLAMA, "the difference of two softmaxes", &known},
    /* Tensors that nothing consumes. */
    {"{" TEST_LLAMA_CONFIG "}", LLAMA ";layers.0.self_attn.lambda_q1 8",
     "holds layers.0.self_attn.lambda_q1 beside the layer's projections", NULL},
    {"{" TEST_LLAMA_CONFIG "}",
     LLAMA ";layers.0.self_attn.q_norm.weight 8;layers.0.self_attn.k_norm.weight 8",
     "holds layers.0.self_attn.k_norm.weight beside", NULL},
    {"{\"model_type\": \"foo\", \"num_attention_heads\": 4}", LLAMA ";layers.0.self_attn.q_norm.weight 8",
     "give --qk-norm rms, layer or none", &known},
    {TYPE("qwen3", EPSILON "\"rope_theta\": 1e6"), LLAMA NORMS_OF("4"),
     "q_norm.weight is not a vector of head_dim (8) elements", NULL},
    {TYPE("qwen3", EPSILON "\"rope_theta\": 1e6"), LLAMA NORMS_OF("8x1"),
     "q_norm.weight is not a vector of head_dim (8) elements", NULL},
    /* Keys that change attention. */
    {WITH("\"attention_multiplier\": 0.1"), LLAMA, "attention_multiplier = 0.1, which changes attention",
     NULL},
    {WITH("\"attention_multiplier\": 0.1"), LLAMA, "--scale overrides it", &window},
    {WITH("\"sliding_window\": 4"), LLAMA, "sliding_window = 4", NULL},
    {WITH("\"clip_qkv\": 8"), LLAMA, "clip_qkv = 8", NULL},
    {WITH("\"is_causal\": false"), LLAMA, "is_causal = false, which layers of model_type \"llama\" are not",
     NULL},
    {WITH("\"alibi\": true"), LLAMA, "alibi = true", NULL},
    {WITH("\"position_embedding_type\": \"relative_key\""), LLAMA,
     "position_embedding_type = \"relative_key\"", NULL},
    {WITH("\"rope_scaling\": {\"rope_type\": \"longrope\"}"), LLAMA,
     "longrope, which attend does not know; --rotary-scaling overrides it", NULL},
    {WITH("\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"mscale\": 1}"), LLAMA,
     "mscale, which attend does not know", NULL},
    /* Values that are none. */
    {WITH("\"head_dim\": 4.5"), LLAMA, "head_dim is not a whole number of at least 1", NULL},
    {WITH("\"head_dim\": 16"), LLAMA, "has heads of 8, but", NULL},
    {WITH("\"head_dim\": 4"), LLAMA, "has heads of 8, but", NULL},
    {TYPE("phi3", "\"rope_scaling\": 7, \"partial_rotary_factor\": -1"), LLAMA,
     "partial_rotary_factor is not a number of at least 0", NULL},
    {TYPE("phi3", "\"partial_rotary_factor\": 3"), LLAMA, "the rotary embedding has more elements than head_dim", NULL},
    /* A part of heads by a key that the type's models do not read. */
    {WITH("\"partial_rotary_factor\": 0.5"), LLAMA,
     "partial_rotary_factor = 0.5, which changes attention in a way that attend does not know for model_type "
     "\"llama\"; --rotary-dim overrides it",
     NULL},
    {WITH("\"rotary_pct\": 0.5"), LLAMA, "rotary_pct = 0.5", NULL},
    {WITH("\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}"), LLAMA,
     "partial_rotary_factor, which attend does not know; --rotary-dim overrides it", NULL},
    {TYPE("phi3", "\"rotary_dim\": 4"), LLAMA, "rotary_dim = 4", NULL},
    {"{\"model_type\": \"gptj\", \"n_head\": 4, \"rotary_dim\": null}", GPTJ, "a rotary_dim of null", NULL},
    {"{\"model_type\": \"llama\", \"num_attention_heads\": 1e99}", LLAMA,
     "num_attention_heads is not a whole number", NULL},
    {"{\"model_type\": \"llama\", \"num_attention_heads\": 3}", LLAMA, "do not divide into 3 heads", NULL},
    {"{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"num_key_value_heads\": 4}", LLAMA,
     "2 heads of 8, but config.json says 4", NULL},
    {"{\"model_type\": \"gpt_neox\", \"num_attention_heads\": 5}",
     "layers.0.attention.query_key_value.weight 48x16;layers.0.attention.dense.weight 16x16",
     "48 fused rows do not divide", NULL},
    {"{\"model_type\": \"codegen\", \"num_attention_heads\": 4, \"rotary_dim\": 4}",
     "h.0.attn.qkv_proj.weight 32x16;h.0.attn.out_proj.weight 16x16", "32 fused rows do not divide", NULL},
    {"{\"model_type\": \"qwen3\", \"num_attention_heads\": 4, \"layer_types\": []}", LLAMA,
     "layer_types has no text for layer 0", NULL},
    {"{\"model_type\": \"qwen3\", \"num_attention_heads\": 4, \"layer_types\": [\"chunked_attention\"]}",
     LLAMA, "of type \"chunked_attention\"", NULL},
    {"{\"model_type\": \"git\", \"num_attention_heads\": 4}",
     "layer.0.attention.self.query.weight 16x16;layer.0.attention.self.key.weight "
     "16x16;layer.0.attention.self.value.weight 16x16;"
     "layer.0.attention.output.dense.weight 16x16",
     "both with and without a causal mask: give --causal", NULL},
    {"[]", LLAMA, "config.json is not a JSON object", NULL},
    {"{\"model_type\": \"lla\\u0000ma\"}", LLAMA, "has a NUL in it", NULL},
    {"{", LLAMA, "config.json is not JSON", NULL},
    {"{\"model_type\": \"llava\"}", LLAMA, "is in no part of a llava model", NULL},
    {"{\"model_type\": \"llava\", \"text_config\": {\"model_type\": \"llava\", \"text_config\": "
     "{\"model_type\": \"llava\", \"text_config\": "
     "{\"model_type\": \"llava\", \"text_config\": {\"model_type\": \"llava\"}}}}}",
     "language_model.layers.0.self_attn.q_proj.weight 16x16;language_model.layers.0.self_attn.k_proj.weight "
     "16x16;"
     "language_model.layers.0.self_attn.v_proj.weight 16x16;language_model.layers.0.self_attn.o_proj.weight "
     "16x16",
     "nests too many submodels", NULL},
    {"{\"model_type\": \"gemma3\", \"text_config\": {\"model_type\": \"gemma3_text\", "
     "\"num_attention_heads\": 4}}",
     "language_model.layers.0.self_attn.q_proj.weight 16x16;language_model.layers.0.self_attn.k_proj.weight "
     "16x16;"
     "language_model.layers.0.self_attn.v_proj.weight 16x16;language_model.layers.0.self_attn.o_proj.weight "
     "16x16",
     "both with and without a causal mask", NULL},
    {"{\"model_type\": \"siglip_vision_model\", \"num_attention_heads\": 4}",
     "head.attention.in_proj_weight 48x16;head.attention.out_proj.weight 16x16", "has no attention layer",
     NULL},
    {"{\"model_type\": \"t5\", \"num_heads\": 2}",
     "decoder.block.1.layer.0.SelfAttention.q.weight 16x16;decoder.block.1.layer.0.SelfAttention.k.weight "
     "16x16;"
     "decoder.block.1.layer.0.SelfAttention.v.weight 16x16;decoder.block.1.layer.0.SelfAttention.o.weight "
     "16x16",
     "lacks the table of relative positions", NULL},
    /* Keys without which a type's layers are not what attend would make of them. */
    {TYPE("gemma2", "\"attn_logit_softcapping\": null"), LLAMA, "has no query_pre_attn_scalar, which", NULL},
    {TYPE("gemma2", "\"query_pre_attn_scalar\": 9"), LLAMA,
     "has no attn_logit_softcapping, which layers of model_type \"gemma2\" need; give --softcap", NULL},
    {TYPE("granite", "\"rope_theta\": 9"), LLAMA, "has no attention_multiplier, which", NULL},
    {TYPE("gpt_oss", "\"attention_bias\": false, \"rope_theta\": 9"), LLAMA ";layers.0.self_attn.sinks 4",
     "has no rope_scaling, which", NULL},
    {TYPE("apertus", "\"rope_theta\": 9"), LLAMA, "has no rope_scaling, which", NULL},
    {TYPE("cohere", "\"use_qk_norm\": false"), LLAMA, "has no rope_theta, for which versions", NULL},
    {TYPE("falcon_h1", "\"key_multiplier\": 1"), LLAMA, "has no rope_theta, for which versions", NULL},
    {TYPE("exaone4", "\"sliding_window\": 4"), LLAMA NORMS,
     "has no rms_norm_eps, which layers of model_type \"exaone4\" need; give --qk-norm KIND,E", NULL},
    {"{\"model_type\": \"mpt\", \"n_heads\": 4, \"attn_config\": {}}", MPT, "has no attn_config/alibi, which",
     NULL},
    {TYPE("qwen2_moe",
          "\"qkv_bias\": false, \"use_sliding_window\": true, \"layer_types\": [\"sliding_attention\"]"),
     LLAMA, "has a window, but sliding_window is missing; give --window", NULL},
    {"{\"model_type\": \"videomae\", \"num_attention_heads\": 4}", MAE,
     "has no decoder_num_attention_heads, which decoder.decoder_layers.0. needs", NULL},
    {"{\"model_type\": \"bart\", \"encoder_attention_heads\": 4}",
     "decoder.layers.0.self_attn.q_proj.weight 16x16;decoder.layers.0.self_attn.k_proj.weight 16x16;"
     "decoder.layers.0.self_attn.v_proj.weight 16x16;decoder.layers.0.self_attn.out_proj.weight 16x16",
     "does not say how many heads it has", NULL},
    /* What transformers 5 makes of a window of no keys. */
    {TYPE("qwen2_moe",
          "\"qkv_bias\": false, \"sliding_window\": 4, \"layer_types\": [\"sliding_attention\"]"),
     LLAMA, "layer_types has a window in layer 0, but use_sliding_window is not true; give --window", NULL},
    /* A window that the type's models do not have. */
    {WITH("\"sliding_window\": 4, \"layer_types\": [\"sliding_attention\"]"), LLAMA, "sliding_window = 4",
     NULL},
    /* Rotary embeddings that are not whole. */
    {WITH("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_parameters\": {\"rope_type\": "
          "\"default\"}"),
     LLAMA, "has both rope_parameters and rope_scaling", NULL},
    {WITH("\"rope_scaling\": \"yarn\""), LLAMA, "parameters that are not an object", NULL},
    {WITH("\"rope_scaling\": {\"factor\": 4}"), LLAMA, "parameters without a rope_type", NULL},
    {TYPE("phi3", "\"partial_rotary_factor\": 0.0"), LLAMA, "fewer than two elements of a head", NULL},
    {TYPE("phi3", "\"partial_rotary_factor\": 0.2"), LLAMA, "fewer than two elements of a head", NULL},
    {"{\"model_type\": \"gptj\", \"n_head\": 4}", GPTJ, "the rotary embedding has more elements than head_dim (4)", NULL},
    {NULL, "norm.weight 4", "has no attention layer with names that attend knows", NULL},
};

static void what_is_not_known_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        attend_checkpoint *checkpoint;
        attend_checkpoint_layer *layer;
        attend_status status = decide(r->config, r->tensors, r->options, &checkpoint, &layer);
        if (!status) fail_msg("case %d, %s, was not refused", (int)i, r->sentence);
        if (!strstr(attend_checkpoint_error_message(), r->sentence))
            fail_msg("case %d: \"%s\", expected \"%s\"", (int)i, attend_checkpoint_error_message(),
                     r->sentence);
        attend_checkpoint_close(checkpoint);
    }
}

/* What files and options make of a layer, in the words that are printed. */
static void expect(const char *config, const char *tensors, const attend_checkpoint_options *options,
                   attend_problem *problem)
{
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *layer;
    if (decide(config, tensors, options, &checkpoint, &layer) || attend_checkpoint_load(layer, ATTEND_F32))
        fail_msg("%s: %s", config ? config : "no config", attend_checkpoint_error_message());
    assert_non_null(layer->weights.wq.data);
    *problem = layer->problem;
    attend_checkpoint_free(layer), attend_checkpoint_close(checkpoint);
}

static void what_is_given_overrides_one_thing(void **state)
{
    (void)state;
    attend_problem p;
    expect("{" TEST_LLAMA_CONFIG "}", LLAMA, NULL, &p);
    assert_true(p.causal == ATTEND_CAUSAL_TOP_LEFT && p.rotary == ATTEND_ROTARY_HALVES &&
                p.rotary_base == 500000);
    assert_true(p.num_heads == 4 && p.num_kv_heads == 2 && p.head_dim == 8 && p.hidden_size == 16 &&
                p.output_size == 16);

    attend_checkpoint_options o = {.overrides = ATTEND_OVERRIDE_ROTARY,
                                   .problem = {.rotary = ATTEND_ROTARY_INTERLEAVED}};
    expect("{" TEST_LLAMA_CONFIG "}", LLAMA, &o, &p);
    assert_true(p.rotary == ATTEND_ROTARY_INTERLEAVED && p.rotary_base == 500000 &&
                p.causal == ATTEND_CAUSAL_TOP_LEFT);

    const char *llama3 = WITH("\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
                              "\"original_max_position_embeddings\": 64}");
    o = (attend_checkpoint_options){.overrides = ATTEND_OVERRIDE_ROTARY_BASE, .problem = {.rotary_base = 7}};
    expect(llama3, LLAMA, &o, &p);
    assert_true(p.rotary_base == 7 && p.rotary_scaling == ATTEND_ROTARY_LLAMA3 && p.rotary_factor == 8);
    o = (attend_checkpoint_options){.overrides = ATTEND_OVERRIDE_ROTARY_SCALING};
    expect(llama3, LLAMA, &o, &p);
    assert_true(p.rotary_base == 500000 && p.rotary_scaling == ATTEND_ROTARY_UNSCALED);
    expect(WITH("\"rope_scaling\": {\"rope_type\": \"longrope\"}"), LLAMA, &o, &p);

    expect(WITH("\"attention_multiplier\": 0.1"), LLAMA, &scale, &p);
    assert_true(p.softmax_scale == 0.5f && p.rotary_base == 500000);
    expect(WITH("\"sliding_window\": 9"), LLAMA, &window, &p);
    assert_true(p.windowed && p.window_left == 3 && p.causal == ATTEND_CAUSAL_TOP_LEFT);

    expect("{\"model_type\": \"llamoid\", \"num_attention_heads\": 4, \"rope_theta\": 9}", LLAMA, &known, &p);
    assert_true(p.causal == ATTEND_CAUSAL_TOP_LEFT && p.rotary == ATTEND_ROTARY_HALVES && p.rotary_base == 9);
    expect(NULL, LLAMA, &known_and_heads, &p);
    assert_true(p.causal == ATTEND_CAUSAL_NONE && !p.rotary && p.num_heads == 4);
}

static void a_model_type_means_what_its_models_do(void **state)
{
    (void)state;
    attend_problem p;
    expect("{\"model_type\": \"mistral\", \"num_attention_heads\": 4, \"sliding_window\": 6}", LLAMA, NULL,
           &p);
    assert_true(p.windowed && p.window_left == 5 && p.window_right == -1);
    expect("{\"model_type\": \"eurobert\", \"num_attention_heads\": 4}", LLAMA, NULL, &p);
    assert_true(p.causal == ATTEND_CAUSAL_NONE && p.rotary == ATTEND_ROTARY_HALVES);
    expect("{\"model_type\": \"granite\", \"num_attention_heads\": 4, \"attention_multiplier\": 0.25}", LLAMA,
           NULL, &p);
    assert_true(p.softmax_scale == 0.25f);
    expect("{\"model_type\": \"cohere2\", \"num_attention_heads\": 4, \"sliding_window\": 6, "
           "\"layer_types\": [\"full_attention\"]}",
           LLAMA, NULL, &p);
    assert_true(!p.windowed && !p.rotary);
    expect("{\"model_type\": \"cohere2\", \"num_attention_heads\": 4, \"sliding_window\": 6, "
           "\"layer_types\": [\"sliding_attention\"]}",
           LLAMA, NULL, &p);
    assert_true(p.windowed && p.rotary == ATTEND_ROTARY_INTERLEAVED);
    expect("{\"model_type\": \"llava\", \"text_config\": {" TEST_LLAMA_CONFIG "}}",
           "language_model.layers.0.self_attn.q_proj.weight "
           "32x16;language_model.layers.0.self_attn.k_proj.weight 16x16;"
           "language_model.layers.0.self_attn.v_proj.weight "
           "16x16;language_model.layers.0.self_attn.o_proj.weight 16x32",
           NULL, &p);
    assert_true(p.causal == ATTEND_CAUSAL_TOP_LEFT && p.rotary_base == 500000);
    expect("{\"model_type\": \"voxtral\", \"text_config\": {\"model_type\": \"llama\", "
           "\"num_attention_heads\": 4}}",
           "language_model.layers.0.self_attn.q_proj.weight "
           "32x16;language_model.layers.0.self_attn.k_proj.weight 16x16;"
           "language_model.layers.0.self_attn.v_proj.weight "
           "16x16;language_model.layers.0.self_attn.o_proj.weight 16x32",
           NULL, &p);
    assert_true(p.rotary_base == 1e8);
    expect("{\"model_type\": \"bart\", \"encoder_attention_heads\": 4, \"decoder_attention_heads\": 2}",
           "decoder.layers.0.self_attn.q_proj.weight 16x16;decoder.layers.0.self_attn.k_proj.weight 16x16;"
           "decoder.layers.0.self_attn.v_proj.weight 16x16;decoder.layers.0.self_attn.out_proj.weight 16x16",
           NULL, &p);
    assert_true(p.causal == ATTEND_CAUSAL_TOP_LEFT && p.num_heads == 2 && !p.rotary);
}

/* A key that is not there is what the type's own code makes of it, not what another type would. */
static const struct usual {
    const char *config, *number;
    int64_t window;
    double base; /* 0: not rotated */
} usual[] = {
    {TYPE("mistral", "\"rope_theta\": 7"), "0", 4096, 7},
    {TYPE("mistral", "\"sliding_window\": null"), "0", 0, 10000},
    {TYPE("mistral", "\"sliding_window\": 4, \"use_sliding_window\": false"), "0", 4, 10000},
    {TYPE("mistral", "\"sliding_window\": 4, \"layer_types\": [\"full_attention\"]"), "0", 4, 10000},
    {TYPE("mixtral", "\"num_key_value_heads\": 2"), "0", 0, 1e6},
    {TYPE("phi3", "\"num_key_value_heads\": 2"), "0", 0, 10000},
    {TYPE("helium", "\"num_key_value_heads\": 2"), "0", 0, 1e5},
    {TYPE("ernie4_5", "\"num_key_value_heads\": 2"), "0", 0, 5e5},
    {TYPE("smollm3", "\"num_key_value_heads\": 2"), "3", 0, 0},
    {TYPE("smollm3", "\"no_rope_layer_interval\": 2"), "3", 0, 0},
    {TYPE("smollm3", "\"no_rope_layer_interval\": 3"), "3", 0, 2e6},
    {TYPE("gpt_oss", "\"attention_bias\": false, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 32, "
                     "\"original_max_position_embeddings\": 64}"),
     "0", 128, 150000},
    /* Layers with a window have a base of their own, and are not scaled. */
    {TYPE("gemma3_text", GEMMA), "0", 4096, 10000},
    {TYPE("gemma3_text", GEMMA), "5", 0, 1e6},
    {TYPE("gemma3_text", GEMMA ", \"rope_local_base_freq\": 77"), "0", 4096, 77},
    {TYPE("gemma3_text", GEMMA ", \"sliding_window\": null"), "0", 0, 10000},
    {TYPE("gemma3_text", "\"query_pre_attn_scalar\": 8, \"rope_parameters\": {\"sliding_attention\": "
                         "{\"rope_type\": \"default\"}, \"full_attention\": {\"rope_type\": \"default\"}}"),
     "0", 4096, 10000},
    /* The base's key is the type's: others are not read, by transformers either. */
    {TYPE("llama", "\"rope_theta\": 7"), "0", 0, 7},
    {TYPE("gpt_neox", "\"rotary_emb_base\": 7, \"rope_theta\": 9, \"partial_rotary_factor\": 0.5"), "0", 0,
     7},
    {TYPE("gpt_neox", "\"rope_theta\": 9"), "0", 0, 10000},
    /* Without a window, one type turns all layers and another none. */
    {TYPE("exaone4", EPSILON "\"sliding_window\": null, \"layer_types\": [\"full_attention\"]"), "0", 0,
     10000},
    {TYPE("exaone4", EPSILON "\"sliding_window\": 4, \"layer_types\": [\"full_attention\"]"), "0", 0, 0},
    {TYPE("exaone4", EPSILON "\"sliding_window\": 4"), "0", 4, 10000},
    {TYPE("cohere2", "\"sliding_window\": null, \"layer_types\": [\"sliding_attention\"]"), "0", 0, 0},
    {TYPE("cohere2", "\"sliding_window\": null"), "0", 0, 0},
    /* Which types ask use_sliding_window, and which max_window_layers. */
    {TYPE("qwen3_moe", "\"sliding_window\": 4, \"use_sliding_window\": true"), "0", 4, 10000},
    {TYPE("qwen3_moe", "\"sliding_window\": 4"), "0", 0, 10000},
    {TYPE("qwen2", "\"sliding_window\": 4, \"use_sliding_window\": true"), "0", 0, 10000},
    {TYPE("qwen2", "\"sliding_window\": 4, \"use_sliding_window\": true, \"max_window_layers\": 1"), "1", 4,
     10000},
    {TYPE("qwen2", "\"sliding_window\": 4, \"layer_types\": [\"full_attention\"]"), "0", 0, 10000},
    {TYPE("qwen2_moe",
          "\"qkv_bias\": false, \"sliding_window\": 4, \"use_sliding_window\": true, \"layer_types\": "
          "[\"sliding_attention\"]"),
     "0", 4, 10000},
    {TYPE("dots1", "\"sliding_window\": 4, \"max_window_layers\": 0"), "0", 4, 10000},
    {TYPE("dots1", "\"sliding_window\": 4, \"max_window_layers\": 1"), "0", 0, 10000},
    {TYPE("dots1", "\"sliding_window\": 4, \"max_window_layers\": 1"), "1", 4, 10000},
};

static void what_is_absent_is_as_the_type_has_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        const struct usual *u = &usual[i];
        char tensors[512];
        const bool neox = strstr(u->config, "gpt_neox");
        const char *const normed[] = {"gemma3", "exaone4", "qwen3", "dots1"};
        snprintf(tensors, sizeof tensors, "%s%s", neox ? NEOX : LLAMA,
                 strstr(u->config, "gpt_oss") ? ";layers.0.self_attn.sinks 4" : "");
        for (int j = 0; j < 4; j++)
            if (strstr(u->config, normed[j])) strcat(tensors, NORMS);
        for (char *at = tensors; (at = strstr(at, "layers.0")); at++) at[strlen("layers.")] = *u->number;
        attend_problem p;
        expect(u->config, tensors, NULL, &p);
        const double base = !p.rotary ? 0 : p.rotary_base != 0 ? p.rotary_base : 10000;
        const int64_t span = p.windowed ? p.window_left + 1 : 0;
        if (span != u->window || base != u->base)
            fail_msg("%s, layer %s: a window of %d and base %g, expected %d and %g", u->config, u->number,
                     (int)span, base, (int)u->window, u->base);
        if (strstr(u->config, "gemma3_text") && base != 1e6) assert_int_equal(p.rotary_scaling, 0);
    }
    attend_problem p;
    expect(TYPE("gpt_neox", "\"partial_rotary_factor\": 1"), NEOX, NULL, &p);
    assert_int_equal(p.rotary_dim, 4);
    expect(TYPE("gpt_neox", "\"partial_rotary_factor\": 1, \"rotary_pct\": 0.5"), NEOX, NULL, &p);
    assert_int_equal(p.rotary_dim, 8);
    expect("{\"model_type\": \"llama\"}", HEADS_32, NULL, &p);
    assert_true(p.num_heads == 32 && p.num_kv_heads == 16 && p.head_dim == 2);
    expect("{\"model_type\": \"gemma3_text\"}", LLAMA NORMS_OF("4"), NULL, &p);
    assert_true(p.num_heads == 8 && p.num_kv_heads == 4 && p.softmax_scale == 0.0625f);
    expect("{\"model_type\": \"videomae\", \"num_attention_heads\": 4, \"decoder_num_attention_heads\": 2}",
           MAE, NULL, &p);
    assert_int_equal(p.num_heads, 2);
    const attend_checkpoint_options heads = {.num_heads = 8};
    expect("{\"model_type\": \"videomae\", \"num_attention_heads\": 4}", MAE, &heads, &p);
    assert_int_equal(p.num_heads, 8);
    expect("{\"model_type\": \"modernbert\", \"num_attention_heads\": 4, \"global_rope_theta\": 9, "
           "\"rope_theta\": 5}",
           "layers.0.attn.Wqkv.weight 48x16;layers.0.attn.Wo.weight 16x16", NULL, &p);
    assert_true(p.rotary_base == 9 && !p.windowed);
    expect("{\"model_type\": \"modernbert\", \"num_attention_heads\": 4, \"global_rope_theta\": 9}",
           "layers.1.attn.Wqkv.weight 48x16;layers.1.attn.Wo.weight 16x16", NULL, &p);
    assert_true(p.rotary_base == 10000 && p.window_left == 64 && p.window_right == 64);
    expect("{\"model_type\": \"modernbert\", \"num_attention_heads\": 4, \"global_rope_theta\": 9, "
           "\"local_rope_theta\": null}",
           "layers.1.attn.Wqkv.weight 48x16;layers.1.attn.Wo.weight 16x16", NULL, &p);
    assert_true(p.rotary_base == 9 && p.windowed);
}

/* ---- shards ---- */

#define INDEX "model.safetensors.index.json"
#define ATTENTION(n, file)                                                \
    "\"layers." n ".self_attn.q_proj.weight\": \"" file "\", \"layers." n \
    ".self_attn.k_proj.weight\": \"" file "\", "                          \
    "\"layers." n ".self_attn.v_proj.weight\": \"" file "\", \"layers." n \
    ".self_attn.o_proj.weight\": \"" file "\""
#define MAP(rest) "{\"weight_map\": {" rest "}}"
#define TWO       MAP(ATTENTION("0", "a.safetensors") ", " ATTENTION("1", "b.safetensors"))

static void write_shards(const char *index)
{
    remove(test_path("model.safetensors"));
    test_write_text("config.json", "{" TEST_LLAMA_CONFIG "}");
    test_write_text(INDEX, index);
    test_write_safetensors("a.safetensors", TEST_LLAMA_LAYER("0"));
    test_write_safetensors("b.safetensors", TEST_LLAMA_LAYER("1"));
}

static attend_status load_layer(int64_t number)
{
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *layer = NULL;
    const attend_checkpoint_query query = {.number = number};
    int64_t index;
    attend_status status = attend_checkpoint_open(test_path(INDEX), &checkpoint);
    if (!status) status = attend_checkpoint_find(checkpoint, &query, &index);
    if (!status) status = attend_checkpoint_decide(checkpoint, index, NULL, &layer);
    if (!status) status = attend_checkpoint_load(layer, ATTEND_F16);
    attend_checkpoint_free(layer), attend_checkpoint_close(checkpoint);
    return status;
}

static void expect_shards(attend_status expected, const char *sentence, int64_t number)
{
    attend_status status = load_layer(number);
    if (status != expected || (status && !strstr(attend_checkpoint_error_message(), sentence)))
        fail_msg("%s \"%s\", expected %s \"%s\"", attend_status_name(status),
                 attend_checkpoint_error_message(), attend_status_name(expected), sentence);
}

static void shards_are_found_by_their_index(void **state)
{
    (void)state;
    attend_checkpoint *checkpoint;
    attend_checkpoint_name name;
    write_shards(TWO);
    assert_int_equal(attend_checkpoint_open(test_folder(), &checkpoint), ATTEND_OK);
    assert_true(attend_checkpoint_layer_name(checkpoint, 1, &name));
    assert_string_equal(name.prefix, "layers.1.");
    assert_int_equal(name.number, 1);
    assert_false(attend_checkpoint_layer_name(checkpoint, 2, &name));
    attend_checkpoint_close(checkpoint);
    expect_shards(ATTEND_OK, "", 0);
    expect_shards(ATTEND_OK, "", 1);
    expect_shards(ATTEND_INVALID_ARGUMENT, "has no layer 2; it has layers 0 to 1", 2);
}

static void a_shard_that_lies_is_named(void **state)
{
    (void)state;
    write_shards(TWO);
    remove(test_path("b.safetensors"));
    expect_shards(ATTEND_OK, "", 0); /* the other layer is whole */
    expect_shards(ATTEND_IO_ERROR, "b.safetensors: No such file", 1);
    test_write_safetensors("b.safetensors", TEST_LLAMA_LAYER("1") ";layers.1.self_attn.gate.weight 4");
    expect_shards(ATTEND_BAD_FILE, "b.safetensors has tensor \"layers.1.self_attn.gate.weight\", which", 1);
    test_write_safetensors("b.safetensors", TEST_LLAMA_LAYER("0"));
    expect_shards(ATTEND_BAD_FILE, "lists in another file", 1);
    test_write_safetensors("b.safetensors", "layers.1.self_attn.q_proj.weight 32x16");
    expect_shards(ATTEND_BAD_FILE, "b.safetensors lacks tensor \"layers.1.self_attn.k_proj.weight\"", 1);
    test_write_safetensors("b.safetensors", TEST_LLAMA_LAYER("1"));
    assert_int_equal(truncate(test_path("b.safetensors"), 4000), 0);
    expect_shards(ATTEND_BAD_FILE, "b.safetensors is truncated", 1);
    test_write_safetensors("a.safetensors",
                           "layers.0.self_attn.q_proj.weight 32x16;layers.0.self_attn.v_proj.weight "
                           "16x16;layers.0.self_attn.o_proj.weight 16x32");
    expect_shards(ATTEND_BAD_FILE, "a.safetensors lacks tensor \"layers.0.self_attn.k_proj.weight\"", 0);
}

static void an_index_is_not_believed(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"which is not a plain name in the index's own folder", MAP(ATTENTION("0", "../a.safetensors"))},
        {"which is not a plain name in the index's own folder", MAP(ATTENTION("0", "/etc/a.safetensors"))},
        {"which is not a plain name in the index's own folder", MAP(ATTENTION("0", ""))},
        {"which is not a plain name in the index's own folder", MAP(ATTENTION("0", "."))},
        {"which is not a plain name in the index's own folder", MAP(ATTENTION("0", "b\\\\a.safetensors"))},
        {"names tensor \"layers.0.self_attn.k_proj.weight\" twice",
         MAP(ATTENTION("0", "a.safetensors") ", " ATTENTION("0", "b.safetensors"))},
        {"the file of tensor \"x\" is not a string", MAP("\"x\": 3")},
        {"has no weight_map", "{\"weight_map\": []}"},
        {"has no weight_map", "{}"},
        {"is not a JSON object", "[]"},
        {"is not JSON", "{\"weight_map\": "},
        {"has no attention layer", MAP("")},
        {"model.safetensors.index.json is JSON; an index", MAP(ATTENTION("0", INDEX))}, /* itself */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_shards(cases[i][1]);
        attend_status status = load_layer(0);
        if (!status || !strstr(attend_checkpoint_error_message(), cases[i][0]))
            fail_msg("case %d: \"%s\", expected \"%s\"", (int)i,
                     status ? attend_checkpoint_error_message() : "", cases[i][0]);
    }
}

static void other_formats_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes, *sentence;
    } cases[] = {
        {"pytorch_model.bin", "PK\3\4 and so on",
         "pytorch_model.bin is a zip archive, as PyTorch saves pickles"},
        {"old.bin", "\x80\2}q\1X.....", "old.bin is a pickle"},
        {"pointer.safetensors", "version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"},
        {"page.safetensors", "<!DOCTYPE html>", "is a web page"},
        {"model.gguf", "GGUF\3 and so on", "is a GGUF file"},
        {"pytorch_model.bin.index.json", "{}", "is an index of pickles"},
    };
    attend_checkpoint *checkpoint;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_write_file(test_path(cases[i].name), cases[i].bytes, strlen(cases[i].bytes) + 1);
        assert_int_equal(attend_checkpoint_open(test_path(cases[i].name), &checkpoint), ATTEND_BAD_FILE);
        if (!strstr(attend_checkpoint_error_message(), cases[i].sentence))
            fail_msg("%s: \"%s\"", cases[i].name, attend_checkpoint_error_message());
    }
    remove(test_path("model.safetensors")), remove(test_path(INDEX));
    assert_int_equal(attend_checkpoint_open(test_folder(), &checkpoint), ATTEND_BAD_FILE);
    assert_non_null(
        strstr(attend_checkpoint_error_message(), "has pytorch_model.bin, a pickle, which is not read"));
    assert_null(checkpoint);
    remove(test_path("pytorch_model.bin")), remove(test_path("pytorch_model.bin.index.json"));
    assert_int_equal(attend_checkpoint_open(test_folder(), &checkpoint), ATTEND_IO_ERROR);
    assert_non_null(strstr(attend_checkpoint_error_message(), "has neither model.safetensors nor"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(what_is_given_overrides_one_thing),
        cmocka_unit_test(a_model_type_means_what_its_models_do),
        cmocka_unit_test(what_is_absent_is_as_the_type_has_it),
        cmocka_unit_test(shards_are_found_by_their_index),
        cmocka_unit_test(a_shard_that_lies_is_named),
        cmocka_unit_test(an_index_is_not_believed),
        cmocka_unit_test(other_formats_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The table of architectures, one row per model_type. tests/peers/architectures.py compares every row with
   transformers' own code, versions 4 and 5. Macros hold what the rows of a family share. */
#include "checkpoint/architectures.h"

#include <attend/checkpoint.h>
#include <stdio.h>
#include <string.h>

#define RULES(...) ((const attend_rule[]){__VA_ARGS__, {.key = NULL}})
#define RULE(if, k, then, ...)                                                        \
    {                                                                                 \
        .key = k, .test = ATTEND_IF_##if, .effect = ATTEND_THEN_##then, ##__VA_ARGS__ \
    }
#define IF_TRUE(key, ...)            RULE(TRUE, key, __VA_ARGS__)
#define IF_FALSE(key, ...)           RULE(FALSE, key, __VA_ARGS__)
#define IF_SET(key, ...)             RULE(SET, key, __VA_ARGS__)
#define IF_TEXT(key, text, then)     RULE(TEXT, key, then, .value = text)
#define IF_OTHER(key, text, then)    RULE(OTHER, key, then, .value = text)
#define IF_SET_OR(key, number, then) RULE(SET, key, then, .usual = number)
#define READ(key)                    RULE(TRUE, key, NOTHING)

#define NEEDS(...) ((const attend_need[]){__VA_ARGS__, {.key = NULL}})
#define SCALE_IN(key)                         \
    {                                         \
        key, ATTEND_OVERRIDE_SCALE, "--scale" \
    }
#define CAP_IN(key)                               \
    {                                             \
        key, ATTEND_OVERRIDE_SOFTCAP, "--softcap" \
    }
#define EPSILON(key) NEEDS({key, ATTEND_OVERRIDE_QK_NORM_EPSILON, "--qk-norm KIND,E"})
#define GRANITE      .needs = NEEDS(SCALE_IN("attention_multiplier"))
#define GPT_NEOX     .part_key = "rotary_pct", .base_key = "rotary_emb_base"
#define IF_ASKED(key) \
    {                 \
        key, false    \
    }
#define UNLESS_DENIED(key) \
    {                      \
        key, true          \
    }
#define ALWAYS     \
    {              \
        NULL, true \
    }

#define CLIPS         IF_SET("clip_qkv", REFUSE, .value = "Q, K and V are clipped, which attend does not do")
#define RELATIVE_BERT IF_OTHER("position_embedding_type", "absolute", REFUSE)

/* Llama and models that differ from it only by keys of the config: causal, rotary in halves, biases if
   attention_bias. */
#define LLAMA(type, ...)                                                                                  \
    {                                                                                                     \
        .model_type = type, .layouts = "llama", .causal = ATTEND_DECODES, .rotary = ATTEND_ROTARY_HALVES, \
        .biased = IF_ASKED("attention_bias"), ##__VA_ARGS__                                               \
    }
/* BERT: bidirectional, unless it is a decoder. Its relative positions are not supported. */
#define BERT(type, ...)                                                             \
    {                                                                               \
        .model_type = type, .layouts = "bert", .causal = ATTEND_BOTH_WAYS,          \
        .rules = RULES(IF_TRUE("is_decoder", CAUSAL), RELATIVE_BERT), ##__VA_ARGS__ \
    }
/* Bidirectional; no key of the config changes that. */
#define BOTH_WAYS(type, names, ...)                                                     \
    {                                                                                   \
        .model_type = type, .layouts = names, .causal = ATTEND_BOTH_WAYS, ##__VA_ARGS__ \
    }
#define CAUSAL(type, names, ...)                                                      \
    {                                                                                 \
        .model_type = type, .layouts = names, .causal = ATTEND_DECODES, ##__VA_ARGS__ \
    }
/* An encoder and a decoder; the decoder is causal. */
#define STACKS(type, names, ...)                                                       \
    {                                                                                  \
        .model_type = type, .layouts = names, .causal = ATTEND_BY_STACK, ##__VA_ARGS__ \
    }
/* Vision transformers, bidirectional. */
#define VIT(type, ...) BOTH_WAYS(type, "bert vit", .biased = UNLESS_DENIED("qkv_bias"), ##__VA_ARGS__)
#define T5(type)       STACKS(type, "t5", .scale_one = true, .relative_distance = 128)
#define REFUSED(type, why)                 \
    {                                      \
        .model_type = type, .refused = why \
    }
#define IN_PARTS(type, ...)                               \
    {                                                     \
        .model_type = type, .parts = parts, ##__VA_ARGS__ \
    }

static const char mla[] = "multi-head latent attention, which attend does not compute from these weights";
static const char all_heads[] = "its norms of Q and K go over all heads at once, which attend does not do";
static const char gated[] = "its heads are gated, which attend does not do";

static const attend_part parts[] = {
    {"vision_tower.", "vision_config"}, {"vision_model.", "vision_config"},
    {"visual.", "vision_config"},       {"image_encoder.", "vision_config"},
    {"image_tower.", "vision_config"},  {"video_tower.", "vision_config"},
    {"audio_tower.", "audio_config"},   {"audio_model.", "audio_config"},
    {"audio_encoder.", "audio_config"}, {"language_model.", "text_config"},
    {"text_model.", "text_config"},     {"text_encoder.", "text_config"},
    {"qformer.", "qformer_config"},     {NULL, NULL},
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init" /* a row may override a field of its family's macro */
static const attend_architecture rows[] = {
    /* Decoders with Llama's names. */
    LLAMA("llama", .untyped = true, .heads = 32),
    LLAMA("mistral", .untyped = true, .heads = 32, .window = ATTEND_WINDOW_ALL, .span = 4096),
    LLAMA("mixtral", .untyped = true, .base = 1e6, .window = ATTEND_WINDOW_ALL, .span = -1),
    LLAMA("ministral", .window = ATTEND_WINDOW_ALL, .span = 4096),
    LLAMA("gemma", .rules = RULES(IF_TRUE("use_bidirectional_attention", REFUSE,
                                          .value = "attend does not know which mask goes with it"))),
    LLAMA("gemma2", .window = ATTEND_WINDOW_EVEN, .span = 4096,
          .needs = NEEDS(SCALE_IN("query_pre_attn_scalar"), CAP_IN("attn_logit_softcapping")),
          .rules =
              RULES(IF_SET("query_pre_attn_scalar", SCALE_ROOT), IF_SET("attn_logit_softcapping", SOFTCAP),
                    IF_TRUE("use_bidirectional_attention", REFUSE,
                            .value = "attend does not know which mask goes with it"))),
    LLAMA("gemma3_text", .base = 1e6, .window = ATTEND_WINDOW_PATTERN, .pattern = 6, .span = 4096, .heads = 8,
          .sliding_base = "rope_local_base_freq", .norm = ATTEND_NORM_RMS_ONE,
          .rules = RULES(IF_SET_OR("query_pre_attn_scalar", 256, SCALE_ROOT),
                         IF_SET("attn_logit_softcapping", SOFTCAP),
                         IF_TRUE("use_bidirectional_attention", REFUSE,
                                 .value = "attend does not know which mask goes with it"))),
    LLAMA("vaultgemma", .window = ATTEND_WINDOW_EVEN, .span = 4096,
          .needs = NEEDS(SCALE_IN("query_pre_attn_scalar"), CAP_IN("attn_logit_softcapping")),
          .rules =
              RULES(IF_SET("query_pre_attn_scalar", SCALE_ROOT), IF_SET("attn_logit_softcapping", SOFTCAP))),
    LLAMA("qwen2", .biased = ALWAYS, .window = ATTEND_WINDOW_FROM, .pattern = 28, .span = 4096,
          .window_asked = true),
    LLAMA("qwen2_moe", .biased = UNLESS_DENIED("qkv_bias"), .window_asked = true),
    LLAMA("qwen3", .window = ATTEND_WINDOW_FROM, .pattern = 28, .span = 4096, .window_asked = true,
          .norm = ATTEND_NORM_RMS),
    LLAMA("qwen3_moe", .untyped = true, .window = ATTEND_WINDOW_ALL, .span = 4096, .window_asked = true,
          .norm = ATTEND_NORM_RMS),
    LLAMA("gpt_oss", .biased = UNLESS_DENIED("attention_bias"), .base = 150000, .scaled = true,
          .window = ATTEND_WINDOW_EVEN, .span = 128, .sinks = true),
    LLAMA("phi", .biased = ALWAYS, .part = 0.5, .norm = ATTEND_NORM_LAYER, .q_norm = "q_layernorm",
          .normed = IF_ASKED("qk_layernorm"), .needs = EPSILON("layer_norm_eps")),
    LLAMA("phi3", .untyped = true, .part = 1, .window = ATTEND_WINDOW_ALL, .span = -1),
    LLAMA("phimoe", .untyped = true, .base = 1e6, .window = ATTEND_WINDOW_ALL, .span = -1),
    LLAMA("starcoder2", .biased = UNLESS_DENIED("use_bias"), .untyped = true, .window = ATTEND_WINDOW_ALL,
          .span = -1),
    LLAMA("stablelm", .biased = IF_ASKED("use_qkv_bias"), .part = 0.25, .rules = RULES(READ("qk_layernorm"))),
    LLAMA("olmo", .rules = RULES(CLIPS)),
    REFUSED("olmo2", all_heads),
    REFUSED("olmo3", all_heads),
    REFUSED("olmoe", all_heads),
    LLAMA("cohere", .rotary = ATTEND_ROTARY_INTERLEAVED, .base = ATTEND_BASE_MUST_BE_GIVEN,
          .norm = ATTEND_NORM_LAYER, .normed = IF_ASKED("use_qk_norm"), .needs = EPSILON("layer_norm_eps")),
    LLAMA("cohere2", .rotary = ATTEND_ROTARY_INTERLEAVED, .rotary_layers = ATTEND_ROTARY_SLIDING,
          .window = ATTEND_WINDOW_PATTERN, .pattern = 4, .span = 4096),
    LLAMA("granite", GRANITE, .rules = RULES(IF_SET("attention_multiplier", SCALE))),
    LLAMA("granitemoe", GRANITE,
          .rules = RULES(IF_SET("attention_multiplier", SCALE),
                         IF_OTHER("position_embedding_type", "rope", REFUSE))),
    LLAMA("granitemoeshared", GRANITE,
          .rules = RULES(IF_SET("attention_multiplier", SCALE),
                         IF_OTHER("position_embedding_type", "rope", REFUSE))),
    LLAMA("granitemoehybrid", GRANITE, .rotary = ATTEND_ROTARY_NONE,
          .rules = RULES(IF_SET("attention_multiplier", SCALE),
                         IF_TEXT("position_embedding_type", "rope", HALVES))),
    LLAMA("falcon_h1", .base = ATTEND_BASE_MUST_BE_GIVEN,
          .rules = RULES(IF_SET("key_multiplier", SCALE_TIMES))),
    LLAMA("bamba", .part = 0.5),
    LLAMA("jamba", .rotary = ATTEND_ROTARY_NONE),
    LLAMA("zamba", .rotary = ATTEND_ROTARY_NONE,
          .refused = "its heads are scaled by half of head_dim, which attend does not know from its config"),
    LLAMA("helium", .rotary = ATTEND_ROTARY_INTERLEAVED, .base = 1e5),
    LLAMA("glm", .biased = UNLESS_DENIED("attention_bias"), .rotary = ATTEND_ROTARY_INTERLEAVED, .part = 0.5),
    LLAMA("glm4", .biased = UNLESS_DENIED("attention_bias"), .rotary = ATTEND_ROTARY_INTERLEAVED,
          .part = 0.5),
    LLAMA("glm4_moe", .part = 0.5, .norm = ATTEND_NORM_RMS, .normed = IF_ASKED("use_qk_norm"),
          .needs = EPSILON("rms_norm_eps")),
    LLAMA("ernie4_5", .biased = IF_ASKED("use_bias"), .rotary = ATTEND_ROTARY_INTERLEAVED, .base = 5e5),
    LLAMA("ernie4_5_moe", .biased = IF_ASKED("use_bias"), .rotary = ATTEND_ROTARY_INTERLEAVED, .base = 5e5),
    LLAMA("smollm3", .base = 2e6, .rotary_layers = ATTEND_ROTARY_LISTED),
    LLAMA("exaone4", .rotary_layers = ATTEND_ROTARY_BUT_FULL, .window = ATTEND_WINDOW_PATTERN, .pattern = 4,
          .span = 4096, .norm = ATTEND_NORM_RMS, .needs = EPSILON("rms_norm_eps")),
    LLAMA("seed_oss", .biased = UNLESS_DENIED("attention_bias")),
    LLAMA("arcee"),
    LLAMA("apertus", .base = 12e6, .scaled = true, .norm = ATTEND_NORM_RMS,
          .normed = UNLESS_DENIED("qk_norm"), .needs = EPSILON("rms_norm_eps")),
    LLAMA("nemotron", .part = 0.5),
    LLAMA("dots1", .norm = ATTEND_NORM_RMS, .window = ATTEND_WINDOW_FROM, .pattern = 62, .span = 4096),
    LLAMA("jetmoe", .refused = "its projections of Q and output are experts'"),
    LLAMA("aria_text"),
    REFUSED("minimax_m2", all_heads),
    LLAMA("lfm2", .layouts = "torch", .base = 1e6, .norm = ATTEND_NORM_RMS, .q_norm = "q_layernorm",
          .needs = EPSILON("norm_eps")),
    LLAMA("lfm2_moe", .layouts = "torch", .base = 1e6, .norm = ATTEND_NORM_RMS, .q_norm = "q_layernorm",
          .needs = EPSILON("norm_eps")),
    LLAMA("persimmon", .biased = ALWAYS, .layouts = "persimmon", .base = ATTEND_BASE_MUST_BE_GIVEN,
          .part = 0.5, .norm = ATTEND_NORM_LAYER, .q_norm = "q_layernorm",
          .normed = UNLESS_DENIED("qk_layernorm"), .needs = EPSILON("layer_norm_eps")),
    REFUSED("dbrx", "Q, K and V are clipped (clip_qkv), which attend does not do"),
    BOTH_WAYS("eurobert", "llama", .biased = IF_ASKED("attention_bias"), .rotary = ATTEND_ROTARY_HALVES),
    REFUSED("hunyuan_v1_dense",
            "its norms of Q and K follow the rotary embedding, which attend does before it"),
    REFUSED("hunyuan_v1_moe",
            "its norms of Q and K follow the rotary embedding, which attend does before it"),
    REFUSED("nanochat", "its rotary embedding rotates by negative angles, which attend does not do"),
    REFUSED("bitnet", "a norm stands between its heads and the output projection (attn_sub_norm)"),
    REFUSED("diffllama", "differential attention, the difference of two softmaxes"),
    REFUSED("afmoe", gated),
    REFUSED("doge", "its scores have a learned mask of their own (dt_proj, A)"),
    REFUSED("qwen3_next", gated),
    REFUSED("qwen3_5", gated),
    REFUSED("qwen3_5_text", gated),
    REFUSED("deepseek_v2", mla),
    REFUSED("deepseek_v3", mla),
    REFUSED("minicpm3", mla),
    REFUSED("youtu", mla),
    REFUSED("glm4_moe_lite", mla),
    REFUSED("llama4_text", "queries scaled by position and norms that only some layers have"),
    REFUSED("gemma3n_text", "layers that share keys, and a norm of V"),
    REFUSED("recurrent_gemma", "a window counted in blocks"),

    /* GPTs whose tensor names differ. */
    CAUSAL("gpt2", "gpt2",
           .rules = RULES(IF_FALSE("scale_attn_weights", SCALE_ONE),
                          IF_TRUE("scale_attn_by_inverse_layer_idx", SCALE_LAYER))),
    CAUSAL("openai-gpt", "gpt2"),
    CAUSAL("imagegpt", "gpt2",
           .rules = RULES(IF_FALSE("scale_attn_weights", SCALE_ONE),
                          IF_TRUE("scale_attn_by_inverse_layer_idx", SCALE_LAYER))),
    CAUSAL("gpt_bigcode", "gpt-bigcode", .rules = RULES(IF_FALSE("scale_attn_weights", SCALE_ONE))),
    CAUSAL("gpt_neox", "gpt-neox", .biased = UNLESS_DENIED("attention_bias"), .rotary = ATTEND_ROTARY_HALVES,
           .part = 0.25, GPT_NEOX),
    CAUSAL("gpt_neox_japanese", "gpt-neox", .rotary = ATTEND_ROTARY_HALVES, .part = 1, GPT_NEOX),
    CAUSAL("gptj", "gptj", .rotary = ATTEND_ROTARY_INTERLEAVED, .dim = 64),
    CAUSAL("codegen", "codegen", .rotary = ATTEND_ROTARY_INTERLEAVED, .dim = 64),
    CAUSAL("gpt_neo", "gptj", .scale_one = true, .window = ATTEND_WINDOW_NEO, .span = 256),
    CAUSAL("bloom", "falcon", .rules = RULES(IF_SET("model_type", ALIBI))),
    CAUSAL("mpt", "mpt", .needs = NEEDS({"attn_config/alibi", ATTEND_OVERRIDE_ALIBI, "--alibi"}),
           .rules = RULES(IF_TRUE("attn_config/alibi", ALIBI),
                          IF_FALSE("attn_config/alibi", REFUSE,
                                   .value = "transformers adds ALiBi even so; give --alibi none or causal"),
                          IF_SET("attn_config/softmax_scale", SCALE),
                          IF_SET("attn_config/clip_qkv", REFUSE,
                                 .value = "Q, K and V are clipped, which attend does not do"),
                          IF_TRUE("attn_config/qk_ln", REFUSE, .value = "norms over all heads at once"),
                          IF_TRUE("attn_config/prefix_lm", REFUSE,
                                  .value = "all queries attend to a prefix: give --prefix"))),
    CAUSAL("falcon", "falcon", .biased = IF_ASKED("bias"), .rotary = ATTEND_ROTARY_HALVES,
           .rules = RULES(IF_TRUE("alibi", SCALED_ALIBI))),
    CAUSAL("opt", "torch", .biased = UNLESS_DENIED("enable_bias")),
    CAUSAL("biogpt", "torch"),
    CAUSAL("xglm", "torch"),
    CAUSAL("trocr", "torch", .rules = RULES(READ("is_decoder"))),
    BOTH_WAYS("xlm", "xlm", .rules = RULES(IF_TRUE("causal", CAUSAL))),
    BOTH_WAYS("flaubert", "xlm", .rules = RULES(IF_TRUE("causal", CAUSAL))),

    /* BERT's relatives. */
    BERT("bert"),
    BERT("roberta"),
    BERT("xlm-roberta"),
    BERT("xlm-roberta-xl"),
    BERT("camembert"),
    BERT("electra"),
    BERT("ernie"),
    BERT("megatron-bert"),
    BERT("bert-generation"),
    BERT("roberta-prelayernorm"),
    BERT("data2vec-text"),
    BERT("rembert"),
    BERT("roc_bert"),
    BERT("layoutlm"),
    BERT("markuplm"),
    BERT("splinter"),
    BERT("tapas"),
    BERT("visual_bert"),
    BERT("xmod"),
    BERT("distilbert"),
    BERT("albert"),
    BERT("chinese_clip_text_model"),
    BERT("clap_text_model"),
    BERT("align_text_model"),
    BERT("altclip_text_model"),
    BERT("dpr"),
    BOTH_WAYS("mpnet", "mpnet", .relative_distance = 128),
    BOTH_WAYS("esm", "bert",
              .rules = RULES(IF_TEXT("position_embedding_type", "rotary", HALVES),
                             IF_TEXT("position_embedding_type", "relative_key", REFUSE),
                             IF_TEXT("position_embedding_type", "relative_key_query", REFUSE),
                             IF_TRUE("is_decoder", CAUSAL))),
    BOTH_WAYS(
        "roformer", "bert", .rotary = ATTEND_ROTARY_INTERLEAVED,
        .rules = RULES(IF_TRUE("rotary_value", REFUSE, .value = "V is rotated too, which attend does not do"),
                       IF_TRUE("is_decoder", CAUSAL))),
    BOTH_WAYS("modernbert", "modernbert", .biased = IF_ASKED("attention_bias"),
              .rotary = ATTEND_ROTARY_HALVES, .base = 160000, .window = ATTEND_WINDOW_BERT, .pattern = 3,
              .span = 128, .base_key = "global_rope_theta", .sliding_base = "local_rope_theta"),
    BOTH_WAYS("nomic_bert", "mpt", .rotary = ATTEND_ROTARY_HALVES, .base = 1000,
              .rules = RULES(READ("rotary_emb_base"), IF_TRUE("rotary_emb_interleaved", REFUSE),
                             IF_SET("rotary_scaling_factor", REFUSE), IF_SET("rotary_emb_scale_base", REFUSE),
                             IF_TRUE("causal", REFUSE))),
    {.model_type = "blip_text_model",
     .layouts = "bert",
     .causal = ATTEND_MUST_BE_GIVEN,
     .rules = RULES(READ("is_decoder"), RELATIVE_BERT)},
    {.model_type = "git", .layouts = "bert", .causal = ATTEND_MUST_BE_GIVEN, .rules = RULES(RELATIVE_BERT)},
    REFUSED("big_bird", "block-sparse attention with random blocks, under BERT's names"),
    REFUSED("nystromformer", "Nyström's approximation, under BERT's names"),
    REFUSED("yoso", "sampled attention, under BERT's names"),
    REFUSED("mra", "multi-resolution attention, under BERT's names"),
    REFUSED("nezha", "relative positions in keys and values, which attend does not do"),
    REFUSED("deberta", "disentangled attention, which attend does not do yet"),
    REFUSED("deberta-v2", "disentangled attention, which attend does not do yet"),
    REFUSED("convbert", "attention mixed with convolutions"),
    REFUSED("canine", "attention within strides of characters"),
    REFUSED("longformer", "windows with global tokens and projections of their own"),
    REFUSED("led", "windows with global tokens and projections of their own"),
    REFUSED("bigbird_pegasus", "block-sparse attention with random blocks"),
    REFUSED("layoutlmv2", "relative positions on the page, which attend does not do"),
    REFUSED("layoutlmv3", "relative positions on the page, which attend does not do"),
    REFUSED("bros", "relative positions on the page, which attend does not do"),
    REFUSED("lilt", "scores of text and layout are added"),
    REFUSED("luke", "words and entities with queries of their own"),
    REFUSED("mluke", "words and entities with queries of their own"),
    REFUSED("mobilebert", "Q and K read another input than V"),
    REFUSED("squeezebert", "its projections are grouped convolutions"),
    REFUSED("ibert", "quantised attention"),

    /* T5 and models with its layers. */
    T5("t5"),
    T5("mt5"),
    T5("umt5"),
    T5("switch_transformers"),
    REFUSED("longt5", "attention within blocks, or with global tokens of blocks"),
    REFUSED("udop", "relative positions on the page, which attend does not do"),

    /* Encoder-decoder models. */
    STACKS("bart", "torch"),
    STACKS("mbart", "torch"),
    STACKS("pegasus", "torch"),
    STACKS("marian", "torch"),
    STACKS("m2m_100", "torch"),
    STACKS("blenderbot", "torch"),
    STACKS("blenderbot-small", "torch"),
    STACKS("plbart", "torch"),
    STACKS("mvp", "torch"),
    STACKS("whisper", "torch"),
    STACKS("speech_to_text", "torch"),
    STACKS("fsmt", "torch"),
    STACKS("nllb-moe", "torch"),
    REFUSED("informer", "attention of sampled queries"),
    REFUSED("autoformer", "correlation in time, under BART's names"),
    REFUSED("pegasus_x", "attention within blocks, with global tokens"),
    REFUSED("prophetnet", "n-gram attention"),

    /* Vision, audio, and models of two modalities. */
    VIT("vit"),
    VIT("deit"),
    VIT("dinov2"),
    VIT("dinov2_with_registers"),
    VIT("vit_mae", .decoder_heads = "decoder_num_attention_heads"),
    VIT("vit_msn"),
    VIT("yolos"),
    BOTH_WAYS("videomae", "bert vit", .decoder_heads = "decoder_num_attention_heads"),
    VIT("vivit"),
    VIT("audio-spectrogram-transformer"),
    VIT("dpt"),
    VIT("ijepa"),
    VIT("vilt"),
    VIT("flava_text_model"),
    VIT("flava_image_model"),
    VIT("flava_multimodal_model"),
    BOTH_WAYS("beit", "bert vit",
              .rules = RULES(IF_TRUE("use_relative_position_bias", REFUSE,
                                     .value = "relative positions of patches, which attend does not do"),
                             IF_TRUE("use_shared_relative_position_bias", REFUSE,
                                     .value = "relative positions of patches, which attend does not do"))),
    BOTH_WAYS("data2vec-vision", "bert vit",
              .rules = RULES(IF_TRUE("use_relative_position_bias", REFUSE,
                                     .value = "relative positions of patches, which attend does not do"),
                             IF_TRUE("use_shared_relative_position_bias", REFUSE,
                                     .value = "relative positions of patches, which attend does not do"))),
    REFUSED("dinov3_vit", "rotary embeddings in two dimensions, which attend does not do"),
    REFUSED("sam", "relative positions in two dimensions, within windows"),
    REFUSED("sam_vision_model", "relative positions in two dimensions, within windows"),
    REFUSED("swin", "attention within shifted windows of patches"),
    REFUSED("swinv2", "attention within shifted windows of patches"),
    REFUSED("donut-swin", "attention within shifted windows of patches"),
    REFUSED("pixtral", "rotary embeddings in two dimensions, which attend does not do"),
    CAUSAL("clip_text_model", "torch"),
    BOTH_WAYS("clip_vision_model", "torch"),
    CAUSAL("clipseg_text_model", "torch"),
    BOTH_WAYS("clipseg_vision_model", "torch"),
    CAUSAL("owlvit_text_model", "torch"),
    BOTH_WAYS("owlvit_vision_model", "torch"),
    CAUSAL("owlv2_text_model", "torch"),
    BOTH_WAYS("owlv2_vision_model", "torch"),
    CAUSAL("groupvit_text_model", "torch"),
    BOTH_WAYS("groupvit_vision_model", "torch"),
    CAUSAL("xclip_text_model", "torch"),
    BOTH_WAYS("altclip_vision_model", "torch"),
    BOTH_WAYS("chinese_clip_vision_model", "torch"),
    BOTH_WAYS("siglip_text_model", "torch", .without = "head."),
    BOTH_WAYS("siglip_vision_model", "torch", .without = "head."),
    BOTH_WAYS("siglip2_text_model", "torch", .without = "head."),
    BOTH_WAYS("idefics3_vision", "torch"),
    BOTH_WAYS("smolvlm_vision", "torch"),
    BOTH_WAYS("qwen2_audio_encoder", "torch"),
    BOTH_WAYS("voxtral_encoder", "torch"),
    BOTH_WAYS("git_vision_model", "torch"),
    BOTH_WAYS("blip_vision_model", "qkv"),
    BOTH_WAYS("blip_2_vision_model", "qkv", .biased = UNLESS_DENIED("qkv_bias")),
    BOTH_WAYS("instructblip_vision_model", "qkv", .biased = UNLESS_DENIED("qkv_bias")),
    BOTH_WAYS("wav2vec2", "torch"),
    BOTH_WAYS("hubert", "torch"),
    BOTH_WAYS("data2vec-audio", "torch"),
    BOTH_WAYS("unispeech", "torch"),
    BOTH_WAYS("unispeech-sat", "torch"),
    BOTH_WAYS("sew", "torch"),
    REFUSED("wavlm", "gated relative positions, which attend does not do"),
    REFUSED("sew-d", "disentangled attention, which attend does not do yet"),
    REFUSED("wav2vec2-conformer", "relative positions of conformers, which attend does not do"),
    REFUSED("wav2vec2-bert", "relative positions in keys, which attend does not do"),

    IN_PARTS("clip"),
    IN_PARTS("clipseg"),
    IN_PARTS("owlvit"),
    IN_PARTS("owlv2"),
    IN_PARTS("groupvit"),
    IN_PARTS("xclip"),
    IN_PARTS("altclip"),
    IN_PARTS("chinese_clip"),
    IN_PARTS("siglip"),
    IN_PARTS("siglip2"),
    IN_PARTS("blip"),
    IN_PARTS("clap"),
    IN_PARTS("align"),
    IN_PARTS("llava"),
    IN_PARTS("llava_next"),
    IN_PARTS("llava_next_video"),
    IN_PARTS("llava_onevision"),
    IN_PARTS("video_llava"),
    IN_PARTS("vipllava"),
    IN_PARTS("aya_vision"),
    IN_PARTS("cohere2_vision"),
    IN_PARTS("gemma3", .causal = ATTEND_MUST_BE_GIVEN),
    IN_PARTS("paligemma", .causal = ATTEND_MUST_BE_GIVEN),
    IN_PARTS("mistral3"),
    IN_PARTS("got_ocr2"),
    IN_PARTS("internvl"),
    IN_PARTS("idefics3"),
    IN_PARTS("smolvlm"),
    IN_PARTS("aria"),
    IN_PARTS("lfm2_vl"),
    IN_PARTS("voxtral", .base = 1e8),
    IN_PARTS("qwen2_audio"),
};
#pragma GCC diagnostic pop
enum { ROWS = sizeof rows / sizeof *rows };

const attend_architecture *attend_architecture_at(int index)
{
    return index >= 0 && index < ROWS ? &rows[index] : NULL;
}

const attend_architecture *attend_architecture_of(const char *model_type)
{
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(rows[i].model_type, model_type)) return &rows[i];
    return NULL;
}

bool attend_architecture_has_layout(const attend_architecture *row, const char *layout)
{
    const size_t length = strlen(layout);
    for (const char *word = row->layouts; word && *word; word += strcspn(word, " "), word += *word == ' ')
        if (strcspn(word, " ") == length && !strncmp(word, layout, length)) return true;
    return false;
}

#define ROPE (ATTEND_OVERRIDE_ROTARY)
static const attend_known_key known_keys[] = {
    {"attention_multiplier", ATTEND_OVERRIDE_SCALE, "--scale", NULL, 0},
    {"query_pre_attn_scalar", ATTEND_OVERRIDE_SCALE, "--scale", NULL, 0},
    {"key_multiplier", ATTEND_OVERRIDE_SCALE, "--scale", NULL, 1},
    {"attention_scale", ATTEND_OVERRIDE_SCALE, "--scale", NULL, 0},
    {"attn_config/softmax_scale", ATTEND_OVERRIDE_SCALE, "--scale", NULL, 0},
    {"scale_attn_by_inverse_layer_idx", ATTEND_OVERRIDE_SCALE, "--scale", NULL, 0},
    {"mup_attn_multiplier", ATTEND_OVERRIDE_SCALE, "--scale", NULL, 0},
    {"attn_logit_softcapping", ATTEND_OVERRIDE_SOFTCAP, "--softcap", NULL, 0},
    {"attn_logit_softcap", ATTEND_OVERRIDE_SOFTCAP, "--softcap", NULL, 0},
    {"clip_qkv", 0, NULL, NULL, 0},
    {"attn_config/clip_qkv", 0, NULL, NULL, 0},
    {"sliding_window", ATTEND_OVERRIDE_WINDOW, "--window", NULL, 0},
    {"attention_window", ATTEND_OVERRIDE_WINDOW, "--window", NULL, 0},
    {"attention_window_size", ATTEND_OVERRIDE_WINDOW, "--window", NULL, 0},
    {"local_attention", ATTEND_OVERRIDE_WINDOW, "--window", NULL, 0},
    {"window_size", ATTEND_OVERRIDE_WINDOW, "--window", NULL, 0},
    {"attention_types", ATTEND_OVERRIDE_WINDOW, "--window", NULL, 0},
    {"attention_chunk_size", ATTEND_OVERRIDE_CHUNK, "--chunk", NULL, 0},
    {"alibi", ATTEND_OVERRIDE_ALIBI, "--alibi", NULL, 0},
    {"attn_config/alibi", ATTEND_OVERRIDE_ALIBI, "--alibi", NULL, 0},
    {"position_embedding_type", 0, NULL, "absolute", 0},
    {"relative_attention", 0, NULL, NULL, 0},
    {"use_relative_position_bias", 0, NULL, NULL, 0},
    {"use_shared_relative_position_bias", 0, NULL, NULL, 0},
    {"has_relative_attention_bias", 0, NULL, NULL, 0},
    {"has_spatial_attention_bias", 0, NULL, NULL, 0},
    {"use_rel_pos", 0, NULL, NULL, 0},
    {"relative_attention_num_buckets", ATTEND_OVERRIDE_RELATIVE, "--relative", NULL, 0},
    {"is_decoder", ATTEND_OVERRIDE_CAUSAL, "--causal", NULL, 0},
    {"causal", ATTEND_OVERRIDE_CAUSAL, "--causal", NULL, 0},
    {"use_bidirectional_attention", ATTEND_OVERRIDE_CAUSAL, "--causal", NULL, 0},
    {"attn_config/prefix_lm", 0, NULL, NULL, 0},
    {"attn_config/qk_ln", ATTEND_OVERRIDE_QK_NORM, "--qk-norm", NULL, 0},
    {"qk_layernorm", ATTEND_OVERRIDE_QK_NORM, "--qk-norm", NULL, 0},
    {"use_qk_norm", ATTEND_OVERRIDE_QK_NORM, "--qk-norm", NULL, 0},
    {"qk_norm", ATTEND_OVERRIDE_QK_NORM, "--qk-norm", NULL, 0},
    {"rotary_pct", ATTEND_OVERRIDE_ROTARY_DIM, "--rotary-dim", NULL, 1},
    {"rotary_emb_fraction", ATTEND_OVERRIDE_ROTARY_DIM, "--rotary-dim", NULL, 1},
    {"partial_rotary_factor", ATTEND_OVERRIDE_ROTARY_DIM, "--rotary-dim", NULL, 1},
    {"rotary_dim", ATTEND_OVERRIDE_ROTARY_DIM, "--rotary-dim", NULL, 0},
    {"rotary_emb_base", ATTEND_OVERRIDE_ROTARY_BASE, "--rotary-base", NULL, 0},
    {"global_rope_theta", ATTEND_OVERRIDE_ROTARY_BASE, "--rotary-base", NULL, 0},
    {"rope_scaling", ROPE, "--rotary", NULL, 0},
    {"rope_parameters", ROPE, "--rotary", NULL, 0},
    {"rope_interleave", ROPE, "--rotary", NULL, 0},
    {"rope_local_base_freq", ROPE, "--rotary", NULL, 0},
    {"no_rope_layers", ROPE, "--rotary", NULL, 0},
    {"no_rope_layer_interval", ROPE, "--rotary", NULL, 0},
    {"rotary_value", 0, NULL, NULL, 0},
    {"attn_temperature_tuning", 0, NULL, NULL, 0},
    {"attention_type", 0, NULL, "original_full", 0},
    {"kv_lora_rank", 0, NULL, NULL, 0},
    {"num_kv_shared_layers", 0, NULL, NULL, 0},
    {"lambda_std_dev", 0, NULL, NULL, 0},
};

const attend_known_key *attend_known_key_at(int index)
{
    return index >= 0 && index < (int)(sizeof known_keys / sizeof *known_keys) ? &known_keys[index] : NULL;
}

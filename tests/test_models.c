/* Layers of small random models with the head shapes and conventions of well-known ones, straight from their checkpoints and config.json:
   what transformers' own code made of them (tests/peers/models.py and architectures.py) is within the rules, and no longer once a convention is left out. */
#include "support/command.h"
#include "support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

typedef struct model {
    const char *name;
    const char *without[5]; /* options that each take a convention away, NULL-terminated */
    const char *options;    /* for what no checkpoint says; NULL: none */
} model;

#define T5_TABLE TEST_DATA "/models/t5/layer.safetensors:encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
#define GPT1_TABLE "--position-table " TEST_DATA "/models/gpt1/layer.safetensors:positions_embed.weight"

static const model models[] = {
    {.name = "gpt2", .without = {"--causal=none"}},
    {.name = "llama3", .without = {"--rotary none", "--rotary interleaved", "--rotary-base 10000"}},
    {.name = "gemma2", .without = {"--softcap 50", "--window -1,-1", "--rotary none"}},
    {.name = "gpt_oss", .without = {"--window -1,-1", "--rotary none", "--rotary-scaling none"}},
    {.name = "qwen3", .without = {"--qk-norm none", "--qk-norm layer", "--qk-norm rms,0.1"}},
    {.name = "gpt1", .without = {"", GPT1_TABLE " --first-position 1", GPT1_TABLE " --causal=none"}, .options = GPT1_TABLE},
    {.name = "marian", .without = {"", "--absolute sinusoidal", "--absolute sinusoidal-halves --first-position 1", "--absolute sinusoidal-halves --absolute-base 9000"},
     .options = "--absolute sinusoidal-halves"},
    /* Rows of Q, K and V side by side in one matrix, by heads or blocks of heads. */
    {.name = "gpt_neox", .without = {"--rotary none", "--rotary interleaved", "--rotary-dim 8", "--causal=none"}},
    {.name = "falcon", .without = {"--rotary none", "--causal=none"}},
    {.name = "gpt_bigcode", .without = {"--causal=none"}},
    {.name = "codegen", .without = {"--rotary halves", "--causal=none"}},
    {.name = "persimmon", .without = {"--qk-norm none", "--qk-norm rms", "--rotary-dim 8"}},
    {.name = "blip", .without = {"--causal=top-left"}},
    /* Scores. */
    {.name = "falcon_alibi", .without = {"--alibi none", "--alibi causal"}},
    {.name = "bloom", .without = {"--alibi none", "--causal=none"}},
    {.name = "mpt", .without = {"--alibi none", "--scale 1"}},
    {.name = "granite", .without = {"--scale 0.35"}},
    {.name = "falcon_h1", .without = {"--scale 0.35", "--rotary none"}},
    {.name = "gpt2_by_layer", .without = {"--scale 0.35"}},
    {.name = "gpt_neo", .without = {"--scale 0.35", "--window -1,-1"}},
    {.name = "t5", .without = {"--scale 0.35", "--causal=top-left", "--relative one-sided,128 --relative-table " T5_TABLE}},
    {.name = "t5_decoder", .without = {"--scale 0.35", "--causal=none"}},
    {.name = "mpnet", .without = {"--scale 1", "--causal=top-left"}},
    /* Who sees whom. */
    {.name = "mistral", .without = {"--window -1,-1", "--window 8,-1", "--rotary interleaved"}},
    {.name = "modernbert", .without = {"--window -1,-1", "--window 8,-1", "--rotary-base 160000"}},
    {.name = "bart", .without = {"--causal=none", "--heads 2"}},
    {.name = "clip", .without = {"--causal=none"}},
    {.name = "xlm", .without = {"--causal=none"}},
    {.name = "eurobert", .without = {"--causal=top-left", "--rotary none"}},
    {.name = "videomae", .without = {"--causal=top-left", "--heads 2"}},
    /* Positions, and norms of Q and K. */
    {.name = "cohere2", .without = {"--rotary interleaved", "--causal=none"}},
    {.name = "exaone4", .without = {"--rotary none", "--window -1,-1", "--qk-norm none"}},
    {.name = "smollm3", .without = {"--rotary halves"}},
    {.name = "gptj", .without = {"--rotary halves", "--rotary-dim 8"}},
    {.name = "roformer", .without = {"--rotary none", "--rotary halves"}},
    {.name = "esm", .without = {"--rotary none", "--rotary interleaved"}},
    {.name = "gemma3", .without = {"--rotary-base 1000000", "--window -1,-1", "--qk-norm none"}},
    {.name = "phi", .without = {"--qk-norm none", "--rotary-dim 8"}},
    {.name = "lfm2", .without = {"--qk-norm none", "--rotary none"}},
};

#define COMPARE "compare --weights %s/models/%s/layer.safetensors --input %s/models/%s/x.npy --quiet "
#define PLACES(m) TEST_DATA, (m).name, TEST_DATA, (m).name
#define OPTIONS(m) ((m).options ? (m).options : "")

static void what_transformers_computes_is_within_the_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        test_expect(0, "", COMPARE "--result %s/models/%s/z.npy %s", PLACES(models[i]), TEST_DATA, models[i].name, OPTIONS(models[i]));
}

static void without_a_convention_it_is_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (int j = 0; models[i].without[j]; j++) {
            test_process p = test_attend(COMPARE "--result %s/models/%s/z.npy %s", PLACES(models[i]), TEST_DATA, models[i].name, models[i].without[j]);
            if (p.code != 3) fail_msg("%s with %s: exit %d, %s", models[i].name, models[i].without[j], p.code, p.err);
            test_process_free(&p);
        }
}

static void the_cpu_runs_them_within_the_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (int dtype = 0; dtype < 2; dtype++)
            test_expect(0, "", COMPARE "--device cpu --dtype %s %s", PLACES(models[i]), dtype ? "bf16" : "f32", OPTIONS(models[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_transformers_computes_is_within_the_rules),
        cmocka_unit_test(without_a_convention_it_is_not),
        cmocka_unit_test(the_cpu_runs_them_within_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

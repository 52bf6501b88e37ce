/* Tensors of more than 2^31 elements, mapped from sparse files and streamed through the least budget: the bits of the same rows without the rest. */
#include "support/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

/* The window leaves the last keys, in two spans that begin at 2^31 elements. Rows of q and out are so far apart that theirs lie beyond that, too. */
enum { DIM = 128, QUERIES = 3, WINDOW = 1100, SEEN = 2048 };
static const int64_t keys = ((int64_t)1 << 31) / DIM + SEEN, far_apart = (int64_t)1 << 30;

typedef struct mapping {
    FILE *file;
    void *memory;
    size_t bytes;
} mapping;

static bool map(mapping *m, int64_t elements)
{
    m->file = tmpfile(), m->bytes = (size_t)elements * 2, m->memory = MAP_FAILED;
    if (m->file && !ftruncate(fileno(m->file), (off_t)m->bytes))
        m->memory = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(m->file), 0);
    return m->memory != MAP_FAILED;
}

static void unmap(mapping *m)
{
    if (m->memory != MAP_FAILED) munmap(m->memory, m->bytes);
    if (m->file) fclose(m->file);
}

static attend_tensor tensor_of(void *memory, int64_t rows, int64_t apart)
{
    attend_tensor t = attend_tensor_4d(memory, ATTEND_F16, 1, rows, 1, DIM);
    t.stride[0] = rows * apart, t.stride[1] = apart;
    return t;
}

static void run(attend_context *context, int64_t seqlen_k, const attend_attention_args *args)
{
    const attend_problem problem = {.batch = 1, .seqlen_q = QUERIES, .seqlen_k = seqlen_k, .num_heads = 1, .head_dim = DIM, .dtype = ATTEND_F16,
                                    .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .windowed = true, .window_left = WINDOW, .window_right = -1};
    size_t least;
    attend_plan *plan;
    attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &least, .memory_limit_bytes = 1};
    assert_int_equal(attend_attention_plan_with(context, &problem, &options, &plan), ATTEND_OUT_OF_MEMORY);
    options.memory_limit_bytes = least;
    if (attend_attention_plan_with(context, &problem, &options, &plan) || attend_attention_forward(plan, args) || attend_synchronize(context))
        fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
}

static void far_rows_are_read_and_written(void **state)
{
    (void)state;
    static uint16_t near[3][SEEN * DIM], out[QUERIES * DIM];
    mapping all[4] = {{0}};
    attend_context *context;
    const int64_t sizes[] = {far_apart * (QUERIES - 1) + DIM, keys * DIM, keys * DIM, far_apart * (QUERIES - 1) + DIM};
    bool mapped = true;
    for (int i = 0; i < 4; i++) mapped = map(&all[i], sizes[i]) && mapped;
    if (!mapped) {
        for (int i = 0; i < 4; i++) unmap(&all[i]);
        print_message("skipped: files of %lld bytes are refused here\n", (long long)keys * DIM * 2);
        skip();
    }
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < SEEN * DIM; i++) near[t][i] = (uint16_t)(0x3800 | ((uint32_t)(i + 1 + t * SEEN * DIM) * 2654435761u >> 16 & 0x83ff));
    for (int t = 1; t < 3; t++) memcpy((uint16_t *)all[t].memory + (keys - SEEN) * DIM, near[t], sizeof near[t]);
    for (int64_t i = 0; i < QUERIES; i++) memcpy((uint16_t *)all[0].memory + i * far_apart, near[0] + i * DIM, DIM * 2);
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    run(context, SEEN, &(attend_attention_args){.q = tensor_of(near[0], QUERIES, DIM), .k = tensor_of(near[1], SEEN, DIM), .v = tensor_of(near[2], SEEN, DIM),
                                                .out = tensor_of(out, QUERIES, DIM)});
    run(context, keys, &(attend_attention_args){.q = tensor_of(all[0].memory, QUERIES, far_apart), .k = tensor_of(all[1].memory, keys, DIM),
                                                .v = tensor_of(all[2].memory, keys, DIM), .out = tensor_of(all[3].memory, QUERIES, far_apart)});
    for (int64_t i = 0; i < QUERIES; i++) {
        const uint16_t *row = (const uint16_t *)all[3].memory + i * far_apart;
        if (memcmp(out + i * DIM, row, DIM * 2)) fail_msg("query %lld has other bits", (long long)i);
        assert_true(row[0] != 0);
    }
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    for (int i = 0; i < 4; i++) unmap(&all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(far_rows_are_read_and_written)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

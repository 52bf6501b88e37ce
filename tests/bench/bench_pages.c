/* One run of attention on CUDA over keys in pages, or in one piece, for scripts/page-price to count what it takes.
   bench_pages PAGE_SIZE BATCH QUERIES KEYS HEADS KV_HEADS HEAD_DIM DTYPE, page size 0: one piece. */
#include <attend/attend.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_SIZE, BATCH, QUERIES, KEYS, HEADS, KV_HEADS, DIM, NUMBERS };

/* Zeros: what is counted does not depend on values. */
static void *reserve(int64_t elements, attend_dtype dtype)
{
    const size_t bytes = (size_t)elements * attend_dtype_bytes(dtype);
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes) || cudaMemset(memory, 0, bytes)) exit(1);
    return memory;
}

/* A table in which the pages of a sequence are neighbours nowhere. */
static attend_tensor make_table(int64_t batch, int64_t columns)
{
    int32_t *const entries = malloc((size_t)(batch * columns) * sizeof *entries), *const table = reserve(batch * columns, ATTEND_I32);
    for (int64_t i = 0; entries && i < batch * columns; i++) entries[i] = (int32_t)(i * 7919 % (batch * columns));
    if (!entries || cudaMemcpy(table, entries, (size_t)(batch * columns) * sizeof *entries, cudaMemcpyHostToDevice)) exit(1);
    free(entries);
    return attend_tensor_2d(table, ATTEND_I32, batch, columns);
}

int main(int argc, char **argv)
{
    int64_t n[NUMBERS];
    if (argc != NUMBERS + 2) return 2;
    for (int i = 0; i < NUMBERS; i++) n[i] = atoll(argv[i + 1]);
    const attend_dtype dtype = strcmp(argv[NUMBERS + 1], "f32") ? ATTEND_BF16 : ATTEND_F32;
    const int64_t page = n[PAGE_SIZE], columns = page ? (n[KEYS] + page - 1) / page : 0, rows = n[BATCH] * (page ? columns * page : n[KEYS]);
    const attend_problem problem = {.batch = n[BATCH], .seqlen_q = n[QUERIES], .seqlen_k = n[KEYS], .num_heads = n[HEADS], .num_kv_heads = n[KV_HEADS],
                                    .head_dim = n[DIM], .dtype = dtype, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT};
    const int64_t q_elements = n[BATCH] * n[QUERIES] * n[HEADS] * n[DIM], k_elements = rows * n[KV_HEADS] * n[DIM];
    void *const q = reserve(q_elements, dtype), *const k = reserve(k_elements, dtype), *const v = reserve(k_elements, dtype),
         *const out = reserve(q_elements, dtype);
    attend_attention_args args = {.q = attend_tensor_4d(q, dtype, n[BATCH], n[QUERIES], n[HEADS], n[DIM]),
                                  .out = attend_tensor_4d(out, dtype, n[BATCH], n[QUERIES], n[HEADS], n[DIM])};
    attend_cache cache = {0};
    if (page) {
        cache.k = attend_tensor_4d(k, dtype, n[BATCH] * columns, page, n[KV_HEADS], n[DIM]);
        cache.v = attend_tensor_4d(v, dtype, n[BATCH] * columns, page, n[KV_HEADS], n[DIM]);
        cache.block_table = make_table(n[BATCH], columns);
        args.cache = &cache;
    } else {
        args.k = attend_tensor_4d(k, dtype, n[BATCH], n[KEYS], n[KV_HEADS], n[DIM]);
        args.v = attend_tensor_4d(v, dtype, n[BATCH], n[KEYS], n[KV_HEADS], n[DIM]);
    }
    if (cudaDeviceSynchronize()) return 1; /* attend's stream waits for no other */
    attend_context *context = NULL;
    attend_plan *plan = NULL;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context) || attend_attention_plan(context, &problem, &plan) ||
        attend_attention_forward(plan, &args) || attend_synchronize(context)) {
        fprintf(stderr, "%s\n", attend_error_message());
        return 1;
    }
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    cudaFree(q), cudaFree(k), cudaFree(v), cudaFree(out), cudaFree(cache.block_table.data);
    return 0;
}

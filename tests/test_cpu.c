/* What the CPU path promises beyond the two rules: a row's bits depend on its own numbers alone, not on threads, batch, neighbours,
   splits or the way chosen; hidden keys reach nothing; many host threads may work at once. */
#include "support/fixture.h"
#include "cpu/cpu.h"
#include "tool/values.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <string.h>
#include <cmocka.h>

/* One problem with tensors of its own, filled and run. */
typedef struct job {
    attend_problem p;
    attend_tensor q, k, v, out, lse;
} job;

static attend_tensor tensor(attend_dtype dtype, int64_t b, int64_t n, int64_t h, int64_t d)
{
    size_t bytes = ((size_t)(b * n * h * d) * attend_dtype_bytes(dtype) + 64) / 64 * 64;
    void *data = aligned_alloc(64, bytes);
    assert_non_null(data);
    memset(data, 0xff, bytes);
    attend_tensor t = attend_tensor_4d(data, dtype, b, n, h, d);
    memcpy(t.stride, (int64_t[]){n * h * d, h * d, d, 1}, sizeof t.stride);
    return t;
}

static job job_make(attend_problem p, attend_values values)
{
    if (!p.num_kv_heads) p.num_kv_heads = p.num_heads;
    job j = {.p = p};
    j.q = tensor(p.dtype, p.batch, p.seqlen_q, p.num_heads, p.head_dim);
    j.k = tensor(p.dtype, p.batch, p.seqlen_k, p.num_kv_heads, p.head_dim);
    j.v = tensor(p.dtype, p.batch, p.seqlen_k, p.num_kv_heads, p.head_dim);
    j.out = tensor(p.dtype, p.batch, p.seqlen_q, p.num_heads, p.head_dim);
    j.lse = tensor(ATTEND_F32, 1, p.batch, p.num_heads, p.seqlen_q);
    j.lse = attend_tensor_3d(j.lse.data, ATTEND_F32, p.batch, p.num_heads, p.seqlen_q);
    p.softmax_scale = 1 / sqrtf((float)p.head_dim);
    p.head_dim_v = p.head_dim;
    attend_values_fill(values, 7, &p, &j.q, &j.k, &j.v);
    return j;
}

static void job_free(job *j) { free(j->q.data), free(j->k.data), free(j->v.data), free(j->out.data), free(j->lse.data); }

static attend_status run(const attend_problem *p, const attend_attention_args *args, int threads, attend_cpu_schedule *schedule)
{
    attend_context *context = NULL;
    attend_plan *plan = NULL;
    attend_status status = attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = threads}, &context);
    if (!status) status = attend_attention_plan(context, p, &plan);
    if (!status && schedule) *schedule = ((attend_cpu_plan *)plan->state)->schedule;
    if (!status) status = attend_attention_forward(plan, args);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    return status;
}

static attend_cpu_schedule job_run(job *j, int threads)
{
    attend_cpu_schedule schedule = ATTEND_CPU_WHOLE;
    const attend_attention_args args = {.q = j->q, .k = j->k, .v = j->v, .out = j->out, .lse = j->lse};
    if (run(&j->p, &args, threads, &schedule)) fail_msg("%s", attend_error_message());
    return schedule;
}

static void *bytes_of(const attend_tensor *t, size_t *bytes)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    *bytes = (size_t)n * attend_dtype_bytes(t->dtype);
    void *copy = malloc(*bytes + 1);
    memcpy(copy, t->data, *bytes);
    return copy;
}

/* Shapes that reach every way: whole tasks, split spans, few rows. */
static const attend_problem shapes[] = {
    {.batch = 2, .seqlen_q = 300, .seqlen_k = 300, .num_heads = 4, .num_kv_heads = 2, .head_dim = 40},
    {.batch = 1, .seqlen_q = 300, .seqlen_k = 2500, .num_heads = 2, .head_dim = 64, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
    {.batch = 1, .seqlen_q = 33, .seqlen_k = 5000, .num_heads = 1, .head_dim = 64},
    {.batch = 1, .seqlen_q = 1, .seqlen_k = 4100, .num_heads = 8, .num_kv_heads = 2, .head_dim = 80, .dtype = ATTEND_BF16},
    {.batch = 1, .seqlen_q = 2, .seqlen_k = 4500, .num_heads = 16, .num_kv_heads = 8, .head_dim = 72, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
    {.batch = 1, .seqlen_q = 40, .seqlen_k = 1500, .num_heads = 2, .num_kv_heads = 1, .head_dim = 72, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
    {.batch = 2, .seqlen_q = 2, .seqlen_k = 3000, .num_heads = 6, .num_kv_heads = 3, .head_dim = 33, .dtype = ATTEND_F16, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    bool taken[3] = {false, false, false};
    for (int i = 0; i < SHAPES; i++) {
        job j = job_make(shapes[i], ATTEND_VALUES_SHARP);
        size_t bytes, lse_bytes;
        taken[job_run(&j, 1)] = true;
        void *out = bytes_of(&j.out, &bytes), *lse = bytes_of(&j.lse, &lse_bytes);
        for (int threads = 2; threads <= 19; threads = threads * 2 + 1) {
            memset(j.out.data, 0xff, bytes);
            taken[job_run(&j, threads)] = true;
            assert_memory_equal(out, j.out.data, bytes);
            assert_memory_equal(lse, j.lse.data, lse_bytes);
        }
        free(out), free(lse);
        job_free(&j);
    }
    for (int schedule = 0; schedule < 3; schedule++) assert_true(taken[schedule]);
}

/* Runs queries [first, first + count) of entry b and head h alone and finds the same bits. */
static void expect_same_rows(const job *j, int64_t b, int64_t h, int64_t first, int64_t count)
{
    const attend_problem *whole = &j->p;
    int64_t group = whole->num_heads / whole->num_kv_heads, d = whole->head_dim, element = (int64_t)attend_dtype_bytes(whole->dtype);
    attend_problem p = *whole;
    p.batch = 1, p.num_heads = p.num_kv_heads = 1, p.seqlen_q = count;
    if (p.causal) p.seqlen_k = whole->seqlen_k - whole->seqlen_q + first + count; /* bottom right: later keys are seen by none */
    job part = {.p = p, .q = j->q, .k = j->k, .v = j->v};
    part.q.data = (char *)j->q.data + (b * j->q.stride[0] + first * j->q.stride[1] + h * d) * element;
    part.k.data = (char *)j->k.data + (b * j->k.stride[0] + h / group * d) * element;
    part.v.data = (char *)j->v.data + (b * j->v.stride[0] + h / group * d) * element;
    memcpy(part.q.shape, (int64_t[]){1, count, 1, d}, sizeof part.q.shape);
    memcpy(part.k.shape, (int64_t[]){1, p.seqlen_k, 1, d}, sizeof part.k.shape);
    part.v.shape[0] = 1, part.v.shape[1] = p.seqlen_k, part.v.shape[2] = 1;
    part.out = tensor(p.dtype, 1, count, 1, d);
    part.lse = tensor(ATTEND_F32, 1, 1, 1, count);
    part.lse = attend_tensor_3d(part.lse.data, ATTEND_F32, 1, 1, count);
    job_run(&part, 2);
    for (int64_t i = 0; i < count; i++) {
        const char *there = (const char *)j->out.data + (b * j->out.stride[0] + (first + i) * j->out.stride[1] + h * d) * element;
        assert_memory_equal(there, (const char *)part.out.data + i * d * element, (size_t)(d * element));
        assert_memory_equal((const float *)j->lse.data + (b * whole->num_heads + h) * whole->seqlen_q + first + i, (const float *)part.lse.data + i, 4);
    }
    free(part.out.data), free(part.lse.data);
}

static void bits_do_not_depend_on_neighbours(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        job j = job_make(shapes[i], ATTEND_VALUES_GAUSS);
        job_run(&j, 2);
        int64_t n = j.p.seqlen_q, last_b = j.p.batch - 1, last_h = j.p.num_heads - 1;
        expect_same_rows(&j, 0, 0, 0, 1);
        expect_same_rows(&j, last_b, last_h, n - 1, 1);
        if (n > 32) {
            expect_same_rows(&j, 0, last_h, 7, 25);
            expect_same_rows(&j, last_b, 0, 3, 9);
            expect_same_rows(&j, last_b, last_h, n / 2, n - n / 2);
        }
        job_free(&j);
    }
}

/* Values of unit size at every block, panel and span border, one needle a query: a key that is lost or counted twice shows. */
static void every_border_key_is_found(void **state)
{
    (void)state;
    static const int64_t lengths[] = {15, 16, 17, 127, 128, 129, 1023, 1024, 1025, 2049};
    for (int queries = 1; queries <= 60; queries += 59)
        for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
            int64_t keys = lengths[n], d = 16;
            job j = job_make((attend_problem){.batch = 1, .seqlen_q = queries, .seqlen_k = keys, .num_heads = 1, .head_dim = d, .softmax_scale = 1}, ATTEND_VALUES_GAUSS);
            for (int64_t target = 0; target < keys; target += target % 128 == 1 ? 125 : 1) {
                if (target % 128 > 1 && target % 128 < 126 && target + 1 < keys) continue;
                float *q = j.q.data, *k = j.k.data, *v = j.v.data;
                for (int64_t i = 0; i < queries * d; i++) q[i] = i % d == 0 ? 40 : 0;
                for (int64_t i = 0; i < keys * d; i++) k[i] = 0, v[i] = -1;
                k[target * d] = 1;
                for (int64_t c = 0; c < d; c++) v[target * d + c] = (float)(c + 1);
                job_run(&j, 2);
                for (int64_t i = 0; i < queries * d; i++) assert_float_equal(((float *)j.out.data)[i], (float)(i % d + 1), 1e-5f);
            }
            job_free(&j);
        }
}

/* NaN in K and V of keys that a row does not see changes none of its bits. */
static void hidden_keys_reach_nothing(void **state)
{
    (void)state;
    static const attend_problem causal[] = {
        {.batch = 1, .seqlen_q = 200, .seqlen_k = 200, .num_heads = 2, .head_dim = 24, .causal = ATTEND_CAUSAL_TOP_LEFT},
        {.batch = 1, .seqlen_q = 4, .seqlen_k = 1500, .num_heads = 2, .num_kv_heads = 1, .head_dim = 24, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
    };
    for (int i = 0; i < 2; i++) {
        job j = job_make(causal[i], ATTEND_VALUES_GAUSS);
        size_t bytes;
        job_run(&j, 2);
        float *before = bytes_of(&j.out, &bytes), *k = j.k.data, *v = j.v.data;
        int64_t kv_row = j.k.stride[1], offset = i == 0 ? 0 : j.p.seqlen_k - j.p.seqlen_q;
        for (int64_t query = j.p.seqlen_q - 1; query > 0; query -= 1 + query / 3) {
            for (int64_t c = 0; c < kv_row; c++) k[(offset + query) * kv_row + c] = v[(offset + query) * kv_row + c] = NAN;
            job_run(&j, 2);
            assert_memory_equal(before, j.out.data, (size_t)(query * j.out.stride[1]) * 4);
            assert_true(isnan(((float *)j.out.data)[query * j.out.stride[1]]));
        }
        free(before);
        job_free(&j);
    }
}

/* A NaN value reaches every row that sees its key, even where the key's weight is below the smallest float. */
static void seen_values_reach_their_rows(void **state)
{
    (void)state;
    static const attend_problem causal[] = {
        {.batch = 1, .seqlen_q = 200, .seqlen_k = 200, .num_heads = 1, .head_dim = 24, .causal = ATTEND_CAUSAL_TOP_LEFT},
        {.batch = 1, .seqlen_q = 4, .seqlen_k = 1500, .num_heads = 1, .head_dim = 24, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
    };
    for (int i = 0; i < 2; i++) {
        job j = job_make(causal[i], ATTEND_VALUES_GAUSS);
        const int64_t d = j.p.head_dim, last = j.p.seqlen_q - 1, key = j.p.seqlen_k - 2;
        float *q = j.q.data, *k = j.k.data, *v = j.v.data;
        for (int64_t at = 0; at < j.p.seqlen_q * d; at++) q[at] = 1;
        for (int64_t c = 0; c < d; c++) k[key * d + c] = -1000;
        v[key * d] = NAN;
        job_run(&j, 2);
        for (int64_t query = 0; query <= last; query++)
            assert_int_equal(isnan(((float *)j.out.data)[query * d]) != 0, query >= last - 1);
        job_free(&j);
    }
}

/* A span in which a row sees nothing but NaN is not an empty one, whichever way it is summed. */
static void a_span_of_nan_reaches_its_rows(void **state)
{
    (void)state;
    bool taken[3] = {false, false, false};
    static const struct {
        int64_t queries;
        int threads;
    } schedules[] = {{100, 1}, {40, 24}, {3, 2}};
    for (int i = 0; i < 3; i++)
        for (int first = 0; first < 2; first++) {
            job j = job_make((attend_problem){.batch = 1, .seqlen_q = schedules[i].queries, .seqlen_k = 2048, .num_heads = 2, .head_dim = 24}, ATTEND_VALUES_GAUSS);
            float *k = j.k.data;
            for (int64_t at = first ? 0 : 1024; at < (first ? 1024 : 2048); at++) k[at * j.k.stride[1]] = NAN;
            taken[job_run(&j, schedules[i].threads)] = true;
            for (int64_t q = 0; q < schedules[i].queries; q++) {
                assert_true(isnan(((float *)j.out.data)[q * j.out.stride[1]]));
                assert_true(isnan(((float *)j.lse.data)[q]));
                assert_false(isnan(((float *)j.out.data)[q * j.out.stride[1] + j.p.head_dim]));
            }
            job_free(&j);
        }
    for (int schedule = 0; schedule < 3; schedule++) assert_true(taken[schedule]);
}

static void *run_often(void *data)
{
    job *j = data;
    for (int i = 0; i < 6; i++) {
        const attend_attention_args args = {.q = j->q, .k = j->k, .v = j->v, .out = j->out, .lse = j->lse};
        if (run(&j->p, &args, 2, NULL)) return (void *)attend_error_message();
    }
    return NULL;
}

static void host_threads_do_not_disturb_each_other(void **state)
{
    (void)state;
    enum { THREADS = 6 };
    job jobs[THREADS];
    void *expected[THREADS], *failed;
    size_t bytes[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = job_make(shapes[i % SHAPES], ATTEND_VALUES_GAUSS);
        job_run(&jobs[i], 2);
        expected[i] = bytes_of(&jobs[i].out, &bytes[i]);
    }
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, run_often, &jobs[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
        assert_memory_equal(expected[i], jobs[i].out.data, bytes[i]);
        free(expected[i]);
        job_free(&jobs[i]);
    }
}

static void memory_is_linear_in_length(void **state)
{
    (void)state;
    attend_context *context;
    size_t bytes[2];
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 4}, &context), 0);
    for (int i = 0; i < 2; i++) {
        attend_plan *plan;
        attend_plan_memory memory;
        attend_problem p = {.batch = 1, .seqlen_q = 65536 << i, .seqlen_k = 65536 << i, .num_heads = 1, .head_dim = 128, .causal = ATTEND_CAUSAL_TOP_LEFT};
        assert_int_equal(attend_attention_plan(context, &p, &plan), 0);
        assert_int_equal(attend_plan_memory_usage(plan, &memory), 0);
        bytes[i] = memory.host_bytes;
        attend_plan_destroy(plan);
    }
    attend_context_destroy(context);
    assert_true(bytes[1] <= 2 * bytes[0] + (4 << 20));
    assert_true(bytes[0] <= (size_t)65536 * 128 * 4 * 2 + (16 << 20)); /* K and V once, and scratch */
}

/* Each sequence packed with others gives the bits that it gives alone, whichever way its plan takes. */
static void packed_sequences_do_not_disturb_each_other(void **state)
{
    (void)state;
    enum { SEQUENCES = 4, HEADS = 2, DIM = 24 };
    static const struct {
        int64_t q[SEQUENCES + 1], k[SEQUENCES + 1], seqlen_q, seqlen_k;
        int threads;
        attend_cpu_schedule schedule;
    } packs[] = {
        {{0, 1, 2, 3, 5}, {0, 1500, 1500, 1630, 3800}, 2, 2170, 2, ATTEND_CPU_DECODE},
        {{0, 100, 300, 300, 329}, {0, 127, 200, 290, 500}, 200, 210, 2, ATTEND_CPU_WHOLE},
        {{0, 20, 21, 60, 93}, {0, 3000, 3001, 3300, 4400}, 39, 3000, 30, ATTEND_CPU_SPLIT},
    };
    for (int i = 0; i < 3; i++) {
        const int64_t *q = packs[i].q, *k = packs[i].k, total_q = q[SEQUENCES], total_k = k[SEQUENCES], row = HEADS * DIM;
        job j = job_make((attend_problem){.batch = 1, .seqlen_q = total_q, .seqlen_k = total_k, .num_heads = HEADS, .head_dim = DIM}, ATTEND_VALUES_GAUSS);
        attend_problem p = j.p;
        p.packed = true, p.batch = SEQUENCES, p.total_q = total_q, p.total_k = total_k, p.seqlen_q = packs[i].seqlen_q, p.seqlen_k = packs[i].seqlen_k;
        const attend_feature_args features = {.cu_seqlens_q = q, .cu_seqlens_k = k};
        const attend_attention_args args = {.q = j.q, .k = j.k, .v = j.v, .out = j.out, .lse = j.lse, .features = &features};
        attend_cpu_schedule schedule;
        assert_int_equal(run(&p, &args, packs[i].threads, &schedule), 0);
        assert_int_equal(schedule, packs[i].schedule);
        for (int s = 0; s < SEQUENCES; s++) {
            int64_t rows = q[s + 1] - q[s], keys = k[s + 1] - k[s];
            attend_problem alone = j.p;
            alone.seqlen_q = rows, alone.seqlen_k = keys;
            attend_tensor out = tensor(ATTEND_F32, 1, rows, HEADS, DIM);
            attend_attention_args part = {.q = attend_tensor_4d((float *)j.q.data + q[s] * row, ATTEND_F32, 1, rows, HEADS, DIM),
                                          .k = attend_tensor_4d((float *)j.k.data + k[s] * row, ATTEND_F32, 1, keys, HEADS, DIM),
                                          .v = attend_tensor_4d((float *)j.v.data + k[s] * row, ATTEND_F32, 1, keys, HEADS, DIM),
                                          .out = out};
            assert_int_equal(run(&alone, &part, 2, NULL), 0);
            assert_memory_equal(out.data, (float *)j.out.data + q[s] * row, (size_t)(rows * row) * sizeof(float));
            free(out.data);
        }
        job_free(&j);
    }
}

static void packed_plans_reserve_the_totals(void **state)
{
    (void)state;
    attend_context *context;
    attend_plan *plan;
    attend_plan_memory memory;
    attend_problem p = {.batch = 64, .seqlen_q = 16384, .seqlen_k = 16384, .num_heads = 2, .head_dim = 64, .packed = true, .total_q = 20000, .total_k = 20000};
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 2}, &context), 0);
    assert_int_equal(attend_attention_plan(context, &p, &plan), 0);
    assert_int_equal(attend_plan_memory_usage(plan, &memory), 0);
    /* K and V of all keys, a block more for each sequence, and scratch. */
    assert_true(memory.host_bytes <= (size_t)(20000 + 65 * 128) * 2 * 64 * 2 * sizeof(float) + (8 << 20));
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void put(const char *root, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Of 8 processors, under cgroups as the files of a made-up /proc and /sys/fs/cgroup tell. */
static void a_quota_limits_threads(void **state)
{
    (void)state;
    static const struct {
        const char *membership, *files[4][2];
        int threads;
    } cases[] = {
        {"0::/a/b\n", {{"a/b/cpu.max", "max 100000\n"}}, 8},
        {"0::/a/b\n", {{"a/b/cpu.max", "200000 100000\n"}}, 2},
        {"0::/a/b\n", {{"a/b/cpu.max", "150000 100000\n"}}, 2},
        {"0::/a/b\n", {{"a/b/cpu.max", "max 100000\n"}, {"a/cpu.max", "10000 100000\n"}}, 1},
        {"0::/\n", {{"cpu.max", "300000 100000\n"}}, 3},
        {"0::/a\n", {{"a/cpu.max", "1600000 100000\n"}}, 8},
        {"0::/a\n", {{"a/cpu.max", ""}}, 8},
        {"9:memory:/m\n4:cpu,cpuacct:/a/b\n0::/\n", {{"cpu/a/b/cpu.cfs_quota_us", "-1\n"}, {"cpu/a/b/cpu.cfs_period_us", "100000\n"}}, 8},
        {"9:memory:/m\n4:cpu,cpuacct:/a/b\n0::/\n",
         {{"cpu/a/b/cpu.cfs_quota_us", "-1\n"}, {"cpu/a/b/cpu.cfs_period_us", "100000\n"}, {"cpu/a/cpu.cfs_quota_us", "250000\n"}, {"cpu/a/cpu.cfs_period_us", "100000\n"}},
         3},
        {"4:cpuset:/a\n", {{"cpu/a/cpu.cfs_quota_us", "100000\n"}, {"cpu/a/cpu.cfs_period_us", "100000\n"}}, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char root[] = "/tmp/attend-cgroup-XXXXXX", membership[64], command[64];
        assert_non_null(mkdtemp(root));
        snprintf(membership, sizeof membership, "%s/membership", root);
        put(root, "membership", cases[i].membership);
        for (int f = 0; f < 4 && cases[i].files[f][0]; f++) put(root, cases[i].files[f][0], cases[i].files[f][1]);
        assert_int_equal(attend_cpu_limited_threads(membership, root, 8), cases[i].threads);
        snprintf(command, sizeof command, "rm -r %s", root);
        assert_int_equal(system(command), 0);
    }
    assert_int_equal(attend_cpu_limited_threads("/nowhere", "/nowhere", 5), 5);
    assert_true(attend_cpu_usable_threads() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_threads),  cmocka_unit_test(bits_do_not_depend_on_neighbours),
        cmocka_unit_test(every_border_key_is_found),      cmocka_unit_test(hidden_keys_reach_nothing),
        cmocka_unit_test(seen_values_reach_their_rows),
        cmocka_unit_test(a_span_of_nan_reaches_its_rows),
        cmocka_unit_test(host_threads_do_not_disturb_each_other), cmocka_unit_test(memory_is_linear_in_length),
        cmocka_unit_test(packed_sequences_do_not_disturb_each_other), cmocka_unit_test(packed_plans_reserve_the_totals),
        cmocka_unit_test(a_quota_limits_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

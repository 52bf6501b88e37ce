/* Merging states: checks the arguments and calls the context's backend. */
#include "core/arguments.h"
#include "core/backend.h"
#include "core/struct.h"

#include <inttypes.h>
#include <stdio.h>

/* What a merge writes, and its sinks. */
static attend_status expect_results(const attend_problem *p, attend_merge_args *r, attend_state *into,
                                    attend_state_names *names, attend_expected *expected, int *count)
{
    const attend_expected results[] = {
        {"out",
         &r->out,
         ATTEND_OUTPUT,
         false,
         p->dtype,
         4,
         {p->batch, p->seqlen_q, p->num_heads, p->head_dim_v}},
        {"lse", &r->lse, ATTEND_OUTPUT, true, ATTEND_F32, 3, {p->batch, p->num_heads, p->seqlen_q}},
        {"sinks", &r->sinks, ATTEND_INPUT, !p->sinks, ATTEND_F32, 1, {p->num_heads}},
    };
    if (r->sinks.data && !p->sinks)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "sinks is given, but the problem does not ask for it (sinks)");
    if (!r->into) {
        for (*count = 0; *count < 3; ++*count) expected[*count] = results[*count];
        return ATTEND_OK;
    }
    if (r->out.data || r->lse.data)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given beside into, which is written instead of it",
                           r->out.data ? "out" : "lse");
    *into = *r->into, r->into = into;
    *count = attend_state_expect(p, attend_rows_q(p), "into", ATTEND_OUTPUT, into, NULL, names, expected);
    return ATTEND_OK;
}

static attend_status resolve(const attend_problem *p, attend_merge_args *r, attend_state *into)
{
    attend_expected expected[6];
    attend_state_names into_names, names;
    int results;
    if (r->count < 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "count is %" PRId64 ", expected at least 0", r->count);
    if (r->count > 0 && !r->states) return attend_fail(ATTEND_INVALID_ARGUMENT, "states is NULL");
    const attend_state *in_place = r->into;
    ATTEND_TRY(expect_results(p, r, into, &into_names, expected, &results));
    ATTEND_TRY(attend_expected_resolve(expected, results, NULL));
    ATTEND_TRY(attend_tensor_check_rows(r->into ? "into.out" : "out", r->into ? &into->out : &r->out));
    for (int64_t n = 0; n < r->count; n++) {
        attend_state state = r->states[n];
        char name[48];
        snprintf(name, sizeof name, "states[%" PRId64 "]", n);
        const int more = attend_state_expect(p, attend_rows_q(p), name, ATTEND_INPUT, &state, in_place,
                                             &names, expected + results);
        ATTEND_TRY(attend_expected_resolve(expected, results + more, NULL));
        snprintf(name, sizeof name, "states[%" PRId64 "].out", n);
        ATTEND_TRY(attend_tensor_check_rows(name, &state.out));
    }
    return ATTEND_OK;
}

attend_status attend_merge_sized(attend_context *context, const attend_problem *problem, size_t problem_bytes,
                                 const attend_merge_args *args, size_t args_bytes, const attend_run *run,
                                 size_t run_bytes)
{
    attend_problem p;
    attend_merge_args r;
    attend_state into;
    attend_run brought;
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, ATTEND_ATTENTION, &p));
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_merge_args), "args", &r, args, args_bytes));
    ATTEND_TRY(attend_run_read(context, run, run_bytes, &brought));
    if (brought.workspace || brought.workspace_bytes)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "workspace is given, but merging needs none");
    if (p.packed) return attend_fail(ATTEND_UNSUPPORTED, "states of packed sequences cannot be merged");
    if (!context->backend->merge)
        return attend_fail(ATTEND_UNSUPPORTED, "states cannot be merged on this context's device");
    ATTEND_TRY(resolve(&p, &r, &into));
    return context->backend->merge(context, &p, &r, &brought);
}

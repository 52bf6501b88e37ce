/* A layer that does not fit its budget: Q, K and V are projected from blocks of the rows of x, then attention
   is streamed, then the output is projected from blocks of the heads' rows. What lies between the three waits
   on the device, or in page-locked memory where that is too large. Each stage waits for the one before. */
#include "gpu/gpu.h"
#include "gpu/range.h"

enum { LEAST_ROWS = 64, SLOTS = ATTEND_GPU_QUERY_SLOTS };
static const size_t enough = (size_t)32 << 20; /* bytes of a slot: larger copies and products gain nothing */

static attend_gpu_rows *rows_of(const attend_plan *plan)
{
    return &((attend_gpu_plan *)plan->state)->layer.rows;
}

/* ---- the choice ---- */

/* What a slot holds of blocks of so many rows; spills: Q, K, V and the heads' output too. */
static void lay_slots(attend_plan *plan, int64_t batch, int64_t count, bool spills)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_rows *rows = &own->layer.rows;
    const attend_problem *p = &plan->problem;
    rows->batch = batch, rows->count = count;
    rows->project = rows->output = (attend_gpu_arena){0};
    attend_gpu_reserve_tensor(&rows->project, &own->layer.x, p->dtype, 3,
                              (int64_t[]){batch, count, attend_most(p->hidden_size, p->context_hidden_size)});
    attend_gpu_reserve_x(plan, &rows->project, batch, count);
    if (spills) attend_gpu_reserve_heads(plan, &rows->project, batch, count, count);
    if (spills) attend_gpu_reserve_heads_out(plan, &rows->output, batch, count);
    attend_gpu_reserve_tensor(&rows->output, &own->layer.out, p->dtype, 3,
                              (int64_t[]){batch, count, p->output_size});
}

static size_t slot_bytes(const attend_gpu_rows *rows)
{
    if (rows->project.overflow || rows->output.overflow) return SIZE_MAX / 4;
    return rows->project.bytes > rows->output.bytes ? rows->project.bytes : rows->output.bytes;
}

static int64_t all_rows(const attend_problem *p)
{
    return attend_most(attend_most(attend_rows_q(p), attend_rows_projected(p)), 1);
}

/* Whole entries, or rows of one, as many as fit and are of use. */
static bool choose_rows(attend_plan *plan, double room, bool spills)
{
    int64_t batch = attend_most(attend_tensor_batch(&plan->problem), 1), count = all_rows(&plan->problem);
    const attend_gpu_rows *rows = rows_of(plan);
    for (;;) {
        lay_slots(plan, batch, count, spills);
        const size_t bytes = slot_bytes(rows);
        const bool fits = SLOTS * (double)bytes <= room, smallest = batch == 1 && count <= LEAST_ROWS;
        if (smallest || (fits && bytes <= enough)) return fits;
        if (batch > 1)
            batch = (batch + 1) / 2;
        else
            count = attend_most(LEAST_ROWS, (count + 1) / 2);
    }
}

static size_t bytes_of(const attend_gpu_arenas *arenas)
{
    return arenas->constants.bytes + arenas->run.bytes + arenas->staging.bytes;
}

/* What is needed beside the buffers where Q, K and V do not stay on the device. */
static attend_status reserve_spilling(attend_plan *plan, double budget, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    const attend_kernel_row *const kernels[2] = {own->row, own->row_any};
    *arenas = (attend_gpu_arenas){0};
    own->offload.blocks = attend_gpu_whole_blocks(&plan->problem, kernels, false, budget);
    attend_gpu_reserve_fixed(plan, arenas);
    return attend_gpu_reserve_constants(plan, arenas);
}

static attend_status reserve_resident(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p);
    *arenas = (attend_gpu_arenas){0};
    own->offload.blocks = (attend_gpu_blocks){0};
    attend_gpu_reserve_fixed(plan, arenas);
    ATTEND_TRY(attend_gpu_reserve_constants(plan, arenas));
    attend_gpu_reserve_heads(plan, &arenas->run, batch, rows_q, attend_rows_projected(p));
    attend_gpu_reserve_heads_out(plan, &arenas->run, batch, rows_q);
    if (own->offload.host_tensors & ATTEND_HOST_OUTPUTS)
        attend_gpu_reserve_tensor(&arenas->staging, &own->lse, ATTEND_F32, 3,
                                  (int64_t[]){batch, p->num_heads, rows_q});
    return ATTEND_OK;
}

/* A tensor of page-locked memory whose heads lie one after the other, so that those of one are one copy. */
static size_t lay_spilled(attend_tensor *t, const attend_problem *p, int64_t rows, int64_t heads, int64_t dim,
                          size_t offset)
{
    const int64_t stride[] = {heads * rows * dim, dim, rows * dim, 1};
    *t = attend_tensor_4d((void *)offset, p->dtype, attend_tensor_batch(p), rows, heads, dim);
    for (int axis = 0; axis < 4; axis++) t->stride[axis] = stride[axis];
    return (offset + (size_t)(t->shape[0] * stride[0]) * attend_dtype_bytes(p->dtype) + 255) / 256 * 256;
}

/* The heads' output takes the place of Q, which attention has read by then, where it is as wide. */
static size_t lay_all_spilled(const attend_problem *p, attend_gpu_rows *rows)
{
    const int64_t rows_q = attend_rows_q(p), rows_k = attend_rows_projected(p);
    size_t end = lay_spilled(&rows->q, p, rows_q, p->num_heads, p->head_dim, 0);
    end = lay_spilled(&rows->k, p, rows_k, p->num_kv_heads, p->head_dim, end);
    end = lay_spilled(&rows->v, p, rows_k, p->num_kv_heads, p->head_dim_v, end);
    rows->heads = rows->q;
    return p->head_dim_v == p->head_dim
               ? end
               : lay_spilled(&rows->heads, p, rows_q, p->num_heads, p->head_dim_v, end);
}

/* Attention's buffers lie where those of the projections do. */
static void reserve_buffers(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_offload *o = &own->offload;
    attend_gpu_rows *rows = &own->layer.rows;
    size_t offsets[ATTEND_GPU_BUFFERS], end = 0;
    for (int i = 0; rows->spills && i < ATTEND_GPU_BUFFERS; i++) {
        offsets[i] = end;
        end += attend_gpu_slot_bytes(&plan->problem, &o->blocks, (attend_gpu_buffer)i) *
               (size_t)attend_gpu_slots(&o->blocks, (attend_gpu_buffer)i);
    }
    const size_t slots = SLOTS * slot_bytes(rows);
    attend_gpu_reserve(&arenas->staging, &rows->buffers, (int64_t)(slots > end ? slots : end), 1);
    for (int i = 0; rows->spills && i < ATTEND_GPU_BUFFERS; i++)
        attend_gpu_reserve_within(&arenas->staging, &o->buffers[i], &rows->buffers, (int64_t)offsets[i]);
}

attend_status attend_gpu_reserve_rows(attend_plan *plan, size_t whole, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_offload *o = &own->offload;
    attend_gpu_rows *rows = &own->layer.rows;
    const attend_problem *p = &plan->problem;
    ATTEND_TRY(reserve_spilling(plan, 0, arenas));
    choose_rows(plan, 0, true);
    const size_t attention = attend_gpu_least_bytes(p, &o->blocks), slots = SLOTS * slot_bytes(rows),
                 streamed = bytes_of(arenas) + (attention > slots ? attention : slots);
    ATTEND_TRY(attend_gpu_check_limit(plan, streamed < whole ? streamed : whole));
    *rows = (attend_gpu_rows){0};
    o->blocks = (attend_gpu_blocks){0};
    if ((double)whole <= o->budget) return ATTEND_OK;
    ATTEND_TRY(reserve_resident(plan, arenas));
    rows->spills = !choose_rows(plan, o->budget - (double)bytes_of(arenas), false);
    if (rows->spills) {
        ATTEND_TRY(reserve_spilling(plan, o->budget, arenas));
        choose_rows(plan, 0, true);
        const double most_needed = (double)attend_gpu_least_bytes(p, &o->blocks),
                     slots_needed = SLOTS * (double)slot_bytes(rows),
                     needed = most_needed > slots_needed ? most_needed : slots_needed;
        if ((double)bytes_of(arenas) + needed > o->budget) ATTEND_TRY(reserve_spilling(plan, 0, arenas));
        const attend_gpu_blocks all = o->blocks;
        const double room = o->budget - (double)bytes_of(arenas);
        if (!attend_gpu_choose_blocks(p, room, &all, &o->blocks) || !choose_rows(plan, room, true))
            return attend_fail(ATTEND_OUT_OF_MEMORY,
                               "the device has room for %.0f bytes, but the plan needs at least %zu",
                               o->budget, streamed);
    }
    rows->owner = own;
    reserve_buffers(plan, arenas);
    return ATTEND_OK;
}

attend_status attend_gpu_create_rows(attend_plan *plan)
{
    attend_gpu_rows *rows = rows_of(plan);
    if (!rows->spills) return ATTEND_OK;
    const size_t bytes = lay_all_spilled(&plan->problem, rows);
    ATTEND_TRY(attend_gpu_check(cudaHostAlloc(&rows->memory, bytes, cudaHostAllocDefault),
                                "cudaHostAlloc of Q, K and V"));
    attend_tensor *const all[] = {&rows->q, &rows->k, &rows->v, &rows->heads};
    for (int i = 0; i < 4; i++) all[i]->data = (char *)rows->memory + (size_t)all[i]->data;
    plan->memory.host_bytes += bytes;
    return ATTEND_OK;
}

void attend_gpu_free_rows(attend_gpu_rows *rows)
{
    if (rows->memory) cudaFreeHost(rows->memory);
}

size_t attend_gpu_rows_piece(const attend_gpu_rows *rows) { return rows->count ? slot_bytes(rows) : 0; }

/* ---- a run ---- */

typedef enum stage { PROJECT_X, PROJECT_CONTEXT, PROJECT_OUTPUT } stage;

/* Rows [first, first + count) of entries [first_batch, first_batch + batch), and what the device works on. */
typedef struct rows_block {
    int64_t first_batch, batch, first, count, slot;
    attend_tensor input, q, k, v, heads, out;
} rows_block;

typedef struct layer_run {
    const attend_plan *plan;
    attend_gpu_plan *own;
    const attend_layer_args *args;
    attend_gpu_context gpu, in, out;       /* the same context, each with its stream */
    attend_gpu_place places[3], place_out; /* of x, context and the heads' output */
    attend_tensor inputs[3], q, k, v;      /* whole */
    attend_row_positions row_positions;
    int64_t blocks; /* so many came before */
} layer_run;

static attend_tensor part_of(const attend_tensor *t, const rows_block *b)
{
    attend_tensor part = *t;
    part.shape[0] = b->batch, part.shape[1] = b->count;
    if (t->data)
        part.data = (char *)t->data + (b->first_batch * t->stride[0] + b->first * t->stride[1]) *
                                          (int64_t)attend_dtype_bytes(t->dtype);
    return part;
}

/* Rows of a slot without gaps, but that each is aligned. */
static attend_tensor compact(attend_tensor t, const rows_block *b, int64_t width)
{
    t.shape[0] = b->batch, t.shape[1] = b->count, t.shape[2] = width;
    t.stride[1] = attend_gpu_whole_rows(width, attend_dtype_bytes(t.dtype));
    t.stride[0] = b->count * t.stride[1];
    return t;
}

/* Of a slot's Q, K, V or heads. */
static attend_tensor of_block(attend_tensor t, const rows_block *b)
{
    t.shape[0] = b->batch, t.shape[1] = b->count;
    return t;
}

/* The first block, or the one behind another; false: there is none. */
static bool next_block(layer_run *l, stage stage, rows_block *b)
{
    const attend_gpu_rows *rows = &l->own->layer.rows;
    const int64_t batch = l->inputs[stage].shape[0], count = l->inputs[stage].shape[1];
    if (b->batch == 0) {
        if (batch == 0 || count == 0) return false;
    } else if ((b->first += b->count) >= count) {
        b->first = 0;
        if ((b->first_batch += b->batch) >= batch) return false;
    }
    b->batch = attend_least(rows->batch, batch - b->first_batch),
    b->count = attend_least(rows->count, count - b->first);
    b->slot = l->blocks++ % SLOTS;
    return true;
}

static void find_slot(layer_run *l, stage stage, rows_block *b)
{
    attend_gpu_plan *own = l->own;
    const attend_gpu_rows *rows = &own->layer.rows;
    const attend_gpu_arena *slot = stage == PROJECT_OUTPUT ? &rows->output : &rows->project;
    attend_gpu_arena_rebase(slot, (char *)rows->buffers + (size_t)b->slot * slot_bytes(rows), rows->owner,
                            own);
    if (stage == PROJECT_OUTPUT) {
        b->heads = rows->spills ? of_block(own->out, b) : part_of(&l->inputs[stage], b);
        b->out = l->place_out == ATTEND_GPU_ON_DEVICE ? part_of(&l->args->out, b)
                                                      : compact(own->layer.out, b, l->args->out.shape[2]);
        return;
    }
    b->q = rows->spills ? of_block(own->q, b) : part_of(&l->q, b);
    b->k = rows->spills ? of_block(own->k, b) : part_of(&l->k, b);
    b->v = rows->spills ? of_block(own->v, b) : part_of(&l->v, b);
}

static attend_status bring(layer_run *l, stage stage, rows_block *b)
{
    const attend_gpu_offload *o = &l->own->offload;
    const attend_tensor from = part_of(&l->inputs[stage], b);
    find_slot(l, stage, b);
    const bool given =
        stage == PROJECT_OUTPUT && l->args->heads.data; /* the slot's input is copied out, too */
    ATTEND_TRY(attend_gpu_wait(&l->in, given ? o->queries_free[b->slot] : o->queries_done[b->slot]));
    if (stage == PROJECT_OUTPUT) {
        if (l->places[stage] != ATTEND_GPU_ON_DEVICE)
            ATTEND_TRY(attend_gpu_copy(&l->in, &b->heads, &from, cudaMemcpyHostToDevice));
    } else {
        const bool overlaps = from.shape[1] > 1 && from.stride[1] < from.shape[2];
        b->input = from;
        if (l->places[stage] != ATTEND_GPU_ON_DEVICE || overlaps)
            b->input = compact(l->own->layer.x, b, from.shape[2]);
        if (l->places[stage] != ATTEND_GPU_ON_DEVICE)
            ATTEND_TRY(attend_gpu_bring(&l->in, &l->own->offload.pinned, l->places[stage], &b->input, &from));
        else if (overlaps)
            ATTEND_TRY(attend_gpu_copy(&l->in, &b->input, &from, cudaMemcpyDeviceToDevice));
    }
    return attend_gpu_record(&l->in, o->queries_there[b->slot]);
}

static attend_row_positions positions_of(const layer_run *l, const rows_block *b)
{
    attend_row_positions p = l->row_positions;
    if (p.positions) p.positions += b->first_batch * p.positions_batch;
    if (p.starts) p.starts += b->first_batch;
    p.first_row = b->first;
    return p;
}

static attend_status project(layer_run *l, stage stage, const rows_block *b)
{
    const attend_plan *plan = l->plan;
    const bool cross = attend_problem_is_cross(&plan->problem);
    const attend_tensor *const y[] = {stage == PROJECT_X ? &b->q : NULL,
                                      stage == PROJECT_X && cross ? NULL : &b->k,
                                      stage == PROJECT_X && cross ? NULL : &b->v};
    attend_tensor x = b->input;
    if (stage == PROJECT_OUTPUT) return attend_gpu_project_output(plan, &b->heads, &b->out);
    const attend_row_positions positions = positions_of(l, b);
    ATTEND_TRY(attend_gpu_add_positions(plan, &positions, &x));
    ATTEND_TRY(attend_gpu_project_heads(plan, &x, &x, y));
    return cross ? ATTEND_OK : attend_gpu_rope(plan, &positions, &b->q, &b->k);
}

/* To a tensor of the caller's, or of page-locked memory; data NULL: none. */
static attend_status give_heads(const layer_run *l, const rows_block *b, const attend_tensor *to,
                                const attend_tensor *from)
{
    const attend_tensor part = part_of(to, b);
    return part.data ? attend_gpu_copy(&l->out, &part, from, cudaMemcpyDefault) : ATTEND_OK;
}

static attend_status give(layer_run *l, stage stage, const rows_block *b)
{
    const attend_gpu_offload *o = &l->own->offload;
    const attend_layer_args *args = l->args;
    const bool cross = attend_problem_is_cross(&l->plan->problem), spills = l->own->layer.rows.spills;
    const struct {
        bool here;
        const attend_tensor *whole, *wanted, *block;
    } all[] = {{stage == PROJECT_X, &l->q, &args->q, &b->q},
               {stage == (cross ? PROJECT_CONTEXT : PROJECT_X), &l->k, &args->k, &b->k},
               {stage == (cross ? PROJECT_CONTEXT : PROJECT_X), &l->v, &args->v, &b->v},
               {stage == PROJECT_OUTPUT, NULL, &args->heads, &b->heads}};
    ATTEND_TRY(attend_gpu_wait(&l->out, o->queries_done[b->slot]));
    for (int i = 0; i < 4; i++) {
        if (!all[i].here) continue;
        if (spills && all[i].whole) ATTEND_TRY(give_heads(l, b, all[i].whole, all[i].block));
        ATTEND_TRY(give_heads(l, b, all[i].wanted, all[i].block));
    }
    if (stage == PROJECT_OUTPUT && l->place_out != ATTEND_GPU_ON_DEVICE) {
        const attend_tensor to = part_of(&args->out, b);
        ATTEND_TRY(attend_gpu_give(&l->out, &l->own->offload.pinned, l->place_out, &to, &b->out));
    }
    return attend_gpu_record(&l->out, o->queries_free[b->slot]);
}

/* While a block is computed the next is brought, then what it made is copied out. */
static attend_status run_blocks(layer_run *l, stage stage)
{
    const attend_gpu_offload *o = &l->own->offload;
    rows_block block = {0};
    bool more = next_block(l, stage, &block);
    if (more) ATTEND_TRY(bring(l, stage, &block));
    while (more) {
        const rows_block now = block;
        ATTEND_TRY(attend_gpu_wait(&l->gpu, o->queries_there[now.slot]));
        ATTEND_TRY(attend_gpu_wait(&l->gpu, o->queries_free[now.slot]));
        ATTEND_TRY(project(l, stage, &now));
        ATTEND_TRY(attend_gpu_record(&l->gpu, o->queries_done[now.slot]));
        more = next_block(l, stage, &block);
        if (more) ATTEND_TRY(bring(l, stage, &block));
        ATTEND_TRY(give(l, stage, &now));
    }
    return ATTEND_OK;
}

/* Copies in begin behind what the run's stream did before, the stage before included. */
static attend_status begin_stage(layer_run *l)
{
    ATTEND_TRY(attend_gpu_record(&l->gpu, l->own->offload.begun));
    return attend_gpu_wait(&l->in, l->own->offload.begun);
}

static attend_status end_stage(layer_run *l)
{
    for (int i = 0; i < SLOTS; i++) ATTEND_TRY(attend_gpu_wait(&l->gpu, l->own->offload.queries_free[i]));
    return ATTEND_OK;
}

static int64_t blocks_of(layer_run *l, stage stage)
{
    layer_run counting = *l;
    rows_block b = {0};
    while (next_block(&counting, stage, &b)) {
    }
    return counting.blocks - l->blocks;
}

static attend_status project_inputs(layer_run *l)
{
    const bool cross = attend_problem_is_cross(&l->plan->problem);
    attend_progress_tracker *tracker = l->gpu.tracker;
    const double *work = tracker->work.projections;
    if (tracker->progress)
        attend_progress_stage(tracker, work[ATTEND_GPU_Q] + work[ATTEND_GPU_K] + work[ATTEND_GPU_V],
                              cross ? blocks_of(l, PROJECT_X) + 2 * blocks_of(l, PROJECT_CONTEXT)
                                    : 3 * blocks_of(l, PROJECT_X));
    ATTEND_TRY(begin_stage(l));
    ATTEND_TRY(run_blocks(l, PROJECT_X));
    if (cross) ATTEND_TRY(run_blocks(l, PROJECT_CONTEXT));
    return end_stage(l);
}

static attend_status attend_to_all(layer_run *l, const attend_feature_args *on_device)
{
    const attend_plan *plan = l->plan;
    const attend_key_part all = attend_all_keys(&plan->problem);
    attend_attention_args attention = {.q = l->q,
                                       .k = l->k,
                                       .v = l->v,
                                       .out = l->inputs[PROJECT_OUTPUT],
                                       .lse = l->args->lse,
                                       .features = l->args->features};
    if (l->own->layer.rows.spills) return attend_gpu_offload_run(plan, &attention, &all, on_device, NULL, 0);
    attention.features = on_device;
    ATTEND_TRY(attend_gpu_take_output(&l->gpu, "lse", &l->args->lse, &l->own->lse, &attention.lse));
    ATTEND_TRY(attend_gpu_attention(plan, &attention, &all));
    return attend_gpu_give_output(&l->gpu, &l->args->lse, &attention.lse);
}

static attend_status project_outputs(layer_run *l)
{
    attend_progress_tracker *tracker = l->gpu.tracker;
    if (tracker->progress)
        attend_progress_stage(tracker, tracker->work.projections[ATTEND_GPU_O], blocks_of(l, PROJECT_OUTPUT));
    ATTEND_TRY(begin_stage(l));
    ATTEND_TRY(run_blocks(l, PROJECT_OUTPUT));
    return end_stage(l);
}

static attend_status find(const layer_run *l, const char *name, const attend_tensor *t,
                          attend_host_tensors kind, attend_gpu_place *place)
{
    ATTEND_TRY(attend_gpu_place_of(&l->gpu, name, t, place));
    if (*place == ATTEND_GPU_ON_DEVICE || l->own->offload.host_tensors & kind) return ATTEND_OK;
    return attend_gpu_refuse_host(&l->gpu, name, kind);
}

attend_status attend_gpu_layer_run_rows(const attend_plan *plan, const attend_layer_args *args)
{
    attend_gpu_plan *own = plan->state;
    const attend_gpu_rows *rows = &own->layer.rows;
    attend_feature_args features = *args->features;
    attend_gpu_place place_lse;
    layer_run l = {
        .plan = plan, .own = own, .args = args, .gpu = *own->gpu, .in = *own->gpu, .out = *own->gpu};
    l.in.stream = own->offload.in, l.out.stream = own->offload.out;
    l.inputs[PROJECT_X] = args->x, l.inputs[PROJECT_CONTEXT] = args->context;
    l.inputs[PROJECT_OUTPUT] = rows->spills ? rows->heads : own->out;
    l.q = rows->spills ? rows->q : own->q, l.k = rows->spills ? rows->k : own->k,
    l.v = rows->spills ? rows->v : own->v;
    ATTEND_TRY(find(&l, "x", &args->x, ATTEND_HOST_INPUTS, &l.places[PROJECT_X]));
    if (attend_problem_is_cross(&plan->problem))
        ATTEND_TRY(find(&l, "context", &args->context, ATTEND_HOST_INPUTS, &l.places[PROJECT_CONTEXT]));
    ATTEND_TRY(find(&l, "out", &args->out, ATTEND_HOST_OUTPUTS, &l.place_out));
    ATTEND_TRY(find(&l, "lse", &args->lse, ATTEND_HOST_OUTPUTS, &place_lse));
    l.places[PROJECT_OUTPUT] = rows->spills ? ATTEND_GPU_PAGE_LOCKED : ATTEND_GPU_ON_DEVICE;
    ATTEND_TRY(attend_gpu_check_positions(plan, args));
    own->offload.streaming = rows->spills; /* in the run's view of the plan */
    ATTEND_TRY(attend_gpu_take_features(plan, &features));
    own->offload.host_tensors = ATTEND_HOST_ALL; /* Q, K and V */
    l.row_positions = attend_row_positions_of(&plan->problem, &features, NULL);
    attend_range_begin("attend: layer in blocks of rows");
    attend_status status = project_inputs(&l);
    if (!status) status = attend_to_all(&l, &features);
    if (!status) status = project_outputs(&l);
    if (status) attend_gpu_stop(&l.in, &l.gpu, &l.out);
    attend_range_end();
    return status;
}

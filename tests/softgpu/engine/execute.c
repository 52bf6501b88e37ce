/* Launches: prepares what all blocks share, then lets workers, one a host thread, take teams of blocks in a seeded order until none is
   left. A worker runs its warps in turns of random length. A team that only waits for others gets company: blocks that wait for
   earlier ones may, as on a device, count on those to be running. */
#include "engine/finding.h"
#include "engine/model.h"
#include "engine/warp.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TURN_CHECKED = 192,      /* instructions of a warp's turn, at most: short ones mix warps well */
    TURN_UNCHECKED = 1 << 16,
    STALLED = 4096,          /* turns without a warp's end before another team joins */
    HOPELESS = 1 << 16,      /* rounds in which all warps only poll */
    TEAMS_MOST = 1 << 16
};

struct worker {
    launch *launch;
    pthread_t thread;
    counts *counts;
    block **teams;           /* those that run, then those kept for use again */
    int running, made;
    uint64_t random;
};

uint64_t *worker_random(worker *w) { return &w->random; }

/* ---- one worker ----------------------------------------------------------------------------------------------------------- */

static bool start_team(worker *w)
{
    launch *l = w->launch;
    if (w->running == TEAMS_MOST) return false; /* before a number is taken: nobody else would run it */
    int64_t teams = l->blocks / l->team, n = atomic_fetch_add(&l->taken, 1);
    if (n >= teams) return false;
    if (w->running == w->made) {
        block **grown = realloc(w->teams, (size_t)(w->made + 1) * sizeof *grown);
        if (!grown) abort();
        w->teams = grown;
        w->teams[w->made] = team_create(l, w, w->counts);
        if (!w->teams[w->made]) abort();
        w->made++;
    }
    int64_t number = (int64_t)(((__int128)n * l->stride + l->start) % teams);
    team_begin(w->teams[w->running++], l->cluster > 1 ? number * l->team / l->cluster : number);
    w->random = (l->serial * UINT64_C(0x9e3779b97f4a7c15)) ^ ((uint64_t)number + 1) * UINT64_C(0xd1342543de82ef95) ^ sg_settings.seed << 32;
    return true;
}

typedef struct roll {
    int ready, polling, live;
    warp *chosen;
} roll;

static void count_warp(worker *w, warp *each, roll *r)
{
    if (each->state == WARP_DONE) return;
    r->live++;
    r->polling += each->state == WARP_POLLING;
    if (each->state == WARP_READY && random_below(&w->random, (uint32_t)++r->ready) == 0) r->chosen = each;
}

static roll call_roll(worker *w)
{
    roll r = {0};
    for (int t = 0; t < w->running; t++)
        for (int b = 0; b < w->launch->team; b++)
            for (int i = 0; i < w->teams[t][b].warp_count; i++) count_warp(w, &w->teams[t][b].warps[i], &r);
    return r;
}

static void wake_polling(worker *w)
{
    for (int t = 0; t < w->running; t++)
        for (int b = 0; b < w->launch->team; b++)
            for (int i = 0; i < w->teams[t][b].warp_count; i++)
                if (w->teams[t][b].warps[i].state == WARP_POLLING) w->teams[t][b].warps[i].state = WARP_READY;
}

/* Nobody can go on: says where the warps of one block stand. */
static void report_standstill(worker *w)
{
    for (int t = 0; t < w->running; t++)
        for (int b = 0; b < w->launch->team; b++)
            for (int i = 0; i < w->teams[t][b].warp_count; i++) {
                warp *each = &w->teams[t][b].warps[i];
                if (each->state == WARP_DONE) continue;
                const insn *at = each->state == WARP_AT_BARRIER || each->waits ? each->at_barrier : &w->launch->function->code[each->pc];
                warp_finding(each, at, -1, "barrier", "waits for ever: nobody is left who could come or arrive");
            }
    launch_fail(w->launch, SG_TIMEOUT);
}

/* Teams that ended go behind the running ones. */
static void retire_teams(worker *w)
{
    for (int t = 0; t < w->running;) {
        int live = 0;
        for (int b = 0; b < w->launch->team; b++) live += w->teams[t][b].live_warps;
        if (live) {
            t++;
            continue;
        }
        block *done = w->teams[t];
        w->teams[t] = w->teams[--w->running];
        w->teams[w->running] = done;
    }
}

/* Runs what this worker has until it has nothing. */
static void run_teams(worker *w)
{
    int stalled = 0, idle = 0;
    while (w->running && !launch_failed(w->launch)) {
        roll r = call_roll(w);
        if (!r.ready && !r.polling && r.live && start_team(w)) continue;
        if (!r.ready && r.polling && ++idle < HOPELESS) {
            if (idle % 64 == 0) start_team(w);
            wake_polling(w);
            continue;
        }
        if (!r.ready && r.live) {
            report_standstill(w);
            return;
        }
        int most = sg_settings.checks ? TURN_CHECKED : TURN_UNCHECKED;
        warp_run(r.chosen, 1 + (int)random_below(&w->random, (uint32_t)most));
        if (!r.chosen->waits) idle = 0;
        if (r.chosen->state == WARP_DONE) {
            stalled = 0;
            retire_teams(w);
        } else if (++stalled > STALLED && w->launch->team == 1) {
            stalled = 0;
            start_team(w);
        }
    }
}

static void *work(void *argument)
{
    worker *w = argument;
    launch *l = w->launch;
    if (l->counted) w->counts = calloc((size_t)l->function->length, sizeof *w->counts);
    while (!launch_failed(l) && start_team(w)) run_teams(w);
    for (int t = 0; t < w->made; t++) team_free(w->teams[t]);
    free(w->teams);
    if (w->counts) counts_merge(l->counted, w->counts);
    free(w->counts);
    return NULL;
}

/* ---- what blocks share ------------------------------------------------------------------------------------------------------ */

static int64_t dynamic_offset(const sg_function *f)
{
    int64_t align = f->shared_align > 16 ? f->shared_align : 16;
    return (f->static_shared + align - 1) / align * align;
}

static int64_t shared_total(const sg_function *f, int64_t dynamic) { return dynamic ? dynamic_offset(f) + dynamic : f->static_shared; }

/* What the system keeps of each block lies behind the block's own, where a kernel asks for it: cooperative groups' scratch. */
static int64_t with_reserved(const sg_function *f, int64_t own)
{
    for (int s = 0; s < f->special_count; s++)
        if (f->specials[s].which >= SPECIAL_RESERVED_BEGIN && f->specials[s].which <= SPECIAL_RESERVED_1) return (own + 127) / 128 * 128 + RESERVED_SHARED;
    return own;
}

static bool fill_relocations(launch *l)
{
    const sg_function *f = l->function;
    for (int r = 0; r < f->relocation_count; r++) {
        const ptx_relocation *at = &f->relocations[r];
        uint64_t address = (uint64_t)dynamic_offset(f);
        int64_t bytes;
        if (at->variable->space != SPACE_SHARED && !sg_module_variable(f->module, l->device, at->variable->name, &address, &bytes)) return false;
        address += (uint64_t)at->addend;
        for (int lane = 0; lane < LANES; lane++) {
            int width = at->bits == 64 ? 8 : 4;
            memcpy(l->constants + at->offset + lane * width, &address, (size_t)width);
        }
    }
    return true;
}

/* cg::grid_group::sync counts in a word that the driver provides, zero at first, in memory that %envreg1 and %envreg2 name. */
static bool open_workspace(launch *l)
{
    enum { WORKSPACE_BYTES = 256 };
    if (!l->request->cooperative) return true;
    l->workspace = sg_memory_allocate(l->device, SG_MEMORY_MODULE, WORKSPACE_BYTES, "a cooperative grid's workspace");
    return l->workspace && sg_memory_fill(l->workspace, 0, WORKSPACE_BYTES, "a cooperative launch");
}

static bool prepare(launch *l)
{
    const sg_function *f = l->function;
    l->constants = aligned_alloc(64, ((size_t)f->constant_bytes + 127) / 64 * 64);
    l->parameters = calloc(1, (size_t)f->parameter_total + 16);
    if (!l->constants || !l->parameters) return false;
    if (f->constant_bytes) memcpy(l->constants, f->constants, f->constant_bytes);
    for (int p = 0; p < f->parameter_count; p++)
        memcpy(l->parameters + f->parameter_offsets[p], l->request->arguments[p], (size_t)f->parameter_bytes[p]);
    return fill_relocations(l) && open_workspace(l);
}

/* ld and st use the pipe of the memory that they name. */
static pipe pipe_of(const insn *i)
{
    if (!i->row) return PIPE_CONTROL;
    if (i->row->pipe != PIPE_GLOBAL && i->row->pipe != PIPE_ATOMIC) return i->row->pipe;
    if (i->space == SPACE_SHARED || i->space == SPACE_CLUSTER) return i->row->pipe == PIPE_ATOMIC ? PIPE_ATOMIC : PIPE_SHARED;
    return i->space == SPACE_LOCAL ? PIPE_LOCAL : i->space == SPACE_PARAM || i->space == SPACE_CONST ? PIPE_CONTROL : i->row->pipe;
}

static void describe_instructions(counted_kernel *k, const sg_function *f)
{
    for (int i = 0; i < f->length; i++) {
        const insn *at = &f->code[i];
        const char *file = at->file >= 0 && at->file < f->module->file_count ? f->module->files[at->file] : NULL;
        k->insns[i] = (counted_insn){.file = file, .line = at->line, .pipe = pipe_of(at),
                                     .tensor_flops = at->tensor_flops, .flops = at->row ? at->row->flops : 0,
                                     .branch = at->target >= 0 || at->target_count, .warpgroup = at->holds,
                                     .copies = at->copies};
    }
}

static sg_resources resources_of(const sg_function *f)
{
    if (f->have_resources) return f->resources;
    return (sg_resources){.static_shared_bytes = f->static_shared, .spill_store_bytes = -1, .spill_load_bytes = -1};
}

static void begin_counting(launch *l)
{
    bool fresh;
    const sg_function *f = l->function;
    sg_resources resources = resources_of(f);
    l->counted = counts_kernel(f, f->display, f->length, &fresh);
    if (!l->counted) return;
    if (fresh) describe_instructions(l->counted, f);
    counts_launch(l->counted, &l->device->properties, l->request, &resources,
                  sg_occupancy(l->device, f, l->threads, l->request->dynamic_shared_bytes));
}

/* Blocks of a persistent grid that find nothing to do run a few instructions: less than a hundredth of what the others run. */
static int64_t busy_blocks(launch *l)
{
    int64_t busy = 0;
    int largest = WORK_SIZES - 1;
    while (largest > 0 && !atomic_load(&l->blocks_by_work[largest])) largest--;
    for (int size = largest > 7 ? largest - 7 : 0; size <= largest; size++) busy += atomic_load(&l->blocks_by_work[size]);
    return busy;
}

static int host_threads(void)
{
    cpu_set_t set;
    if (sg_settings.threads > 0) return sg_settings.threads;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static int64_t greatest_divisor(int64_t a, int64_t b) { return b ? greatest_divisor(b, a % b) : a; }

/* Teams in the order start + n·stride: every team once where the stride has no divisor in common with their number. */
static void choose_order(launch *l)
{
    static atomic_ullong serials;
    uint64_t state = sg_settings.seed * UINT64_C(0x9e3779b97f4a7c15) + (l->serial = atomic_fetch_add(&serials, 1));
    int64_t teams = l->blocks / l->team;
    random_below(&state, 2);
    l->start = (int64_t)(((uint64_t)random_below(&state, UINT32_MAX) << 20) % (uint64_t)teams);
    do
        l->stride = 1 + (int64_t)(((uint64_t)random_below(&state, UINT32_MAX) << 20) % (uint64_t)teams);
    while (greatest_divisor(l->stride, teams) != 1);
}

static void run_workers(launch *l)
{
    int64_t teams = l->blocks / l->team;
    int count = host_threads() < teams ? host_threads() : (int)teams;
    worker *workers = calloc((size_t)count, sizeof *workers);
    if (!workers) abort();
    for (int i = 0; i < count; i++) workers[i].launch = l;
    for (int i = 1; i < count; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) workers[i].launch = NULL;
    work(&workers[0]);
    for (int i = 1; i < count; i++)
        if (workers[i].launch) pthread_join(workers[i].thread, NULL);
    free(workers);
}

/* The serial of the last launch of a stream, or of another that shares its place: then nothing is asked. Launches come one by one. */
static uint32_t *last_of_stream(uint64_t stream)
{
    static struct {
        uint64_t stream;
        uint32_t serial;
    } streams[64];
    size_t at = stream % (sizeof streams / sizeof *streams);
    if (streams[at].stream != stream) streams[at].serial = 0;
    streams[at].stream = stream;
    return &streams[at].serial;
}

sg_status sg_execute(sg_device *device, const sg_function *function, const sg_launch *request)
{
    const unsigned *g = request->grid, *b = request->block, *c = request->cluster;
    launch l = {.device = device, .function = function, .request = request, .blocks = (int64_t)g[0] * g[1] * g[2],
                .threads = (int)(b[0] * b[1] * b[2]), .cluster = (int)(c[0] * c[1] * c[2]),
                .shared_own = shared_total(function, request->dynamic_shared_bytes)};
    l.shared_bytes = with_reserved(function, l.shared_own);
    l.warps = (l.threads + LANES - 1) / LANES;
    l.team = request->cooperative ? (int)l.blocks : l.cluster;
    if (!l.blocks || !prepare(&l)) return SG_INVALID_CONFIGURATION;
    choose_order(&l);
    if (sg_settings.count || sg_settings.report || sg_settings.coverage_file) begin_counting(&l);
    uint32_t *last = last_of_stream(request->stream);
    if (sg_settings.checks) l.races = race_launch_begin(launch_report_race, &l, request->early ? *last : 0);
    if (l.races) *last = race_launch_serial(l.races);
    run_workers(&l);
    if (l.counted) counts_busy(l.counted, busy_blocks(&l));
    if (l.races) race_launch_end(l.races);
    if (l.workspace) sg_memory_free(l.workspace);
    free(l.constants);
    free(l.parameters);
    return (sg_status)atomic_load(&l.status);
}

/* ---- limits -------------------------------------------------------------------------------------------------------------------- */

sg_status sg_launch_check(const sg_device *device, const sg_function *function, const sg_launch *r, char *reason, size_t bytes)
{
    const sg_properties *p = &device->properties;
    const unsigned *g = r->grid, *b = r->block, *c = r->cluster;
    int64_t threads = (int64_t)b[0] * b[1] * b[2], cluster = (int64_t)c[0] * c[1] * c[2];
    int64_t shared = shared_total(function, r->dynamic_shared_bytes);
    const int *required = function->required_threads;
    const char *problem = NULL;
    if (!g[0] || !g[1] || !g[2] || g[0] > 0x7fffffff || g[1] > 65535 || g[2] > 65535) problem = "a grid may have 1 to 2^31-1, 65535, 65535 blocks";
    else if (!b[0] || !b[1] || !b[2] || b[0] > 1024 || b[1] > 1024 || b[2] > 64 || threads > 1024)
        problem = "a block may have 1024 threads in all, and 1024, 1024, 64 along its axes";
    else if (required[0] && (b[0] != (unsigned)required[0] || b[1] != (unsigned)required[1] || b[2] != (unsigned)required[2]))
        problem = "the kernel requires other block dimensions";
    else if (shared > p->shared_optin_bytes) problem = "its shared memory is more than a block of this device can have";
    else if (!c[0] || !c[1] || !c[2] || g[0] % c[0] || g[1] % c[1] || g[2] % c[2]) problem = "the grid is no multiple of the cluster";
    else if (cluster > 1 && (p->compute_major < 9 || cluster > 16)) problem = "clusters have up to 16 blocks, on compute capability 9.0 and later";
    if (!problem) return SG_OK;
    snprintf(reason, bytes, "grid (%u,%u,%u), block (%u,%u,%u), cluster (%u,%u,%u), %lld bytes of shared memory: %s", g[0], g[1], g[2], b[0], b[1],
             b[2], c[0], c[1], c[2], (long long)shared, problem);
    return SG_INVALID_CONFIGURATION;
}

static int64_t fit(int64_t room, int64_t each) { return each > 0 ? room / each : INT64_MAX; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Registers are given to warps in steps of 256; shared memory of a block has 1 KiB of the system's and comes in steps of 128 bytes
   (CUDA programming guide, technical specifications; occupancy calculator). */
int sg_occupancy(const sg_device *device, const sg_function *function, int threads, int64_t dynamic_shared_bytes)
{
    const sg_properties *p = &device->properties;
    int64_t warps = (threads + LANES - 1) / LANES, registers = (int64_t)(resources_of(function).registers * LANES + 255) / 256 * 256;
    int64_t shared = (shared_total(function, dynamic_shared_bytes) + (p->compute_major >= 8 ? 1024 : 0) + 127) / 128 * 128;
    int64_t blocks = least(p->blocks_per_sm, fit(p->threads_per_sm, warps * LANES));
    blocks = least(blocks, fit(fit(p->registers_per_sm, registers), warps));
    return (int)least(blocks, fit(p->shared_per_sm_bytes, shared));
}

double sg_modelled_seconds(const sg_device *device)
{
    double seconds = 0;
    for (counted_kernel *k = counts_first(); k; k = k->next)
        if (!strcmp(k->device.name, device->properties.name)) seconds += model_time(k, k->totals).seconds;
    return seconds;
}

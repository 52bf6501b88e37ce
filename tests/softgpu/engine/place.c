/* Findings and failures of a running launch: where in the source, which block and thread. */
#include "engine/finding.h"
#include "engine/warp.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void launch_fail(launch *l, sg_status status)
{
    int fine = SG_OK;
    atomic_compare_exchange_strong(&l->status, &fine, (int)status);
}

bool launch_failed(const launch *l) { return atomic_load_explicit(&l->status, memory_order_relaxed) != SG_OK; }

static const char *file_name(const sg_module *m, int file) { return file >= 0 && file < m->file_count ? m->files[file] : NULL; }

/* The file's name is cut at its start, if at all. */
static size_t one_place(const sg_module *m, int location, const char *before, char *text, size_t bytes)
{
    const char *file = file_name(m, m->locations[location].file);
    size_t most = bytes - 40, length = file ? strlen(file) : 0;
    if (length > most) file += length - most;
    return (size_t)snprintf(text, bytes, "%s%s:%d", before, file ? file : "?", m->locations[location].line);
}

/* The innermost places and the outermost one; those between that have no room are counted. */
void insn_place(const sg_function *f, const insn *i, char *text, size_t bytes)
{
    const sg_module *m = f->module;
    char last[PLACE_BYTES / 2] = "";
    size_t used = 0;
    if (!file_name(m, i->file)) {
        snprintf(text, bytes, "%.200s, line %d of its PTX", f->display, i->ptx_line);
        return;
    }
    int outermost = i->location, left_out = 0;
    while (outermost >= 0 && m->locations[outermost].caller >= 0) outermost = m->locations[outermost].caller;
    if (outermost != i->location) one_place(m, outermost, ", inlined at ", last, sizeof last);
    *text = 0;
    for (int l = i->location; l >= 0 && l != outermost; l = m->locations[l].caller) {
        char one[PLACE_BYTES / 2];
        size_t length = one_place(m, l, used ? ", inlined at " : "", one, sizeof one);
        if (left_out || used + length + strlen(last) + sizeof ", 9999 more" > bytes)
            left_out++;
        else
            memcpy(text + used, one, length + 1), used += length;
    }
    if (outermost == i->location) one_place(m, outermost, "", last, sizeof last);
    if (left_out) used += (size_t)snprintf(text + used, bytes - used, ", %d more", left_out);
    snprintf(text + used, bytes - used, "%s", last);
}

void warp_finding(const warp *w, const insn *i, int lane, const char *kind, const char *format, ...)
{
    const launch *l = w->block->launch;
    const unsigned *block = l->request->block;
    char place[PLACE_BYTES], who[160], text[900];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (lane < 0) {
        snprintf(who, sizeof who, "warp %d", w->number);
    } else {
        unsigned thread = (unsigned)(w->number * LANES + lane);
        snprintf(who, sizeof who, "thread (%u,%u,%u)", thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]);
    }
    insn_place(l->function, i, place, sizeof place);
    sg_finding_at(kind, place, "%s, block (%u,%u,%u), %s: %s: %s", l->function->display, w->block->index[0], w->block->index[1], w->block->index[2],
                  who, i->text, text);
}

static void describe_point(const launch *l, const race_point *p, char *text, size_t bytes)
{
    char place[PLACE_BYTES], lane[24];
    insn_place(l->function, &l->function->code[p->place], place, sizeof place);
    snprintf(lane, sizeof lane, "lane %d", p->lane);
    if (p->warp == RACE_ASYNC) {
        snprintf(text, bytes, "%s by the copy at %s into block %u", p->write ? "written" : "read", place, p->block);
        return;
    }
    if (p->warp >= RACE_PRODUCTS) {
        snprintf(text, bytes, "read by the product at %s of block %u, warps %d to %d", place, p->block, (p->warp - RACE_PRODUCTS) * 4, (p->warp - RACE_PRODUCTS) * 4 + 3);
        return;
    }
    snprintf(text, bytes, "%s at %s by block %u, warp %d, %s", p->write ? "written" : "read", place, p->block, p->warp,
             p->lane >= LANES ? "several lanes" : lane);
}

void launch_report_race(void *context, const char *kind, bool shared, uint64_t address, const race_point *earlier, const race_point *now)
{
    const launch *l = context;
    char first[PLACE_BYTES + 100], second[PLACE_BYTES + 100], where[300], place[PLACE_BYTES];
    if (earlier)
        describe_point(l, earlier, first, sizeof first);
    else
        snprintf(first, sizeof first, "used by the kernel launched before");
    describe_point(l, now, second, sizeof second);
    if (shared)
        snprintf(where, sizeof where, "shared memory at %llu", (unsigned long long)address);
    else
        sg_address_describe(address, where, sizeof where);
    insn_place(l->function, &l->function->code[now->place], place, sizeof place);
    const char *lacking = !earlier ? "no griddepcontrol.wait yet in this block" : strcmp(kind, "proxy fence") ? "nothing between them that orders the two" : "no fence.proxy.async between them";
    sg_finding_at(kind, place, "%s: %s: %s, then %s, with %s", l->function->display, where, first, second, lacking);
}

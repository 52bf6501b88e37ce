/* The report at exit: findings, a table of kernels with counts and modelled times, the lines that cost most; or the same as JSON; and line
   coverage for lcov. */
#include "engine/finding.h"
#include "engine/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct figure {
    char *name;
    int64_t value;
} figure;
static figure *figures;
static int figure_count;

void sg_report_figure(const char *name, int64_t value)
{
    figure *grown = realloc(figures, (size_t)(figure_count + 1) * sizeof *figures);
    if (!grown) return;
    figures = grown;
    figures[figure_count++] = (figure){strdup(name), value};
}

/* ---- sums ----------------------------------------------------------------------------------------------------------------------- */

typedef struct summary {
    counts all;
    int64_t pipes[PIPES], tensor_flops, flops, branches, moves;
} summary;

static void add_counts(counts *to, const counts *from)
{
    to->warps += from->warps;
    to->lanes += from->lanes;
    to->wavefronts += from->wavefronts;
    to->ideal_wavefronts += from->ideal_wavefronts;
    to->sectors += from->sectors;
    to->ideal_sectors += from->ideal_sectors;
    to->bytes += from->bytes;
    to->divergent += from->divergent;
}

static summary summarise(const counted_kernel *k)
{
    summary s = {0};
    for (int i = 0; i < k->instructions; i++) {
        add_counts(&s.all, &k->totals[i]);
        s.pipes[k->insns[i].pipe] += k->totals[i].warps;
        s.tensor_flops += k->totals[i].warps * k->insns[i].tensor_flops;
        s.flops += k->totals[i].lanes * k->insns[i].flops;
        if (k->insns[i].copies) s.moves += k->totals[i].warps;
        if (k->insns[i].branch) s.branches += k->totals[i].warps;
    }
    return s;
}

typedef struct source_line {
    const char *file;
    int line;
    counts sums;
    bool reached;
} source_line;

static int by_place(const void *left, const void *right)
{
    const source_line *a = left, *b = right;
    int order = strcmp(a->file, b->file);
    return order ? order : a->line - b->line;
}

static int by_cost(const void *left, const void *right)
{
    const source_line *a = left, *b = right;
    return (a->sums.warps < b->sums.warps) - (a->sums.warps > b->sums.warps);
}

/* Adds a kernel's instructions to a list, one entry each. */
static source_line *gather(const counted_kernel *k, source_line *lines, int *count)
{
    source_line *grown = realloc(lines, (size_t)(*count + k->instructions + 1) * sizeof *grown);
    if (!grown) return lines;
    for (int i = 0; i < k->instructions; i++)
        if (k->insns[i].file && k->insns[i].line > 0)
            grown[(*count)++] = (source_line){k->insns[i].file, k->insns[i].line, k->totals[i], k->totals[i].warps > 0};
    return grown;
}

/* Sorts by place and joins entries of one line. */
static int join_lines(source_line *lines, int count)
{
    int kept = 0;
    if (count) qsort(lines, (size_t)count, sizeof *lines, by_place);
    for (int i = 0; i < count; i++) {
        if (kept && !by_place(&lines[kept - 1], &lines[i])) {
            add_counts(&lines[kept - 1].sums, &lines[i].sums);
            lines[kept - 1].reached |= lines[i].reached;
        } else {
            lines[kept++] = lines[i];
        }
    }
    return kept;
}

/* ---- text ----------------------------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static double percent(int64_t part, int64_t whole) { return whole ? 100.0 * (double)part / (double)whole : 0; }

static void print_lines(FILE *to, const counted_kernel *k, int64_t all)
{
    enum { SHOWN = 8 };
    int count = 0;
    source_line *lines = gather(k, NULL, &count);
    count = join_lines(lines, count);
    if (count) qsort(lines, (size_t)count, sizeof *lines, by_cost);
    for (int i = 0; i < count && i < SHOWN; i++)
        fprintf(to, "    %5.1f %%  %s:%d  (%" PRId64 " warp instructions, %" PRId64 " wavefronts, %" PRId64 " sectors)\n",
                percent(lines[i].sums.warps, all), base_name(lines[i].file), lines[i].line, lines[i].sums.warps, lines[i].sums.wavefronts,
                lines[i].sums.sectors);
    free(lines);
}

static void print_kernel(FILE *to, const counted_kernel *k)
{
    summary s = summarise(k);
    model_bound bound = model_time(k, k->totals);
    char registers[24] = "unknown";
    if (k->resources.registers) snprintf(registers, sizeof registers, "%d", k->resources.registers);
    fprintf(to, "%s on %s\n", k->name, k->device.name);
    fprintf(to, "  %" PRId64 " launches, %" PRId64 " blocks, %" PRId64 " threads; %s registers, %" PRId64 " + %" PRId64
                " bytes of shared memory, spills %" PRId64 "/%" PRId64 " bytes; %d blocks a multiprocessor\n",
            k->launches, k->blocks, k->threads, registers, k->resources.static_shared_bytes, k->dynamic_shared_bytes,
            k->resources.spill_store_bytes, k->resources.spill_load_bytes, k->blocks_per_sm);
    fprintf(to, "  %" PRId64 " warp instructions and %" PRId64 " moves, %.1f lanes active;", s.all.warps - s.moves, s.moves, s.all.warps ? (double)s.all.lanes / (double)s.all.warps : 0);
    for (pipe p = 0; p < PIPES; p++)
        if (s.pipes[p]) fprintf(to, " %s %.1f %%", pipe_name(p), percent(s.pipes[p] - (p == PIPE_ALU ? s.moves : 0), s.all.warps - s.moves));
    fprintf(to, "\n  %.4g tensor FLOP, %.4g scalar FLOP; %" PRId64 " of %" PRId64 " branches divergent\n", (double)s.tensor_flops,
            (double)s.flops, s.all.divergent, s.branches);
    fprintf(to, "  shared memory: %" PRId64 " wavefronts, %" PRId64 " more than ideal; global memory: %" PRId64 " sectors, ideal %" PRId64
                ", %" PRId64 " bytes\n",
            s.all.wavefronts, s.all.wavefronts - s.all.ideal_wavefronts, s.all.sectors, s.all.ideal_sectors, s.all.bytes);
    fprintf(to, "  MODELLED lower bound %.3g us, set by %s (a model from documented rates, not a measurement)\n", bound.seconds * 1e6, bound.by);
    print_lines(to, k, s.all.warps);
}

static void print_text(FILE *to)
{
    int64_t times;
    fprintf(to, "softgpu report: %" PRId64 " findings\n", sg_findings());
    for (int64_t i = 0; i < sg_findings(); i++) {
        const char *text = sg_finding_text(i, &times);
        fprintf(to, "  %s (%" PRId64 " times)\n", text, times);
    }
    for (int i = 0; i < figure_count; i++) fprintf(to, "%s %" PRId64 "\n", figures[i].name, figures[i].value);
    for (const counted_kernel *k = counts_first(); k; k = k->next) print_kernel(to, k);
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------------------- */

static void print_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            fprintf(to, "\\%c", *text);
        else if ((unsigned char)*text < 32)
            fprintf(to, "\\u%04x", (unsigned)*text);
        else
            fputc(*text, to);
    fputc('"', to);
}

static void print_counts(FILE *to, const counts *c)
{
    fprintf(to, "\"warp_instructions\": %" PRId64 ", \"lanes\": %" PRId64 ", \"wavefronts\": %" PRId64 ", \"ideal_wavefronts\": %" PRId64
                ", \"sectors\": %" PRId64 ", \"ideal_sectors\": %" PRId64 ", \"bytes\": %" PRId64 ", \"divergent_branches\": %" PRId64,
            c->warps, c->lanes, c->wavefronts, c->ideal_wavefronts, c->sectors, c->ideal_sectors, c->bytes, c->divergent);
}

static void print_kernel_json(FILE *to, const counted_kernel *k)
{
    summary s = summarise(k);
    model_bound bound = model_time(k, k->totals);
    int count = 0;
    source_line *lines = gather(k, NULL, &count);
    count = join_lines(lines, count);
    fprintf(to, "  {\"name\": ");
    print_string(to, k->name);
    fprintf(to, ", \"device\": ");
    print_string(to, k->device.name);
    fprintf(to, ", \"launches\": %" PRId64 ", \"blocks\": %" PRId64 ", \"threads\": %" PRId64 ", \"registers\": %d, \"spill_store_bytes\": %" PRId64
                ", \"spill_load_bytes\": %" PRId64 ", \"static_shared_bytes\": %" PRId64 ", \"dynamic_shared_bytes\": %" PRId64
                ", \"blocks_per_multiprocessor\": %d, ",
            k->launches, k->blocks, k->threads, k->resources.registers, k->resources.spill_store_bytes, k->resources.spill_load_bytes,
            k->resources.static_shared_bytes, k->dynamic_shared_bytes, k->blocks_per_sm);
    print_counts(to, &s.all);
    fprintf(to, ", \"moves\": %" PRId64, s.moves);
    fprintf(to, ", \"tensor_flops\": %" PRId64 ", \"scalar_flops\": %" PRId64 ", \"pipes\": {", s.tensor_flops, s.flops);
    for (pipe p = 0; p < PIPES; p++) fprintf(to, "%s\"%s\": %" PRId64, p ? ", " : "", pipe_name(p), s.pipes[p]);
    fprintf(to, "}, \"modelled_lower_bound_seconds\": %.6g, \"modelled_limit\": \"%s\", \"modelled_multiprocessor_seconds\": %.6g, "
                "\"modelled_l2_seconds\": %.6g, \"multiprocessors\": %d, \"lines\": [",
            bound.seconds, bound.by, bound.multiprocessor_seconds, bound.l2_seconds, k->device.multiprocessors);
    for (int i = 0; i < count; i++) {
        fprintf(to, "%s\n    {\"file\": ", i ? "," : "");
        print_string(to, lines[i].file);
        fprintf(to, ", \"line\": %d, ", lines[i].line);
        print_counts(to, &lines[i].sums);
        fprintf(to, "}");
    }
    fprintf(to, "]}");
    free(lines);
}

static void print_json(FILE *to)
{
    int64_t times;
    fprintf(to, "{\"findings\": [");
    for (int64_t i = 0; i < sg_findings(); i++) {
        const char *text = sg_finding_text(i, &times);
        fprintf(to, "%s{\"text\": ", i ? ", " : "");
        print_string(to, text);
        fprintf(to, ", \"times\": %" PRId64 "}", times);
    }
    fprintf(to, "],\n\"figures\": {");
    for (int i = 0; i < figure_count; i++) fprintf(to, "%s\"%s\": %" PRId64, i ? ", " : "", figures[i].name, figures[i].value);
    fprintf(to, "},\n\"kernels\": [");
    for (const counted_kernel *k = counts_first(); k; k = k->next) {
        fprintf(to, "%s\n", k == counts_first() ? "" : ",");
        print_kernel_json(to, k);
    }
    fprintf(to, "\n]}\n");
}

/* ---- coverage, and all together --------------------------------------------------------------------------------------------- */

/* Appended, as lcov joins records of one file: several processes can share the file. */
static void write_coverage(const char *path)
{
    int count = 0;
    source_line *lines = NULL;
    for (const counted_kernel *k = counts_first(); k; k = k->next) lines = gather(k, lines, &count);
    count = join_lines(lines, count);
    FILE *to = count ? fopen(path, "a") : NULL;
    for (int i = 0; to && i < count; i++) {
        if (!i || strcmp(lines[i].file, lines[i - 1].file)) fprintf(to, "%sTN:softgpu\nSF:%s\n", i ? "end_of_record\n" : "", lines[i].file);
        fprintf(to, "DA:%d,%" PRId64 "\n", lines[i].line, lines[i].sums.warps);
    }
    if (to) fprintf(to, "end_of_record\n");
    if (to) fclose(to);
    free(lines);
}

int64_t sg_report(void)
{
    const char *form = sg_settings.report;
    FILE *to = !form ? NULL : sg_settings.report_file ? fopen(sg_settings.report_file, "w") : stderr;
    if (to && !strcmp(form, "json"))
        print_json(to);
    else if (to)
        print_text(to);
    if (to && to != stderr) fclose(to);
    if (sg_settings.coverage_file) write_coverage(sg_settings.coverage_file);
    return sg_findings();
}

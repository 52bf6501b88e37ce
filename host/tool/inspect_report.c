/* The report of attend inspect: one row per head, one line per query of --queries. */
#include "tool/inspect.h"
#include "tool/measure.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The entry's numbers of a head, in a tensor with `size` numbers per head. */
static const float *floats(const attend_tensor *t, const inspection *s, int64_t entry, int64_t head,
                           int64_t size)
{
    return (const float *)t->data + (entry * s->job.problem.num_heads + head) * size;
}

/* The index of the entry's first query, in a tensor with `width` numbers per query. */
static int64_t row_place(const inspection *s, int64_t head, int64_t width)
{
    return ((s->entry.at * s->job.problem.num_heads + head) * s->entry.rows + s->entry.first_q) * width;
}

static double likeness(const float *a, const float *b, int64_t size)
{
    double product = 0, squares_a = 0, squares_b = 0;
    for (int64_t i = 0; i < size; i++)
        product += (double)a[i] * b[i], squares_a += (double)a[i] * a[i], squares_b += (double)b[i] * b[i];
    return squares_a > 0 && squares_b > 0 ? product / sqrt(squares_a * squares_b) : 0;
}

head_view view_head(const inspection *s, int64_t head)
{
    int64_t queries = s->entry.queries, top = s->options->top, regions = s->options->region_count, seen = 0;
    int64_t tiles = s->map.shape[2] * s->map.shape[3], shown = s->options->entry;
    const float *weights = (const float *)s->top_weights.data + row_place(s, head, top);
    const float *entropy = (const float *)s->entropy.data + row_place(s, head, 1);
    const float *mass = (const float *)s->mass.data + row_place(s, head, regions),
                *map = floats(&s->map, s, shown, head, tiles);
    head_view v = {.distance = *floats(&s->distance, s, shown, head, 1),
                   .strong_query = -1,
                   .strong_key = -1,
                   .like = -1};
    for (int64_t i = 0; i < queries; i++) {
        if (!(weights[i * top] > 0)) continue; /* no visible key, or not finite */
        seen++;
        v.keys += exp((double)entropy[i]);
        for (int64_t n = 0; n < regions; n++) v.mass[n] += mass[i * regions + n];
        if (weights[i * top] <= v.strong_weight) continue;
        v.strong_weight = weights[i * top], v.strong_query = i;
        v.strong_key = ((const int64_t *)s->top_keys.data)[row_place(s, head, top) + i * top];
    }
    if (seen) v.keys /= (double)seen;
    for (int64_t n = 0; n < regions && seen; n++) v.mass[n] /= (double)seen;
    for (int64_t other = 0; other < s->job.problem.num_heads; other++) {
        double alike = other == head ? 0 : likeness(map, floats(&s->map, s, shown, other, tiles), tiles);
        if (alike > v.likeness) v.likeness = alike, v.like = other;
    }
    return v;
}

static void report_head(const inspection *s, int64_t head, cJSON *heads, report *r)
{
    head_view v = view_head(s, head);
    cJSON *object = cJSON_CreateObject(), *mass = cJSON_CreateObject(), *strongest = cJSON_CreateObject();
    cJSON_AddItemToArray(heads, object);
    cJSON_AddNumberToObject(object, "head", (double)head);
    report_json_number(object, "distance", v.distance);
    report_json_number(object, "keys", v.keys);
    cJSON_AddItemToObject(object, "mass", mass);
    report_cell(r, "%" PRId64, head);
    report_cell(r, "%.1f", v.distance);
    report_cell(r, "%.1f", v.keys);
    for (int n = 0; n < s->options->region_count; n++) {
        report_json_number(mass, s->options->region_names[n], v.mass[n]);
        if (n < 8) report_cell(r, "%.0f %%", 100 * v.mass[n]);
    }
    report_cell(r, v.like >= 0 ? "%" PRId64 " (%.2f)" : "–", v.like, v.likeness);
    if (v.like >= 0) {
        cJSON_AddNumberToObject(object, "most_like", (double)v.like);
        report_json_number(object, "likeness", v.likeness);
    }
    if (v.strong_query < 0) {
        report_cell(r, "–");
        cJSON_Delete(strongest);
        return;
    }
    report_cell(r, "%s -> %s %.0f %%", token_text(s, v.strong_query), token_text(s, v.strong_key),
                100 * v.strong_weight);
    cJSON_AddItemToObject(object, "strongest", strongest);
    cJSON_AddNumberToObject(strongest, "query", (double)v.strong_query);
    cJSON_AddNumberToObject(strongest, "key", (double)v.strong_key);
    report_json_number(strongest, "weight", v.strong_weight);
}

static void report_heads(const inspection *s, report *r)
{
    static char alignment[16];
    int shown = s->options->region_count < 8 ? s->options->region_count : 8; /* JSON has all */
    cJSON *heads = cJSON_AddArrayToObject(r->object, "heads_seen");
    memset(alignment, 'r', sizeof alignment);
    strcpy(alignment + 3 + shown, "rl");
    report_table(r, alignment);
    report_cell(r, "head");
    report_cell(r, "distance");
    report_cell(r, "keys");
    for (int n = 0; n < shown; n++) report_cell(r, "%s", s->options->region_names[n]);
    report_cell(r, "most like");
    report_cell(r, "strongest");
    for (int64_t head = 0; head < s->job.problem.num_heads; head++) report_head(s, head, heads, r);
}

/* The weight of a key for the n-th query of --queries, mean over heads. */
static double mean_weight(const inspection *s, int n, int64_t key)
{
    double sum = 0;
    int64_t keys = s->job.problem.seqlen_k;
    for (int64_t head = 0; head < s->job.problem.num_heads; head++)
        sum += floats(&s->weights, s, s->entry.at, head, s->options->query_count * keys)[n * keys + key];
    return sum / (double)s->job.problem.num_heads;
}

static void report_query(const inspection *s, int n, cJSON *queries, report *r)
{
    cJSON *object = cJSON_CreateObject(), *top = cJSON_CreateArray();
    char text[512] = "", label[96];
    double before = INFINITY;
    int64_t before_key = -1;
    snprintf(label, sizeof label, "%s", token_text(s, s->options->queries[n]));
    cJSON_AddItemToArray(queries, object);
    cJSON_AddNumberToObject(object, "query", (double)s->options->queries[n]);
    if (s->tokens) cJSON_AddStringToObject(object, "token", token_text(s, s->options->queries[n]));
    cJSON_AddItemToObject(object, "keys", top);
    for (int64_t place = 0; place < s->options->top; place++) {
        int64_t best = -1;
        double most = 0;
        for (int64_t j = 0; j < s->entry.keys; j++) {
            double weight = mean_weight(s, n, j);
            bool later = weight < before || (weight == before && j > before_key);
            if (later && weight > most) best = j, most = weight;
        }
        if (best < 0) break;
        cJSON *key = cJSON_CreateObject();
        cJSON_AddItemToArray(top, key);
        cJSON_AddNumberToObject(key, "key", (double)best);
        if (s->tokens) cJSON_AddStringToObject(key, "token", token_text(s, best));
        report_json_number(key, "weight", most);
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s %.0f %%", used ? ", " : "-> ", token_text(s, best),
                 100 * most);
        before = most, before_key = best;
    }
    report_fact(r, label, text);
}

void inspect_report(const inspection *s, report *r)
{
    report_text(r, "device", "device", s->outcome.device, "%s", s->outcome.device);
    const bool ran = s->outcome.out.data != NULL;
    if (ran)
        report_number(r, "seconds", "time", s->outcome.seconds, "%s; inspection %s and %s",
                      time_text(s->outcome.seconds), time_text(s->seconds),
                      bytes_text((double)s->grew_bytes));
    report_number(r, "inspect_seconds", ran ? NULL : "inspection", s->seconds, "%s and %s",
                  time_text(s->seconds), bytes_text((double)s->grew_bytes));
    report_number(r, "inspect_grew_bytes", NULL, (double)s->grew_bytes, " ");
    if (s->job.problem.batch > 1)
        report_number(r, "entry", "entry", (double)s->options->entry, "%" PRId64 " of %" PRId64,
                      s->options->entry, s->job.problem.batch);
    cJSON *queries = cJSON_AddArrayToObject(r->object, "queries");
    for (int n = 0; n < s->options->query_count; n++) report_query(s, n, queries, r);
    report_heads(s, r);
}

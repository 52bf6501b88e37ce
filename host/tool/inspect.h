/* attend inspect, between its parts: what was seen of one entry of the batch. */
#ifndef ATTEND_TOOL_INSPECT_H
#define ATTEND_TOOL_INSPECT_H

#include "tool/job.h"

/* A batch entry or a packed sequence, and where its rows lie. */
typedef struct entry_rows {
    int64_t batch, rows;      /* of tensors with a row for each query: 1 and the total if packed */
    int64_t at;               /* the entry's place along their batch axis */
    int64_t first_q, first_k; /* its first rows in packed tensors, else 0 */
    int64_t queries, keys;
} entry_rows;

typedef struct inspection {
    job job;
    outcome outcome;
    const inspect_options *options;
    entry_rows entry;
    int64_t queries[INSPECT_MAX_QUERIES]; /* the options', as rows of q */
    double seconds;
    int64_t grew_bytes; /* the process, while it looked inside */
    /* without gaps, of the whole batch */
    attend_tensor top_keys, top_weights, entropy, mass, distance, weights, map;
    /* [token_count]; NULL: none were given */
    char **tokens;
    int64_t token_count;
} inspection;

/* What a head does on the average of its queries that see a key. */
typedef struct head_view {
    double distance, keys, mass[ATTEND_MAX_KEY_WINDOWS]; /* keys: exp of the entropy */
    int64_t strong_query, strong_key;                    /* its largest weight; -1: it has none */
    double strong_weight;
    int64_t like; /* the head with the most similar map, by the cosine; -1: none */
    double likeness;
} head_view;

head_view view_head(const inspection *inspection, int64_t head);

/* "bank" or "17"; valid for the next seven calls. */
const char *token_text(const inspection *inspection, int64_t place);
/* Reads a file with a token a line; `count`: as many must be there, packed sequences end to end. */
attend_status tokens_load(const char *path, int64_t count, inspection *inspection);

void inspect_report(const inspection *inspection, report *report);
/* Draws the map of all heads, or of one, with the tokens where there is room. */
attend_status inspect_draw(const inspection *inspection, attend_output *output);

#endif

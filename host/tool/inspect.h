/* What the parts of attend inspect share: the inspection of one entry of the batch. */
#ifndef ATTEND_TOOL_INSPECT_H
#define ATTEND_TOOL_INSPECT_H

#include "tool/job.h"

/* Where the rows of a batch entry or of a packed sequence are. */
typedef struct entry_rows {
    int64_t batch, rows;      /* first extents of tensors with a row per query: 1 and total_q if packed */
    int64_t at;               /* the entry's index along their batch axis */
    int64_t first_q, first_k; /* its first rows in packed tensors, else 0 */
    int64_t queries, keys;
} entry_rows;

typedef struct inspection {
    job job;
    outcome outcome;
    const inspect_options *options;
    entry_rows entry;
    int64_t queries[INSPECT_MAX_QUERIES]; /* of --queries, as rows of q */
    double seconds;
    int64_t grew_bytes; /* growth of the process's memory during the inspection */
    /* contiguous, of the whole batch */
    attend_tensor top_keys, top_weights, entropy, mass, distance, weights, map;
    /* [token_count]; NULL: no --tokens */
    char **tokens;
    int64_t token_count;
} inspection;

/* Means over the queries of a head that have at least one visible key. */
typedef struct head_view {
    double distance, keys, mass[ATTEND_MAX_KEY_WINDOWS]; /* keys: exp of the entropy */
    int64_t strong_query, strong_key; /* where the head's largest weight is; -1: no weight */
    double strong_weight;
    int64_t like; /* the head whose map has the largest cosine similarity; -1: none */
    double likeness;
} head_view;

head_view view_head(const inspection *inspection, int64_t head);

/* The token at a position, or its number if there are no tokens; valid for the next seven calls. */
const char *token_text(const inspection *inspection, int64_t place);
/* Reads a file with one token per line. It must have `count` lines; packed sequences follow each other. */
attend_status tokens_load(const char *path, int64_t count, inspection *inspection);

void inspect_report(const inspection *inspection, report *report);
/* Draws the map of all heads, or of one, labelled with tokens if they fit. */
attend_status inspect_draw(const inspection *inspection, attend_output *output);

#endif

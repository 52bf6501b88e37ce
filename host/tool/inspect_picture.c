/* The pictures of attend inspect: one panel per head, one box per tile of the map. Darker means more weight,
   relative to the panel's largest tile. */
#include "tool/inspect.h"
#include "tool/picture.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MARGIN = 16,
    TITLE = 34,
    PANEL = 240,
    ALONE = 936,
    LARGEST_BOX = 24,
    LEAST_LABELLED = 9,
    LONGEST_LABEL = 12,
    CORNER = 26
};
static const uint32_t INK = 0x202020, FRAME = 0xb0b0b0;

typedef struct sheet {
    const inspection *inspection;
    int box, label;             /* pixels of a tile's side; of the labels beside and above a map */
    bool labelled;              /* with tokens */
    int columns, width, height; /* columns: panels in a row; width, height: of a panel */
    int64_t tiles_q, tiles_k, first_head, heads;
} sheet;

/* White to dark blue by the square root of the share, so that small weights are visible. */
static uint32_t shade(double share)
{
    static const double light[3] = {255, 255, 255}, middle[3] = {90, 150, 215}, dark[3] = {8, 24, 88};
    double at = 2 * sqrt(share < 0 ? 0 : share > 1 ? 1 : share);
    uint32_t colour = 0;
    if (isnan(at)) return 0xe05050;
    for (int i = 0; i < 3; i++) {
        double value =
            at < 1 ? light[i] + (middle[i] - light[i]) * at : middle[i] + (dark[i] - middle[i]) * (at - 1);
        colour = colour << 8 | (uint32_t)(value + 0.5);
    }
    return colour;
}

static const char *label_of(const inspection *s, int64_t place)
{
    static char text[64];
    const char *token = token_text(s, place);
    int length = 0, shown = 0;
    while (token[length] && (shown < LONGEST_LABEL || ((unsigned char)token[length] & 0xc0) == 0x80))
        shown += ((unsigned char)token[length++] & 0xc0) != 0x80;
    snprintf(text, sizeof text, "%.*s", length, token);
    return text;
}

static sheet lay_out(const inspection *s)
{
    const inspect_options *o = s->options;
    sheet l = {.inspection = s,
               .tiles_q = s->map.shape[2],
               .tiles_k = s->map.shape[3],
               .first_head = o->head < 0 ? 0 : o->head,
               .heads = o->head < 0 ? s->job.problem.num_heads : 1};
    int64_t longer = l.tiles_q > l.tiles_k ? l.tiles_q : l.tiles_k,
            box = (l.heads > 1 ? PANEL : ALONE) / longer;
    int64_t queries = (o->end_query ? o->end_query : s->entry.queries) - o->first_query;
    int64_t keys = (o->end_key ? o->end_key : s->entry.keys) - o->first_key;
    l.box = (int)(box < 1 ? 1 : box > LARGEST_BOX ? LARGEST_BOX : box);
    l.labelled = s->tokens && l.box >= LEAST_LABELLED && queries == l.tiles_q && keys == l.tiles_k;
    l.label = CORNER;
    for (int64_t i = 0; i < (l.labelled ? s->entry.keys : 0); i++) {
        bool shown = (i >= o->first_query && i < o->first_query + queries) ||
                     (i >= o->first_key && i < o->first_key + keys);
        int width = picture_text_width(label_of(s, i)) + 6;
        if (shown && width > l.label) l.label = width;
    }
    l.columns = l.heads < 4 ? (int)l.heads : 4;
    l.width = (int)l.tiles_k * l.box + l.label + MARGIN;
    l.height = (int)l.tiles_q * l.box + l.label + TITLE + MARGIN;
    return l;
}

/* Tokens beside their rows and above their columns; without tokens the first and the last position. */
static void draw_labels(picture *p, const sheet *l, int left, int upper)
{
    const inspection *s = l->inspection;
    const inspect_options *o = s->options;
    int middle = (l->box - GLYPH_HEIGHT + 1) / 2, width = (int)l->tiles_k * l->box,
        height = (int)l->tiles_q * l->box;
    char text[64];
    for (int64_t i = 0; i < l->tiles_q && l->labelled; i++) {
        const char *token = label_of(s, o->first_query + i);
        picture_text(p, left - 3 - picture_text_width(token), upper + (int)i * l->box + middle, 1, INK,
                     token);
    }
    for (int64_t j = 0; j < l->tiles_k && l->labelled; j++)
        picture_text_up(p, left + (int)j * l->box + middle, upper - 4, 1, INK, label_of(s, o->first_key + j));
    if (l->labelled) return;
    snprintf(text, sizeof text, "keys %" PRId64 " to %" PRId64, o->first_key,
             (o->end_key ? o->end_key : s->entry.keys) - 1);
    picture_text(p, left + (width - picture_text_width(text)) / 2, upper - GLYPH_HEIGHT - 4, 1, INK, text);
    snprintf(text, sizeof text, "queries %" PRId64 " to %" PRId64, o->first_query,
             (o->end_query ? o->end_query : s->entry.queries) - 1);
    picture_text_up(p, left - GLYPH_HEIGHT - 4, upper + (height + picture_text_width(text)) / 2, 1, INK,
                    text);
}

static void draw_head(picture *p, const sheet *l, int64_t head, int x, int y)
{
    const inspection *s = l->inspection;
    head_view v = view_head(s, head);
    const float *map = (const float *)s->map.data +
                       (s->options->entry * s->job.problem.num_heads + head) * l->tiles_q * l->tiles_k;
    int left = x + l->label, upper = y + TITLE + l->label;
    float top = 0;
    char text[96];
    snprintf(text, sizeof text, "head %" PRId64, head);
    picture_text(p, left, y, 2, INK, text);
    snprintf(text, sizeof text, "distance %.1f, over %.1f keys", v.distance, v.keys);
    picture_text(p, left, y + 2 * GLYPH_HEIGHT + 4, 1, INK, text);
    for (int64_t i = 0; i < l->tiles_q * l->tiles_k; i++) top = fmaxf(top, map[i]);
    picture_box(p, left - 1, upper - 1, (int)l->tiles_k * l->box + 2, (int)l->tiles_q * l->box + 2, FRAME);
    for (int64_t i = 0; i < l->tiles_q * l->tiles_k; i++)
        picture_box(p, left + (int)(i % l->tiles_k) * l->box, upper + (int)(i / l->tiles_k) * l->box, l->box,
                    l->box, shade(top > 0 ? (double)map[i] / (double)top : (double)map[i]));
    draw_labels(p, l, left, upper);
}

attend_status inspect_draw(const inspection *s, attend_output *output)
{
    enum { MOST_PIXELS = 30000 };
    picture picture;
    const sheet l = lay_out(s);
    int64_t rows = (l.heads + l.columns - 1) / l.columns, width = 2 * MARGIN + (int64_t)l.columns * l.width,
            height = 2 * MARGIN + rows * l.height;
    if (l.tiles_q > MOST_PIXELS || l.tiles_k > MOST_PIXELS || width > MOST_PIXELS || height > MOST_PIXELS)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "the picture would be %" PRId64 " by %" PRId64
                                " pixels, the limit is %d: use fewer --tiles, or one --head",
                                width, height, MOST_PIXELS);
    ATTEND_TRY(picture_begin(&picture, (int)width, (int)height));
    for (int64_t i = 0; i < l.heads; i++)
        draw_head(&picture, &l, l.first_head + i, MARGIN + (int)(i % l.columns) * l.width,
                  MARGIN + (int)(i / l.columns) * l.height);
    attend_status status = picture_write(&picture, output);
    picture_end(&picture);
    return status;
}

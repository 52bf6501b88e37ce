/* Draws what scripts/softgpu --timeline wrote: draw_timeline FILE.tsv PICTURE.png TITLE. Copies to the device, kernels and copies from it have a lane
   each, and how much of the time each is busy. */
#include "tool/picture.h"
#include "file/fail.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 16, MARGIN = 20, NAMES = 80, ACROSS = 860, LANE = 26, TITLE = 44 };

static const struct {
    const char *kind, *name;
    uint32_t colour;
} lanes[] = {{"in", "copies in", 0x1f5fa8}, {"kernel", "kernels", 0x2e8b57}, {"out", "copies out", 0xe08a2c}};
enum { LANES = sizeof lanes / sizeof *lanes };

static struct {
    double begin, end;
    int lane;
} work[MOST];
static int count;

static bool read_work(const char *path)
{
    FILE *file = fopen(path, "r");
    char line[4096], kind[16];
    if (!file) return false;
    while (count < MOST && fgets(line, sizeof line, file)) {
        double begin, end;
        if (sscanf(line, "%*d\t%*u\t%lf\t%lf\t%15s", &begin, &end, kind) != 3) continue;
        for (int i = 0; i < LANES; i++)
            if (!strcmp(kind, lanes[i].kind)) work[count].begin = begin, work[count].end = end, work[count++].lane = i;
    }
    fclose(file);
    return count > 0;
}

static void draw(picture *p, const char *title)
{
    double first = INFINITY, last = 0, busy[LANES] = {0};
    char text[128];
    for (int i = 0; i < count; i++) first = fmin(first, work[i].begin), last = fmax(last, work[i].end);
    picture_text(p, MARGIN, 14, 2, 0x202020, title);
    for (int i = 0; i < count; i++) {
        const int x = (int)((work[i].begin - first) / (last - first) * ACROSS), end = (int)((work[i].end - first) / (last - first) * ACROSS);
        picture_box(p, MARGIN + NAMES + x, TITLE + work[i].lane * LANE, end - x > 1 ? end - x - (end - x > 3) : 1, LANE - 8, lanes[work[i].lane].colour);
        busy[work[i].lane] += work[i].end - work[i].begin;
    }
    for (int i = 0; i < LANES; i++) {
        picture_text(p, MARGIN, TITLE + i * LANE + 5, 1, 0x202020, lanes[i].name);
        snprintf(text, sizeof text, "%.0f %%", 100 * busy[i] / (last - first));
        picture_text(p, MARGIN + NAMES + ACROSS + 8, TITLE + i * LANE + 5, 1, 0x202020, text);
    }
    snprintf(text, sizeof text, "%.0f us by the model", last - first);
    picture_text(p, MARGIN + NAMES, TITLE + LANES * LANE + 2, 1, 0x202020, text);
}

int main(int argc, char **argv)
{
    picture picture;
    attend_output output;
    if (argc != 4 || !read_work(argv[1])) {
        fprintf(stderr, "usage: draw_timeline FILE.tsv PICTURE.png TITLE; FILE by scripts/softgpu --timeline\n");
        return 2;
    }
    if (attend_output_open(argv[2], &output) || picture_begin(&picture, 2 * MARGIN + NAMES + ACROSS + 40, TITLE + LANES * LANE + 20)) {
        fprintf(stderr, "draw_timeline: %s\n", attend_file_message());
        return 1;
    }
    draw(&picture, argv[3]);
    const attend_status status = picture_write(&picture, &output) || attend_output_commit(&output);
    if (status) fprintf(stderr, "draw_timeline: %s\n", attend_file_message());
    picture_end(&picture), attend_output_close(&output);
    return status != ATTEND_OK;
}

/* The edit distance of two names: insertions, deletions, replacements and swaps of neighbours (optimal string
   alignment). */
#include "tool/suggest.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 32 };

static int least(int a, int b) { return a < b ? a : b; }

static int distance_of(const char *a, const char *b)
{
    int rows[3][LONGEST + 1], *before = rows[0], *last = rows[1], *row = rows[2];
    const int n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (int j = 0; j <= m; j++) last[j] = before[j] = j;
    for (int i = 1; i <= n; i++) {
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        int *oldest = before;
        before = last, last = row, row = oldest;
    }
    return last[m];
}

void suggest(suggestion *s, const char *name)
{
    const int written = (int)strlen(s->written),
              longer = written > (int)strlen(name) ? written : (int)strlen(name);
    int distance = distance_of(s->written, name);
    if (3 * distance > longer && (written < 3 || strncmp(name, s->written, (size_t)written) != 0)) return;
    if (s->nearest && s->distance <= distance) return;
    s->nearest = name, s->distance = distance;
}

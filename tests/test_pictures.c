/* Pictures are those of tests/data/pictures, pixel for pixel: labels, titles, axes and every box. A picture that is to change is looked at,
   and copied there from the folder that ATTEND_TEST_PICTURES names. */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"
#include "tool/sweep.h"

#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct image {
    png_image png;
    unsigned char *pixels; /* [height][width][3] */
} image;

static image image_of(const char *path)
{
    image i = {.png = {.version = PNG_IMAGE_VERSION}};
    if (!png_image_begin_read_from_file(&i.png, path)) fail_msg("%s: %s", path, i.png.message);
    i.png.format = PNG_FORMAT_RGB, i.pixels = malloc(PNG_IMAGE_SIZE(i.png));
    if (!png_image_finish_read(&i.png, NULL, i.pixels, 0, NULL)) fail_msg("%s: %s", path, i.png.message);
    return i;
}

/* The picture in the test's folder against the one that is kept. */
static void expect_kept(const char *name)
{
    const char *folder = getenv("ATTEND_TEST_PICTURES");
    char kept[512];
    size_t size;
    if (folder) {
        char *bytes = test_read_file(test_path(name), &size);
        snprintf(kept, sizeof kept, "%s/%s", folder, name);
        test_write_file(kept, bytes, size);
        free(bytes);
    }
    snprintf(kept, sizeof kept, TEST_DATA "/pictures/%s", name);
    const image is = image_of(test_path(name)), was = image_of(kept);
    if (is.png.width != was.png.width || is.png.height != was.png.height)
        fail_msg("%s is %d by %d, expected %d by %d", name, (int)is.png.width, (int)is.png.height, (int)was.png.width, (int)was.png.height);
    for (size_t n = 0; n < PNG_IMAGE_SIZE(is.png); n++)
        if (is.pixels[n] != was.pixels[n])
            fail_msg("%s differs at x %d, y %d", name, (int)(n / 3 % is.png.width), (int)(n / 3 / is.png.width));
    free(is.pixels), free(was.pixels);
}

/* Five heads, whose scores fall with the key, faster in each, and go with its parity: a head's first tile is darker than all of the one before. */
static void heads_and_words(void **state)
{
    (void)state;
    enum { ROWS = 8, HEADS = 5, DIM = 2 };
    static const char tokens[] = "[CLS]\nthe\nna\xc3\xafve\nattention\nparliamentarian\n\nof\n.\n";
    float q[ROWS][HEADS][DIM], k[ROWS][HEADS][DIM];
    for (int i = 0; i < ROWS; i++)
        for (int h = 0; h < HEADS; h++) {
            q[i][h][0] = 1, q[i][h][1] = (float)(i % 3 - 1);
            k[i][h][0] = -(float)(h * i) / 4, k[i][h][1] = (float)(i % 2 * h);
        }
    test_write_tensor("q.npy", ATTEND_F32, 3, (int64_t[]){ROWS, HEADS, DIM}, q), test_write_tensor("k.npy", ATTEND_F32, 3, (int64_t[]){ROWS, HEADS, DIM}, k);
    test_write_file(test_path("tokens.txt"), tokens, sizeof tokens - 1);
#define INSPECT "inspect --q q.npy --k k.npy --scale 1 --device cpu --quiet "
    test_expect(0, "", INSPECT "--output heads.png");
    expect_kept("heads.png");
    test_expect(0, "", INSPECT "--causal --tokens tokens.txt --map 2:7,1:8 --head 3 --output words.png");
    expect_kept("words.png");
    test_expect(0, "", INSPECT "--map 1:7,2:8 --tiles 3 --head 4 --output tiles.png");
    expect_kept("tiles.png");
}

static void sweeps(void **state)
{
    (void)state;
    static sweep_series series[2] = {{.name = "attend", .colour = SWEEP_ATTEND_COLOUR}, {.name = "naive", .colour = SWEEP_NAIVE_COLOUR}};
    static const char *const names[] = {"sweep.png", "small.png"};
    for (int small = 0; small < 2; small++) { /* in TFLOP/s, and below one of them */
        attend_output output;
        for (int s = 0; s < 2; s++)
            for (int d = 0; d < SWEEP_DIMS; d++)
                for (int c = 0; c < 2; c++)
                    for (int n = 0; n < SWEEP_LENGTHS; n++)
                        series[s].tflops[d][c][n] = (s + 1) * (10 * d + 5 * c + n + 1) * (small ? 0.001 : 7.3);
        assert_int_equal(attend_output_open(test_path(names[small]), &output), ATTEND_OK);
        assert_int_equal(sweep_draw(series, 2, "one GPU, bf16", &output), ATTEND_OK);
        assert_int_equal(attend_output_commit(&output), ATTEND_OK), attend_output_close(&output);
        expect_kept(names[small]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heads_and_words), cmocka_unit_test(sweeps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

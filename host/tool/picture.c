/* Draws boxes and text, and writes PNG. */
#include "tool/picture.h"
#include "tool/font.h"
#include "file/fail.h"
#include "file/output.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

attend_status picture_begin(picture *p, int width, int height)
{
    size_t bytes = (size_t)width * (size_t)height * 3;
    *p = (picture){width, height, malloc(bytes)};
    if (!p->pixels)
        return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a picture of %d by %d", width, height);
    memset(p->pixels, 0xff, bytes);
    return ATTEND_OK;
}

void picture_end(picture *p)
{
    free(p->pixels);
    p->pixels = NULL;
}

void picture_box(picture *p, int x, int y, int width, int height, uint32_t colour)
{
    int right = x + width < p->width ? x + width : p->width,
        bottom = y + height < p->height ? y + height : p->height;
    for (int row = y < 0 ? 0 : y; row < bottom; row++)
        for (int column = x < 0 ? 0 : x; column < right; column++) {
            unsigned char *pixel = p->pixels + ((size_t)row * (size_t)p->width + (size_t)column) * 3;
            pixel[0] = (unsigned char)(colour >> 16), pixel[1] = (unsigned char)(colour >> 8),
            pixel[2] = (unsigned char)colour;
        }
}

/* Draws text; a UTF-8 sequence of several bytes is one character. */
static void draw_text(picture *p, int x, int y, int scale, bool up, uint32_t colour, const char *text)
{
    for (int at = 0; *text; text++) {
        if (((unsigned char)*text & 0xc0) == 0x80) continue;
        const unsigned char *rows = font_glyph(*text);
        for (int i = 0; i < FONT_ROWS * FONT_COLUMNS; i++) {
            int along = (at + i % FONT_COLUMNS) * scale, down = i / FONT_COLUMNS * scale;
            if (rows[i / FONT_COLUMNS] >> (FONT_COLUMNS - 1 - i % FONT_COLUMNS) & 1)
                picture_box(p, up ? x + down : x + along, up ? y - along - scale : y + down, scale, scale,
                            colour);
        }
        at += GLYPH_WIDTH;
    }
}

void picture_text(picture *p, int x, int y, int scale, uint32_t colour, const char *text)
{
    draw_text(p, x, y, scale, false, colour, text);
}

void picture_text_up(picture *p, int x, int y, int scale, uint32_t colour, const char *text)
{
    draw_text(p, x, y, scale, true, colour, text);
}

int picture_text_width(const char *text)
{
    int width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xc0) != 0x80 ? GLYPH_WIDTH : 0;
    return width;
}

attend_status picture_write(const picture *p, attend_output *output)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)p->width,
                       .height = (png_uint_32)p->height,
                       .format = PNG_FORMAT_RGB};
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    void *file = malloc(bytes);
    attend_status status = ATTEND_OUT_OF_MEMORY;
    if (file && png_image_write_to_memory(&image, file, &bytes, 0, p->pixels, 0, NULL))
        status = attend_output_write(output, file, (int64_t)bytes);
    else
        attend_file_fail(status, "no memory for a PNG file");
    png_image_free(&image);
    free(file);
    return status == ATTEND_OK ? attend_output_finish(output) : status;
}

/* Options of positions and of QK-norm. */
#include "tool/options_positions.h"
#include "tool/parse.h"
#include "file/fail.h"

#include <stdio.h>
#include <string.h>

attend_status positions_read_rotary(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"auto", "none", "halves", "interleaved", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->rope.choice = index < 2 ? (rotary_choice)index : ROTARY_GIVEN;
    options->rope.rotary = index < 2 ? ATTEND_ROTARY_NONE : (attend_rotary)(index - 1);
    return ATTEND_OK;
}

/* The library reads 0 as the default, so 0 is refused here. */
static attend_status read_base(const char *option, const char *text, double *base)
{
    ATTEND_TRY(parse_numbers(option, text, 1, 1, base));
    if (*base > 1) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a number above 1", option, text);
}

attend_status positions_read_rotary_base(const option_row *row, const char *text, options *options)
{
    return read_base(row->name, text, &options->rope.base);
}

/* KIND,FACTOR[,ORIGINAL[,LOW,HIGH[,ATTENTION]]] */
attend_status positions_read_rotary_scaling(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"none", "linear", "ntk", "yarn", "llama3", NULL};
    rope_options *t = &options->rope;
    char kind[16];
    double numbers[5] = {0};
    size_t length = strcspn(text, ",");
    int index;
    snprintf(kind, sizeof kind, "%.*s", (int)length, text);
    ATTEND_TRY(parse_choice(row->name, kind, names, &index));
    t->scaling = (attend_rotary_scaling)index, t->scaling_given = true;
    if (index == 0 && !text[length]) return ATTEND_OK;
    if (!text[length])
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a factor after it: %s,4",
                                row->name, text, text);
    ATTEND_TRY(parse_numbers(row->name, text + length + (text[length] == ','), 1, 5, numbers));
    if (numbers[1] < 0 || numbers[1] > 1e15 || numbers[1] != (double)(int64_t)numbers[1])
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", whose length is not a whole number",
                                row->name, text);
    t->factor = numbers[0], t->original_seqlen = (int64_t)numbers[1];
    t->low = numbers[2], t->high = numbers[3], t->attention_factor = numbers[4];
    return ATTEND_OK;
}

attend_status positions_read_first_position(const option_row *row, const char *text, options *options)
{
    return parse_whole(row->name, text, 0, INT32_MAX, &options->rope.first_position);
}

/* KIND[,EPSILON] */
attend_status positions_read_qk_norm(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"none", "rms", "layer", NULL};
    char kind[16];
    double epsilon = 0;
    size_t length = strcspn(text, ",");
    int index;
    snprintf(kind, sizeof kind, "%.*s", (int)length, text);
    ATTEND_TRY(parse_choice(row->name, kind, names, &index));
    if (text[length]) ATTEND_TRY(parse_numbers(row->name, text + length + 1, 1, 1, &epsilon));
    options->rope.norm_given = true;
    options->rope.norm = (attend_qk_norm)index, options->rope.norm_epsilon = (float)epsilon;
    return ATTEND_OK;
}

attend_status positions_read_absolute(const option_row *row, const char *text, options *options)
{
    static const char *const names[] = {"none", "sinusoidal", "sinusoidal-halves", NULL};
    int index;
    ATTEND_TRY(parse_choice(row->name, text, names, &index));
    options->rope.absolute = (attend_absolute)index;
    return ATTEND_OK;
}

attend_status positions_read_absolute_base(const option_row *row, const char *text, options *options)
{
    return read_base(row->name, text, &options->rope.absolute_base);
}

attend_status positions_check(const options *o)
{
    if (o->rope.absolute && o->features.position_table)
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "--absolute and --position-table exclude each other: positions are computed or learned");
    if (o->rope.absolute_base != 0 && !o->rope.absolute)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--absolute-base needs --absolute");
    return ATTEND_OK;
}

attend_status positions_check_rotary(const options *o)
{
    if (!o->input)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--input is missing; attend rotary --help lists what is needed");
    if (o->rope.choice != ROTARY_GIVEN && !o->rope.norm)
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "there is nothing to apply: give --rotary halves or interleaved, or --qk-norm rms or layer");
    if (!o->output == !o->result)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "give either --output, the file to write, or --result, the file to judge");
    return ATTEND_OK;
}

/* Frequencies of rotary embedding and sinusoids, and T5's buckets: stated here a second time, from the papers
   and the models' own code, so that an error in what kernels are given (host/shared/rope.c, absolute.c,
   relative.c) shows. */
#include "reference/reference.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* YaRN's find_correction_dim(): the pair, as a fraction, that makes `times` turns in the trained length. */
static double pair_that_turns(const attend_problem *p, double times)
{
    return (double)p->rotary_dim * log((double)p->rotary_original_seqlen / (2 * pi * times)) /
           (2 * log(p->rotary_base));
}

static double yarn(const attend_problem *p, double pair, double extrapolated)
{
    const double interpolated = extrapolated / p->rotary_factor;
    double begin = pair_that_turns(p, p->rotary_high), end = pair_that_turns(p, p->rotary_low),
           last = (double)p->rotary_dim - 1;
    if (!p->rotary_untruncated) begin = floor(begin), end = ceil(end);
    if (begin < 0) begin = 0;
    if (end > last) end = last;
    if (begin == end) end += 0.001;
    double ramp = (pair - begin) / (end - begin);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return interpolated * ramp + extrapolated * (1 - ramp);
}

/* By wavelengths, as in Llama 3's own code. */
static double llama3(const attend_problem *p, double angle)
{
    const double length = (double)p->rotary_original_seqlen, wavelength = 2 * pi / angle;
    if (wavelength > length / p->rotary_low) return angle / p->rotary_factor;
    if (wavelength < length / p->rotary_high) return angle;
    const double smooth = (length / wavelength - p->rotary_low) / (p->rotary_high - p->rotary_low);
    return (1 - smooth) * angle / p->rotary_factor + smooth * angle;
}

/* NTK-aware; dynamic if the trained length is given: the base grows with the sequence. */
static double base_of(const attend_problem *p)
{
    const double d = (double)p->rotary_dim, trained = (double)p->rotary_original_seqlen,
                 length = fmax((double)p->seqlen_k, trained);
    if (p->rotary_scaling != ATTEND_ROTARY_NTK || d <= 2) return p->rotary_base;
    const double alpha =
        trained > 0 ? p->rotary_factor * length / trained - p->rotary_factor + 1 : p->rotary_factor;
    return p->rotary_base * pow(alpha, d / (d - 2));
}

attend_reference_rotation attend_reference_rotation_of(const attend_problem *p, bool backward)
{
    attend_reference_rotation r = {.factor = 1, .norm = p->qk_norm, .epsilon = p->qk_norm_epsilon};
    if (p->rotary == ATTEND_ROTARY_NONE) return r;
    r.dims = p->rotary_dim, r.interleaved = p->rotary == ATTEND_ROTARY_INTERLEAVED, r.backward = backward;
    if (p->rotary_scaling == ATTEND_ROTARY_YARN) r.factor = p->rotary_attention_factor;
    for (int64_t i = 0; 2 * i < r.dims; i++) {
        double angle = 1 / pow(base_of(p), (double)(2 * i) / (double)r.dims);
        if (p->rotary_scaling == ATTEND_ROTARY_LINEAR) angle = angle / p->rotary_factor;
        if (p->rotary_scaling == ATTEND_ROTARY_LLAMA3) angle = llama3(p, angle);
        if (p->rotary_scaling == ATTEND_ROTARY_YARN) angle = yarn(p, (double)i, angle);
        r.angles[i] = angle;
    }
    return r;
}

void attend_reference_pair(const attend_reference_rotation *r, int64_t pair, int64_t *first, int64_t *second)
{
    *first = r->interleaved ? 2 * pair : pair;
    *second = *first + (r->interleaved ? 1 : r->dims / 2);
}

double attend_reference_sinusoid(const attend_problem *p, int64_t sinusoid)
{
    return 1 / pow(p->absolute_base, 2 * (double)sinusoid / (double)p->hidden_size);
}

/* T5's relative_position_bucket(): its logarithms are fp32, which decides the bucket at borders. distance:
   key's position minus query's. */
int64_t attend_reference_bucket(const attend_problem *p, int64_t distance)
{
    int64_t count = p->relative_buckets, bucket = 0, behind = -distance;
    if (p->relative_bidirectional) {
        count /= 2;
        if (behind < 0) bucket = count, behind = -behind;
    } else if (behind < 0) {
        behind = 0;
    }
    const int64_t near = count / 2;
    if (behind < near) return bucket + behind;
    const float steps = (float)(count - near),
                all = (float)log((double)p->relative_max_distance / (double)near);
    const int64_t far = near + (int64_t)(logf((float)behind / (float)near) / all * steps);
    return bucket + (far > count - 1 ? count - 1 : far);
}

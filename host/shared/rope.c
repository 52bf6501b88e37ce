/* Frequencies of rotary embedding (Su et al., arXiv:2104.09864) and of its scalings for longer sequences. */
#include "shared/rope.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* NTK-aware: a larger base, which divides the slowest pair's frequency by `factor` and leaves the fastest
   pair's. With a trained length, the base grows with a sequence that exceeds it. */
static double ntk_base(const attend_problem *p, double dims)
{
    double factor = p->rotary_factor, base = p->rotary_base;
    if (p->rotary_original_seqlen > 0) {
        double longest = (double)p->seqlen_k > (double)p->rotary_original_seqlen
                             ? (double)p->seqlen_k
                             : (double)p->rotary_original_seqlen;
        factor = factor * longest / (double)p->rotary_original_seqlen - (factor - 1);
    }
    return dims > 2 ? base * pow(factor, dims / (dims - 2)) : base;
}

/* Llama 3: the frequency of pairs slower than one turn in original/low positions is divided by the factor, of
   pairs faster than one in original/high it is kept, and between them interpolated. */
static double llama3(const attend_problem *p, double frequency)
{
    double turns = (double)p->rotary_original_seqlen * frequency / (2 * pi), low = p->rotary_low,
           high = p->rotary_high;
    double keep = turns < low ? 0 : turns > high ? 1 : (turns - low) / (high - low);
    return frequency * (keep + (1 - keep) / p->rotary_factor);
}

/* YaRN (Peng et al., arXiv:2309.00071): a ramp between the pairs that make rotary_high and rotary_low turns
   in the trained length. */
static double yarn(const attend_problem *p, double dims, double pair, double frequency)
{
    double original = (double)p->rotary_original_seqlen, unit = dims / (2 * log(p->rotary_base));
    double low = floor(unit * log(original / (p->rotary_high * 2 * pi))),
           high = ceil(unit * log(original / (p->rotary_low * 2 * pi)));
    if (p->rotary_untruncated)
        low = unit * log(original / (p->rotary_high * 2 * pi)),
        high = unit * log(original / (p->rotary_low * 2 * pi));
    low = fmax(low, 0), high = fmin(high, dims - 1);
    if (low == high) high += 0.001;
    double stretch = fmin(fmax((pair - low) / (high - low), 0), 1);
    return frequency * (1 - stretch + stretch / p->rotary_factor);
}

attend_rope attend_rope_of(const attend_problem *p)
{
    attend_rope t = {.norm = p->qk_norm, .epsilon = p->qk_norm_epsilon, .factor = 1, .sine_factor = 1};
    if (p->rotary == ATTEND_ROTARY_NONE) return t;
    t.dims = (int)p->rotary_dim, t.interleaved = p->rotary == ATTEND_ROTARY_INTERLEAVED;
    double dims = (double)p->rotary_dim,
           base = p->rotary_scaling == ATTEND_ROTARY_NTK ? ntk_base(p, dims) : p->rotary_base;
    if (p->rotary_scaling == ATTEND_ROTARY_YARN) t.factor = t.sine_factor = (float)p->rotary_attention_factor;
    for (int64_t i = 0; i < p->rotary_dim / 2; i++) {
        double frequency = pow(base, -2 * (double)i / dims);
        if (p->rotary_scaling == ATTEND_ROTARY_LINEAR) frequency /= p->rotary_factor;
        if (p->rotary_scaling == ATTEND_ROTARY_LLAMA3) frequency = llama3(p, frequency);
        if (p->rotary_scaling == ATTEND_ROTARY_YARN) frequency = yarn(p, dims, (double)i, frequency);
        t.turns[i] = frequency / (2 * pi);
    }
    return t;
}

/* attend: multi-head attention on NVIDIA GPUs and on CPUs.
 *
 * A problem (plain numbers) on a context (where to run) becomes a plan once; the plan runs many times.
 *
 *     attend_context *ctx;
 *     attend_plan *plan;
 *     attend_problem problem = {.batch = 1, .seqlen_q = 4096, .seqlen_k = 4096, 
 *                               .num_heads = 8, .head_dim = 64};
 *     attend_context_create(&(attend_context_options){.device = ATTEND_AUTO}, &ctx);
 *     attend_attention_plan(ctx, &problem, &plan);
 *     attend_attention_forward(plan, &(attend_attention_args){.q = q, .k = k, .v = v, .out = out});
 *     attend_synchronize(ctx);
 *
 * Rules that hold everywhere:
 * - Every call that can fail returns an attend_status; attend_error_message() is then a sentence that names
 *   the argument and the limit. A call that fails leaves its arguments unchanged; the pointer to an object
 *   that it was to create becomes NULL. After a run that fails midway (CANCELLED, DEVICE_ERROR,
 *   OUT_OF_MEMORY within oneDNN) the contents of its outputs are undefined.
 * - A field that is zero means its default.
 * - Sizes, strides and lengths are int64_t and count elements; fields in bytes say so.
 * - The library never prints or ends the process. oneDNN can: if a small allocation fails while a layer is
 *   planned on a CPU.
 * - A context and its plans serve one thread at a time, which may have any number of runs in flight (run.h).
 *   Different contexts are independent.
 * - Results are deterministic: the same run gives the same bits every time. On a CPU, and in attention on
 *   CUDA, a row's bits do not depend on threads, batch size or neighbours either. A layer's projections on
 *   CUDA are cuBLAS's, which chooses the order of its sums by rows, batch and layout: they repeat if
 *   the problem, the tensors' strides and alignment, the device model and the cuBLAS version are the same,
 *   and otherwise differ within the bounds of docs/numerics.md.
 *
 * Programs and libraries of different releases work together. Every call passes the sizes that its caller was
 * compiled with: the plain calls are inline functions around those that end in _sized, which bindings call,
 * with sizes from attend_sizeof().
 * - A struct that is passed by pointer grows at its end only. Fields never move. Structs have no padding;
 *   named `reserved` bytes fill the gaps, and the caller leaves them zero.
 * - A struct that lies inside others or in arrays (attend_tensor, attend_state, attend_element,
 *   attend_key_window, attend_projection_work, attend_comparison, attend_gradient_comparison) never grows;
 *   its `reserved` bytes may become fields.
 * - Fields that an older caller's struct lacks are read as zeros. A newer caller's struct is accepted if the
 *   fields unknown to the library are zero, and is INVALID_ARGUMENT otherwise. Of a result the library writes
 *   as much as the caller's struct holds, and zeros beyond what it knows. Sizes are multiples of 8, at least
 *   that of the first release with this rule, at most 65536.
 *
 * Each part is a header of its own, which is its manual; this one includes them all but attend_cuda.h, which
 * needs CUDA's types, and dlpack.h, which needs DLPack's:
 *
 *     status.h      what calls return, and the sentence of a failure
 *     tensor.h      views of the caller's memory
 *     problem.h     what is computed: visibility, scores, positions
 *     context.h     where to run; progress reports
 *     plan.h        a problem made ready to run
 *     run.h         a stream and a workspace for one run
 *     state.h       the carried state of attention over some of the keys; merging
 *     features.h    lists and tensors of features: lengths, masks, biases …
 *     attention.h   out = attention(q, k, v)
 *     cache.h       keys and values that grow, in one piece or in pages
 *     layer.h       attention between its projections
 *     rotary.h      rotary embedding of a caller's own Q and K
 *     explain.h     what a plan will do, and why
 *     inspect.h     inspection: which keys get the weight
 *     backward.h    gradients of attention
 *     layer_backward.h  gradients of layers
 *     compare.h     comparing results with the fp64 reference
 *     kernel.h      the kernels of this build
 */
#ifndef ATTEND_ATTEND_H
#define ATTEND_ATTEND_H

#include <attend/status.h>
#include <attend/tensor.h>
#include <attend/problem.h>
#include <attend/context.h>
#include <attend/plan.h>
#include <attend/run.h>
#include <attend/state.h>
#include <attend/features.h>
#include <attend/attention.h>
#include <attend/cache.h>
#include <attend/layer.h>
#include <attend/rotary.h>
#include <attend/explain.h>
#include <attend/inspect.h>
#include <attend/compare.h>
#include <attend/backward.h>
#include <attend/layer_backward.h>
#include <attend/kernel.h>

#endif

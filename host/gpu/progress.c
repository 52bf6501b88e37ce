/* Progress of work on the device: launches are cut into slices, and the host waits for each. */
#include "gpu/gpu.h"

attend_status attend_gpu_report_progress(const attend_gpu_context *gpu, int64_t units)
{
    if (!gpu->tracker->progress) return ATTEND_OK;
    ATTEND_TRY(attend_gpu_check(cudaStreamSynchronize(gpu->stream), "cudaStreamSynchronize"));
    attend_progress_count(gpu->tracker, units, true);
    return attend_progress_status(gpu->tracker);
}

attend_status attend_gpu_launch_slices(const attend_gpu_context *gpu, int64_t blocks,
                                       attend_gpu_launch *launch, void *job)
{
    if (!gpu->tracker->progress) return launch(job, 0, blocks);
    /* A slice is at least 8 blocks a multiprocessor, so that waiting costs little, and at least 1 % of the
       work. */
    const int64_t least = 8 * (int64_t)gpu->multiprocessors,
                  slice = blocks / 100 > least ? blocks / 100 : least;
    for (int64_t first = 0; first < blocks; first += slice) {
        const int64_t count = first + slice < blocks ? slice : blocks - first;
        ATTEND_TRY(launch(job, first, count));
        ATTEND_TRY(attend_gpu_report_progress(gpu, count));
    }
    return ATTEND_OK;
}

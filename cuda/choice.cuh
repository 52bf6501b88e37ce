// The architectures that this build compiles for. ATTEND_D64(…) and its kin keep or drop rows of the kernel
// table (cmake/kernels.cmake).
#pragma once

#include "kernel_choice.h"

namespace attend
{

constexpr int built_architectures[] = {__CUDA_ARCH_LIST__}; // ascending, as 800
constexpr int least_architecture = built_architectures[0] / 10;

} // namespace attend

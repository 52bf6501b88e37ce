# Finds the CUDA toolkit, or the wheels that scripts/bootstrap put under build/cuda, and sets ATTEND_HAVE_CUDA.

set(ATTEND_HAVE_CUDA OFF)
if(NOT ATTEND_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80 90)
    endif()
    set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 17)
    find_package(CUDAToolkit 12.0 REQUIRED)
    set(ATTEND_HAVE_CUDA ON)
  elseif(ATTEND_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ATTEND_CUDA=ON, but no nvcc was found; set CUDACXX or run scripts/bootstrap")
  else()
    message(STATUS "attend: no nvcc found, building for CPUs only (scripts/bootstrap can install a compiler)")
  endif()
endif()

# PTX stays uncompressed and carries line numbers, so that profilers and the software device can read it.
set(ATTEND_CUDA_OPTIONS --compress-mode=none -lineinfo)

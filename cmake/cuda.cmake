# Finds the CUDA toolkit, or the wheels that scripts/bootstrap put under build/cuda, and sets ATTEND_HAVE_CUDA.

set(ATTEND_HAVE_CUDA OFF)
if(NOT ATTEND_CUDA STREQUAL "OFF")
  # On the path, where toolkits are usually installed, or the wheels; looked for again if there was none last time.
  if(NOT CMAKE_CUDA_COMPILER)
    unset(CMAKE_CUDA_COMPILER CACHE)
    if(NOT DEFINED ENV{CUDACXX})
      find_program(attend_nvcc nvcc HINTS ${CUDAToolkit_ROOT} ENV CUDAToolkit_ROOT
        PATHS /usr/local/cuda ${PROJECT_SOURCE_DIR}/build/cuda PATH_SUFFIXES bin NO_CACHE)
      if(attend_nvcc)
        set(ENV{CUDACXX} ${attend_nvcc})
      endif()
    endif()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(ATTEND_CUDA_ARCHITECTURES OFF) # of targets, whose options attend_code_options() gives
    if(CMAKE_CUDA_ARCHITECTURES) # CMake's own variable goes before
      set(ATTEND_CUDA_ARCHITECTURES ${CMAKE_CUDA_ARCHITECTURES})
      set(ATTEND_CODE_OPTIONS)
    else()
      set(CMAKE_CUDA_ARCHITECTURES ${ATTEND_ARCHITECTURES})
      attend_code_options(ATTEND_CODE_OPTIONS "${ATTEND_ARCHITECTURES}")
    endif()
    set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 17)
    # CMake 3.25.1 stumbles over a toolkit without nvToolsExt, as 13 is, where a project asks for 3.25 or more.
    set(minimum ${CMAKE_MINIMUM_REQUIRED_VERSION})
    set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
    find_package(CUDAToolkit 12.0 REQUIRED)
    set(CMAKE_MINIMUM_REQUIRED_VERSION ${minimum})
    set(ATTEND_HAVE_CUDA ON)
    # CMake takes nvcc's own folders for ones that the loader searches; it does not search the wheels'.
    list(APPEND CMAKE_BUILD_RPATH ${CUDAToolkit_LIBRARY_DIR})
  elseif(ATTEND_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ATTEND_CUDA=ON, but no nvcc was found; set CUDACXX or run scripts/bootstrap")
  else()
    message(STATUS "attend: no nvcc found, building for CPUs only (scripts/bootstrap can install a compiler)")
  endif()
endif()

# PTX carries line numbers for profilers and the software device. Compressed, the library has a seventh of its size.
set(ATTEND_CUDA_OPTIONS -lineinfo)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
  list(APPEND ATTEND_CUDA_OPTIONS --compress-mode=size)
else()
  list(APPEND ATTEND_CUDA_OPTIONS -Xfatbin=-compress-all)
endif()

# `cpack` in the build folder: a .tar.gz that is used where it is unpacked, and, with dpkg-dev and file, a .deb, of what `cmake --install` installs. Dependencies
# of the .deb are those of the system that it was built on.
set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_CONTACT "The attend authors" CACHE STRING "Maintainer of the .deb, as NAME <ADDRESS>")
set(CPACK_PACKAGE_VENDOR attend)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
string(TOLOWER "attend-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR}" CPACK_PACKAGE_FILE_NAME)
if(ATTEND_HAVE_CUDA)
  string(APPEND CPACK_PACKAGE_FILE_NAME "-cuda${CUDAToolkit_VERSION_MAJOR}")
endif()
set(CPACK_STRIP_FILES ON)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
  "A library (shared and static, with headers, CMake's and pkg-config's files) and a\ncommand; O(n) memory at any length beside masks that the caller brings, and an\nerror bound for every element.")
# The CUDA runtime is NVIDIA's package, or no package at all; cuBLAS is loaded where there is a device.
find_program(attend_shlibdeps dpkg-shlibdeps NO_CACHE)
find_program(attend_file file NO_CACHE)
if(attend_shlibdeps AND attend_file) # cpack asks both for its dependencies
  list(APPEND CPACK_GENERATOR DEB)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR} ${CUDAToolkit_LIBRARY_DIR})
endif()
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libdnnl-dev, libcjson-dev") # to link the static libraries
include(CPack)

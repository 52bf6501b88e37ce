# `cmake --install`: headers, both libraries, the command, find_package(attend) and pkg-config.

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/attend)

install(DIRECTORY include/attend DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright) # as Debian calls it
if(NOT ATTEND_HAVE_CUDA)
  install(CODE "file(REMOVE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}/attend/attend_cuda.h\")")
endif()
foreach(library shared static)
  install(TARGETS attend_${library} attend_checkpoint_${library} EXPORT attend-${library}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT attend-${library} NAMESPACE attend:: DESTINATION ${package_dir})
endforeach()
if(TARGET attend)
  install(TARGETS attend RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

write_basic_package_version_file(${PROJECT_BINARY_DIR}/attend-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/attend-config.cmake.in ${PROJECT_BINARY_DIR}/attend-config.cmake @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/attend-config.cmake ${PROJECT_BINARY_DIR}/attend-config-version.cmake
  DESTINATION ${package_dir})

set(pc_libs_private "-fopenmp -lstdc++ -lm")
if(ATTEND_HAVE_CUDA)
  set(folder ${CUDAToolkit_LIBRARY_DIR})
  string(APPEND pc_libs_private " -L${folder} -Wl,-rpath,${folder} -lcudart -ldl")
endif()
foreach(library attend attend_checkpoint)
  configure_file(cmake/${library}.pc.in ${PROJECT_BINARY_DIR}/${library}.pc @ONLY)
endforeach()
install(FILES ${PROJECT_BINARY_DIR}/attend.pc ${PROJECT_BINARY_DIR}/attend_checkpoint.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

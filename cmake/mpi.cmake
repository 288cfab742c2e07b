# SPDX-License-Identifier: MIT
# fathom_mpi.so, the transport between processes of one training run: a plugin, so that the binary needs no MPI. Built
# where CMake finds one; it lies beside the binary, installed in lib/fathom.
include(GNUInstallDirs)
set_source_files_properties(src/train/comm.c PROPERTIES COMPILE_DEFINITIONS
                            FATHOM_PLUGIN_DIR="${CMAKE_INSTALL_LIBDIR}/fathom")
if(NOT CMAKE_CROSSCOMPILING)
  find_package(MPI QUIET COMPONENTS C)
endif()
if(MPI_C_FOUND)
  add_library(fathom_mpi MODULE src/train/comm_mpi.c)
  target_include_directories(fathom_mpi PRIVATE src)
  target_link_libraries(fathom_mpi PRIVATE fathom_flags MPI::MPI_C)
  set_target_properties(fathom_mpi PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  install(TARGETS fathom_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/fathom)
endif()

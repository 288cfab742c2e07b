# SPDX-License-Identifier: MIT
# cmake --install: the binary, both libraries, headers, pkg-config file, CMake package, man page, completion of bash.
# The shared library shows only fm_ symbols: visibility in the source, and once more a version script, which also keeps
# what a static archive might bring along.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(fathom_shared SHARED $<TARGET_OBJECTS:fathom_objects>)
target_link_libraries(fathom_shared PRIVATE fathom_objects)
set_target_properties(fathom_shared PROPERTIES OUTPUT_NAME fathom SOVERSION ${PROJECT_VERSION_MAJOR} VERSION ${PROJECT_VERSION}
                      LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/exports.map)
target_link_options(fathom_shared PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/exports.map -Wl,-z,defs)

install(TARGETS fathom_static fathom_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/fathom DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.def")

# Paths in these are relative to the file itself, so that an installed tree may be moved.
set(FATHOM_PC_PRIVATE "libpcre2-8 libutf8proc jansson libcrypto zlib libpng libjpeg")
configure_file(cmake/fathom.pc.in fathom.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/fathom.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
configure_package_config_file(cmake/FathomConfig.cmake.in FathomConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Fathom
                              PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(FathomConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_BINARY_DIR}/FathomConfig.cmake ${CMAKE_BINARY_DIR}/FathomConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Fathom)

if(TARGET fathom)
  install(TARGETS fathom RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  # the binary prints its own manual from the option tables, so the page cannot fall behind
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/fathom.1 DEPENDS fathom VERBATIM
                     COMMAND sh -c "\"$1\" --help=man > \"$2\"" man $<TARGET_FILE:fathom> ${CMAKE_BINARY_DIR}/fathom.1)
  add_custom_target(fathom_man ALL DEPENDS ${CMAKE_BINARY_DIR}/fathom.1)
  install(FILES ${CMAKE_BINARY_DIR}/fathom.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES scripts/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME fathom)
endif()

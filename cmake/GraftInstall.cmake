include(CMakePackageConfigHelpers)
install(TARGETS graft EXPORT graft-targets)
install(DIRECTORY include/graft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT graft-targets NAMESPACE graft:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
configure_package_config_file(cmake/graft-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/graft-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/graft-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/graft-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/graft-config-version.cmake cmake/FindCuDNN.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/graft)

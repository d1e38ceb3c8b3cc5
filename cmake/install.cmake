# What `cmake --install` copies: headers, both libraries, the CMake package and iocp.pc.
# Nothing in it names the prefix, so that --prefix and DESTDIR may change it afterwards.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/iocp)

install(TARGETS iocp_static iocp_shared EXPORT iocpTargets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT iocpTargets NAMESPACE iocp:: DESTINATION ${package_dir})

configure_package_config_file(cmake/iocpConfig.cmake.in iocpConfig.cmake
    INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(iocpConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/iocpConfig.cmake ${PROJECT_BINARY_DIR}/iocpConfigVersion.cmake
    DESTINATION ${package_dir})

# What a static link needs besides.
set(pc_libs_private -pthread)
if(WIN32)
    list(TRANSFORM system_libraries PREPEND -l OUTPUT_VARIABLE pc_libs_private)
    list(JOIN pc_libs_private " " pc_libs_private)
endif()
# iocp.pc finds its prefix from where it lies.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
    set(pc_prefix ${CMAKE_INSTALL_PREFIX})
    set(pc_libdir ${CMAKE_INSTALL_FULL_LIBDIR})
    set(pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
    file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    string(REGEX REPLACE "/$" "" up "${up}")
    set(pc_prefix "\${pcfiledir}/${up}")
    set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
    set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/iocp.pc.in iocp.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/iocp.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

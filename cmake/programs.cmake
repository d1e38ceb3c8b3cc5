# The programs: apps/<name>/*.c becomes bin/iocp-<name>, examples/<name>.c bin/example-<name>.

# What the apps share.
file(GLOB sources CONFIGURE_DEPENDS apps/common/*.c)
add_library(apps_common STATIC ${sources})
iocp_target_rules(apps_common)
target_link_libraries(apps_common PUBLIC iocp_static)

foreach(name chat echo)
    file(GLOB sources CONFIGURE_DEPENDS apps/${name}/*.c)
    if(NOT sources)
        message(WARNING "apps/${name} has no sources: iocp-${name} is not built")
        continue()
    endif()
    iocp_program(iocp-${name} ${sources})
    target_link_libraries(iocp-${name} PRIVATE apps_common)
    install(TARGETS iocp-${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()

file(GLOB sources CONFIGURE_DEPENDS examples/*.c)
foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    iocp_program(example-${name} ${source})
endforeach()

# bench/<name>.c becomes bin/bench-<name>: built by bench/run only.
add_custom_target(iocp_bench)
file(GLOB sources CONFIGURE_DEPENDS bench/*.c)
foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    iocp_program(bench-${name} ${source})
    set_target_properties(bench-${name} PROPERTIES EXCLUDE_FROM_ALL TRUE)
    add_dependencies(iocp_bench bench-${name})
endforeach()

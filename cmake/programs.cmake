# The programs: apps/<name>/*.c becomes bin/iocp-<name>, examples/<name>.c bin/example-<name>.

# uthash is a set of headers of this system. A cross compiler must not see the others beside them.
if(CMAKE_CROSSCOMPILING)
    find_path(uthash_folder uthash.h PATHS /usr/include /usr/local/include REQUIRED
        NO_CMAKE_FIND_ROOT_PATH)
    file(COPY ${uthash_folder}/uthash.h ${uthash_folder}/utlist.h
        DESTINATION ${PROJECT_BINARY_DIR}/uthash)
endif()

# What the apps share.
iocp_sources(sources apps/common/*.c)
add_library(apps_common STATIC ${sources})
iocp_target_rules(apps_common)
target_link_libraries(apps_common PUBLIC iocp_static)
if(CMAKE_CROSSCOMPILING)
    target_include_directories(apps_common SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/uthash)
endif()

foreach(name chat echo)
    iocp_sources(sources apps/${name}/*.c)
    if(NOT sources)
        message(WARNING "apps/${name} has no sources: iocp-${name} is not built")
        continue()
    endif()
    iocp_program(iocp-${name} ${sources})
    target_link_libraries(iocp-${name} PRIVATE apps_common)
    install(TARGETS iocp-${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()

iocp_sources(sources examples/*.c)
foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    iocp_program(example-${name} ${source})
endforeach()

# bench/<name>.c becomes bin/bench-<name>: built by bench/run only. They know Linux.
if(WIN32)
    return()
endif()
add_custom_target(iocp_bench)
file(GLOB sources CONFIGURE_DEPENDS bench/*.c)
foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    iocp_program(bench-${name} ${source})
    set_target_properties(bench-${name} PROPERTIES EXCLUDE_FROM_ALL TRUE)
    add_dependencies(iocp_bench bench-${name})
endforeach()

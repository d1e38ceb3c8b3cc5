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

# iocp-load needs HdrHistogram_c: the system's, or the sources that tools/bootstrap load has fetched.
find_path(hdr_folder hdr/hdr_histogram.h)
find_library(hdr_library NAMES hdr_histogram hdr_histogram_static)
set(hdr_fetched ${PROJECT_SOURCE_DIR}/build/deps/hdr)
set(hdr "")
if(hdr_folder AND hdr_library)
    set(hdr ${hdr_library})
elseif(EXISTS ${hdr_fetched}/hdr_histogram.c)
    set(hdr_folder ${PROJECT_SOURCE_DIR}/build/deps)
    set(hdr hdr_histogram)
    add_library(hdr_histogram STATIC ${hdr_fetched}/hdr_histogram.c)
else()
    message(STATUS "iocp-load is not built: HdrHistogram_c is missing; `make load` gets it")
endif()
if(hdr)
    iocp_sources(sources apps/load/*.c)
    iocp_program(iocp-load ${sources})
    target_include_directories(iocp-load SYSTEM PRIVATE ${hdr_folder})
    target_link_libraries(iocp-load PRIVATE apps_common ${hdr})
    if(NOT WIN32)
        target_link_libraries(iocp-load PRIVATE m)
    endif()
    install(TARGETS iocp-load RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

iocp_sources(sources examples/*.c)
foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    iocp_program(example-${name} ${source})
endforeach()

# Built by bench/run only. They know Linux.
if(WIN32)
    return()
endif()
add_custom_target(iocp_bench)
add_subdirectory(bench/micro)
add_subdirectory(bench/servers)

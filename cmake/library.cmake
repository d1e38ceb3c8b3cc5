# The library, twice: as libiocp.a, and as libiocp.so or libiocp.dll.

iocp_sources(library_sources src/base/*.c src/os/*.c src/backend/*.c src/core/*.c src/net/*.c)
# The simulation is the tests' alone.
list(FILTER library_sources EXCLUDE REGEX "/(os|backend)/sim[^/]*\\.c$")
# Files of one system whose names do not say so.
set(foreign_sources os/win32[^/]* backend/iocp[^/]*)
if(WIN32)
    set(foreign_sources os/posix[^/]* backend/uring[^/]* backend/ring backend/epoll[^/]*
        backend/try backend/files)
endif()
foreach(name ${foreign_sources})
    list(FILTER library_sources EXCLUDE REGEX "/src/${name}\\.c$")
endforeach()

function(iocp_objects name)
    add_library(${name} OBJECT ${library_sources})
    iocp_target_rules(${name})
    target_include_directories(${name} PRIVATE include src)
    target_link_libraries(${name} PRIVATE ${system_libraries})
endfunction()

iocp_objects(iocp_objects)
set(static_objects iocp_objects)
set(shared_objects iocp_objects)
if(WIN32)
    # What a DLL exports is said in its objects. In an archive it would be said to whoever links it:
    # his DLL exported our functions, and by that none of its own that are not marked.
    iocp_objects(iocp_objects_shared)
    target_compile_definitions(iocp_objects_shared PRIVATE IOCP_BUILD_SHARED)
    set(shared_objects iocp_objects_shared)
else()
    # Compiled once for both kinds, position-independent: on x86-64 and arm64 it costs nothing that
    # could be measured, and halves the time of a build. No interposition: a call inside the library
    # stays inside.
    set_target_properties(iocp_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_compile_options(iocp_objects PRIVATE -fno-semantic-interposition)
endif()

# One object out of all, optimized across files: an eighth fewer instructions per message. It is done
# here, once; whoever links the archive gets machine code and needs no link-time optimization.
if(IOCP_WHOLE)
    string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
    separate_arguments(flags UNIX_COMMAND "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${type}}")
    target_compile_options(iocp_objects PRIVATE -flto)
    set(whole_object ${PROJECT_BINARY_DIR}/iocp${CMAKE_C_OUTPUT_EXTENSION})
    add_custom_command(OUTPUT ${whole_object}
        COMMAND ${CMAKE_C_COMPILER} ${flags} -r -nostdlib -fPIC -fno-semantic-interposition
            -flto -flto-partition=one -flinker-output=nolto-rel
            -o ${whole_object} $<TARGET_OBJECTS:iocp_objects>
        DEPENDS iocp_objects $<TARGET_OBJECTS:iocp_objects>
        COMMENT "Optimizing the library as a whole" COMMAND_EXPAND_LISTS VERBATIM)
    add_custom_target(iocp_whole DEPENDS ${whole_object})
    set_source_files_properties(${whole_object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
endif()

foreach(kind static shared)
    string(TOUPPER ${kind} type)
    set(target iocp_${kind})
    if(IOCP_WHOLE)
        add_library(${target} ${type} ${whole_object})
        set_target_properties(${target} PROPERTIES LINKER_LANGUAGE C)
        add_dependencies(${target} iocp_whole)
    else()
        add_library(${target} ${type} $<TARGET_OBJECTS:${${kind}_objects}>)
    endif()
    add_library(iocp::${target} ALIAS ${target})
    iocp_target_rules(${target})
    set_target_properties(${target} PROPERTIES
        OUTPUT_NAME iocp
        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
    target_include_directories(${target} PUBLIC
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    add_dependencies(iocp_product ${target})
endforeach()
# Whoever links the archive links what it needs; the shared library brings that along itself.
target_link_libraries(iocp_static PUBLIC ${system_libraries})
target_link_libraries(iocp_shared PRIVATE ${system_libraries})
if(WIN32)
    # Saves a jump per call; without it the import library has one.
    target_compile_definitions(iocp_shared INTERFACE IOCP_USE_SHARED)
endif()

# A name that is missing fails the link of the library and not that of its first user. (Sanitizers
# leave names open for the program to bring.)
if(NOT IOCP_SANITIZE AND NOT WIN32 AND NOT APPLE)
    target_link_options(iocp_shared PRIVATE -Wl,-z,defs)
endif()

if(BUILD_SHARED_LIBS)
    add_library(iocp::iocp ALIAS iocp_shared)
else()
    add_library(iocp::iocp ALIAS iocp_static)
endif()

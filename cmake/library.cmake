# The library: compiled once, linked twice, as libiocp.a and as libiocp.so.

file(GLOB library_sources CONFIGURE_DEPENDS
    src/base/*.c src/os/*.c src/backend/*.c src/core/*.c src/net/*.c)
if(WIN32)
    list(FILTER library_sources EXCLUDE REGEX "/os/posix[^/]*\\.c$")
    list(FILTER library_sources EXCLUDE REGEX
        "/backend/(uring[^/]*|ring|epoll[^/]*|try|files|system_linux)\\.c$")
else()
    list(FILTER library_sources EXCLUDE REGEX "/os/win32[^/]*\\.c$")
    list(FILTER library_sources EXCLUDE REGEX "/backend/(iocp[^/]*|system_windows)\\.c$")
endif()

# Position-independent for both: on x86-64 and arm64 it costs nothing that could be measured, and
# halves the time of a build. No interposition: a call inside the library stays inside.
add_library(iocp_objects OBJECT ${library_sources})
iocp_target_rules(iocp_objects)
set_target_properties(iocp_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_compile_options(iocp_objects PRIVATE -fno-semantic-interposition)
target_include_directories(iocp_objects PRIVATE include src)
target_link_libraries(iocp_objects PRIVATE Threads::Threads)

foreach(kind STATIC SHARED)
    string(TOLOWER iocp_${kind} target)
    add_library(${target} ${kind} $<TARGET_OBJECTS:iocp_objects>)
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
# Whoever links the archive links the threads; the shared library brings them along itself.
target_link_libraries(iocp_static PUBLIC Threads::Threads)
target_link_libraries(iocp_shared PRIVATE Threads::Threads)

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

# What holds for every target of the project.

# C11 as it is written in the standard, with what the system adds on Linux, and strict warnings.
function(iocp_target_rules target)
    set_target_properties(${target} PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF C_VISIBILITY_PRESET hidden)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla
        $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes$<SEMICOLON>-Wmissing-prototypes>)
    if(IOCP_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
        target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    endif()
    if(WIN32)
        # Windows 10; printf as C has it and not as msvcrt.dll.
        target_compile_definitions(${target} PRIVATE
            _WIN32_WINNT=0x0A00 WIN32_LEAN_AND_MEAN __USE_MINGW_ANSI_STDIO=1)
        # What we build needs no DLL of the compiler.
        target_link_options(${target} PRIVATE -static-libgcc)
    endif()
    if(IOCP_DEBUG)
        target_compile_definitions(${target} PRIVATE IOCP_DEBUG)
    endif()
    if(IOCP_CHECK)
        target_compile_definitions(${target} PRIVATE IOCP_CHECK)
    endif()
    if(IOCP_SANITIZE)
        set(flags -fsanitize=${IOCP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
        target_compile_options(${target} PRIVATE ${flags} -O1)
        target_link_options(${target} PRIVATE ${flags})
    endif()
endfunction()

# Sets `variable` to the sources that match. Names that end in _posix, _linux or _windows are those
# systems' files, and _sim the simulated one's, which is none that anything is built for as a whole.
function(iocp_sources variable)
    set(foreign "_(windows|sim)")
    if(WIN32)
        set(foreign "_(posix|linux|sim)")
    endif()
    file(GLOB sources CONFIGURE_DEPENDS ${ARGN})
    list(FILTER sources EXCLUDE REGEX "${foreign}\\.c$")
    set(${variable} ${sources} PARENT_SCOPE)
endfunction()

# A program of the product: bin/<name>, linked with the static library, so that it runs anywhere.
function(iocp_program name)
    add_executable(${name} ${ARGN})
    iocp_target_rules(${name})
    target_link_libraries(${name} PRIVATE iocp_static)
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
    if(NOT name MATCHES "^bench-")
        add_dependencies(iocp_product ${name})
    endif()
endfunction()

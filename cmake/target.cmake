# What holds for every target of the project.

# C11 as it is written in the standard, with what the system adds on Linux, and strict warnings.
function(iocp_target_rules target)
    set_target_properties(${target} PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF C_VISIBILITY_PRESET hidden)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla)
    if(IOCP_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
        target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
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

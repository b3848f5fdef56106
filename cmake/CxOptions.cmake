# Compiler, warnings, sanitizers and output folders: set here once for the whole tree.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(CX_CCACHE ccache)
if(CX_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CX_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CX_CCACHE})
endif()

option(CX_SANITIZE "Address and undefined-behaviour sanitizers" OFF)
option(CX_COVERAGE "gcov instrumentation" OFF)
option(CX_FUZZ "clang's libFuzzer with address and undefined-behaviour sanitizers (scripts/fuzz.sh)" OFF)

# The generators need PyYAML, which Debian installs for its own interpreter.
set(CX_PYTHON /usr/bin/python3)

# FP contraction would change the stated roundings; -fno-math-errno changes no result.
add_library(cx_flags INTERFACE)
set(CX_WARNINGS -Wall -Wextra -Werror)
if(CX_FUZZ)
  set(CX_WARNINGS -w)  # gcc is the compiler whose warnings count
endif()
target_compile_options(cx_flags INTERFACE ${CX_WARNINGS} -ffp-contract=off -fno-math-errno)
target_include_directories(cx_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(CX_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  # g++ 12 finds uninitialised members in <regex> only when it is instrumented.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-error=maybe-uninitialized>)
  add_link_options(-fsanitize=address,undefined)
endif()
if(CX_FUZZ)
  # The sanitizers' runtime is a shared library: hw/sync/sanitizer.cpp stands before one of its functions.
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "CX_FUZZ needs clang; scripts/fuzz.sh chooses it")
  endif()
  # vptr looks into types of libraries that are built without it.
  set(fuzz_flags -fsanitize=address,undefined -fno-sanitize=vptr,function -fno-sanitize-recover=undefined -shared-libasan
      -fno-omit-frame-pointer)
  add_compile_options(${fuzz_flags} -fsanitize=fuzzer-no-link)
  add_link_options(${fuzz_flags})
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libclang_rt.asan-x86_64.so OUTPUT_VARIABLE CX_ASAN_RUNTIME
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  get_filename_component(runtime ${CX_ASAN_RUNTIME} DIRECTORY)
  add_link_options(-Wl,-rpath,${runtime})
endif()
if(CX_COVERAGE)
  add_compile_options(--coverage -O1)
  add_link_options(--coverage)
endif()

# Debian's libsystemc is built for C++17 and checks that at link time. Everything that includes <systemc> links cx_systemc.
find_library(CX_SYSTEMC_LIBRARY systemc REQUIRED)
add_library(cx_systemc INTERFACE)
target_compile_definitions(cx_systemc INTERFACE SC_CPLUSPLUS=201703L SC_INCLUDE_DYNAMIC_PROCESSES)
target_link_libraries(cx_systemc INTERFACE ${CX_SYSTEMC_LIBRARY})

# cx_library(name SOURCES ... LINK ...): a static library with the project's flags.
function(cx_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC cx_flags ${ARG_LINK})
endfunction()

# cx_fuzz_without_coverage(name...): what executes rather than checks inputs. Its branches follow simulated time, which makes nearly
# every input look new to the fuzzer and costs most of a run.
function(cx_fuzz_without_coverage)
  if(CX_FUZZ)
    foreach(name ${ARGN})
      target_compile_options(${name} PRIVATE -fno-sanitize=fuzzer-no-link)
    endforeach()
  endif()
endfunction()

# cx_test(name LABELS ... SOURCES ... LINK ...): one Catch2 executable and one ctest entry.
# Every SystemC test is its own executable because the kernel cannot restart.
function(cx_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINK;LABELS;ARGS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(CX_SANITIZE)
    math(EXPR ARG_TIMEOUT "10 * ${ARG_TIMEOUT}")
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE cx_flags ${ARG_LINK} cx_catch_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin/tests)
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

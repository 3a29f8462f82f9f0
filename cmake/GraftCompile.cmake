# Warnings, sanitizers and math flags that every target of the project shares.
function(graft_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -fno-math-errno -fopenmp-simd)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ 12 reports copies inside std::string and std::vector that cannot happen, and how it passed vectors before 4.6.
    target_compile_options(${target} PRIVATE -Wno-psabi -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-maybe-uninitialized)
    # It collects garbage from 128 MB on, which takes a tenth of its time; a gigabyte is there.
    target_compile_options(${target} PRIVATE --param=ggc-min-heapsize=1000000)
  else()
    target_compile_options(${target} PRIVATE -Wno-pass-failed)
  endif()
  if(NOT GRAFT_HAS_OPENMP)
    target_compile_options(${target} PRIVATE -Wno-unknown-pragmas)
  endif()
  if(GRAFT_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(GRAFT_SANITIZE)
    # Without the second flag undefined behaviour is printed, and the program goes on and succeeds.
    target_compile_options(${target} PRIVATE -fsanitize=${GRAFT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${GRAFT_SANITIZE})
  endif()
endfunction()

# For programs that call the library and compute little themselves: what -O3 does to them takes longer than it saves.
function(graft_compile_quickly target)
  graft_compile_options(${target})
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

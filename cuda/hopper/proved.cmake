# GRAFT_HOPPER_PROVED: whether a GPU has proved exactly these sources. Their digest is the SHA-256 of the lines
# "<SHA-256 of a file>  <its name>", one for each file of this folder that is compiled, in the order of their names. A
# proof is an entry of benchmarks/results/proved-kernels.json with "source": "cuda/hopper" and this "sha256".
#
# As a script, `cmake -P cuda/hopper/proved.cmake` prints the digest; with -DRESULTS=FILE also `proved` or `unproved`.
file(GLOB sources ${CMAKE_CURRENT_LIST_DIR}/*.cu ${CMAKE_CURRENT_LIST_DIR}/*.h)
list(SORT sources)
set(lines "")
foreach(source ${sources})
  file(SHA256 ${source} digest)
  cmake_path(GET source FILENAME name)
  string(APPEND lines "${digest}  ${name}\n")
endforeach()
string(SHA256 GRAFT_HOPPER_DIGEST "${lines}")

if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(RESULTS ${PROJECT_SOURCE_DIR}/benchmarks/results/proved-kernels.json)
endif()
set(GRAFT_HOPPER_PROVED 0)
if(EXISTS "${RESULTS}")
  file(READ ${RESULTS} proofs)
  string(JSON count LENGTH "${proofs}")
  set(at 0)
  while(at LESS count)
    string(JSON source GET "${proofs}" ${at} source)
    string(JSON digest GET "${proofs}" ${at} sha256)
    if(source STREQUAL "cuda/hopper" AND digest STREQUAL GRAFT_HOPPER_DIGEST)
      set(GRAFT_HOPPER_PROVED 1)
    endif()
    math(EXPR at "${at} + 1")
  endwhile()
endif()
set(answer unproved)
if(GRAFT_HOPPER_PROVED)
  set(answer proved)
endif()

if(CMAKE_SCRIPT_MODE_FILE)
  if(NOT DEFINED RESULTS)
    set(answer "")
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -E echo ${GRAFT_HOPPER_DIGEST} ${answer})
  return()
endif()

# A change of either, and a first proof, make CMake run again.
file(GLOB found CONFIGURE_DEPENDS ${RESULTS})
set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${sources} ${found})
message(STATUS "graft: Hopper kernels: ${answer} on a GPU (docs/cuda.md)")

# cuDNN 9 and, as component `frontend`, its header-only graph frontend, which building graft needs and using it does not.
#
# cuDNN lies beside the CUDA toolkit, or in the folder of PyPI's package nvidia-cudnn-cu13 (`nvidia/cudnn`, with include/
# and lib/), which PyTorch brings: CUDNN_ROOT or CMAKE_PREFIX_PATH names another place. The frontend is where
# tools/fetch-cudnn-frontend puts it, or in CUDNN_FRONTEND_ROOT.
#
# Defines the target CuDNN::cudnn, and CuDNN_VERSION, CuDNN_FRONTEND_INCLUDE_DIR and CuDNN_MISSING, which says what to do.

find_package(CUDAToolkit QUIET)
set(_deps ${CMAKE_CURRENT_LIST_DIR}/../.deps)
find_path(CuDNN_INCLUDE_DIR cudnn_graph.h
  HINTS ${CUDNN_ROOT} $ENV{CUDNN_ROOT} ${_deps}/cudnn ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
find_library(CuDNN_LIBRARY NAMES cudnn libcudnn.so.9
  HINTS ${CUDNN_ROOT} $ENV{CUDNN_ROOT} ${_deps}/cudnn ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)
if(NOT CuDNN_LIBRARY OR NOT CuDNN_INCLUDE_DIR)
  # Not beside the toolkit: a Python that has PyTorch has it.
  find_program(CuDNN_PYTHON NAMES python3 python)
  if(CuDNN_PYTHON)
    execute_process(COMMAND ${CuDNN_PYTHON} -c "import nvidia.cudnn as package; print(list(package.__path__)[0])"
      OUTPUT_VARIABLE _package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(_package)
      find_path(CuDNN_INCLUDE_DIR cudnn_graph.h HINTS ${_package} PATH_SUFFIXES include)
      find_library(CuDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${_package} PATH_SUFFIXES lib)
    endif()
  endif()
endif()
find_path(CuDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
  HINTS ${CUDNN_FRONTEND_ROOT} ${_deps}/cudnn-frontend PATH_SUFFIXES include)

if(CuDNN_INCLUDE_DIR AND EXISTS ${CuDNN_INCLUDE_DIR}/cudnn_version.h)
  file(STRINGS ${CuDNN_INCLUDE_DIR}/cudnn_version.h _lines REGEX "#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) [0-9]+")
  string(REGEX REPLACE "[^0-9;]" "" _numbers "${_lines}")
  list(JOIN _numbers "." CuDNN_VERSION)
endif()

set(CuDNN_MISSING "")
if(NOT CuDNN_INCLUDE_DIR OR NOT CuDNN_LIBRARY)
  set(CuDNN_MISSING " (CUDNN_ROOT names the folder of cuDNN 9)")
elseif(CuDNN_FIND_REQUIRED_frontend AND NOT CuDNN_FRONTEND_INCLUDE_DIR)
  set(CuDNN_MISSING " (run tools/fetch-cudnn-frontend for its headers)")
endif()

if(CuDNN_FRONTEND_INCLUDE_DIR)
  set(CuDNN_frontend_FOUND TRUE)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CuDNN
  REQUIRED_VARS CuDNN_LIBRARY CuDNN_INCLUDE_DIR VERSION_VAR CuDNN_VERSION HANDLE_COMPONENTS)
mark_as_advanced(CuDNN_INCLUDE_DIR CuDNN_LIBRARY CuDNN_FRONTEND_INCLUDE_DIR CuDNN_PYTHON)

if(CuDNN_FOUND AND NOT TARGET CuDNN::cudnn)
  add_library(CuDNN::cudnn UNKNOWN IMPORTED)
  set_target_properties(CuDNN::cudnn PROPERTIES
    IMPORTED_LOCATION ${CuDNN_LIBRARY}
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${CuDNN_INCLUDE_DIR}
    INTERFACE_INCLUDE_DIRECTORIES ${CuDNN_INCLUDE_DIR})
endif()

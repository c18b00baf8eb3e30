# Finds what vyx depends on; third_party/README.md says where each comes from and why.
# A user's own LibTorch comes first (CMAKE_PREFIX_PATH), then the one that ./vyx put under .deps/.
if(NOT Torch_DIR)
  file(GLOB vyx_venv_torch
    ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch/share/cmake/Torch)
  find_package(Torch QUIET)
  if(NOT Torch_FOUND AND vyx_venv_torch)
    set(Torch_DIR ${vyx_venv_torch} CACHE PATH "LibTorch" FORCE)
  endif()
endif()
find_package(Torch REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)  # its runtime is the one that libtorch brings
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
if(VYX_BUILD_APPS)
  find_package(Boost REQUIRED COMPONENTS program_options)
  pkg_check_modules(TOMLPLUSPLUS REQUIRED IMPORTED_TARGET tomlplusplus)
endif()
if(VYX_BUILD_TESTS)
  find_package(doctest REQUIRED)
  find_program(VYX_PYTHON python3 HINTS ${PROJECT_SOURCE_DIR}/.deps/venv/bin NO_DEFAULT_PATH
               DOC "A Python with third_party/requirements-test.txt, for the parity tests")
endif()

find_program(VYX_CCACHE ccache)
if(VYX_CCACHE AND PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers need this much sloppiness of ccache; in its depend mode a miss does not
  # preprocess the torch headers twice.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_DEPEND=1 CCACHE_PCH_EXTSUM=1 ${VYX_CCACHE})
endif()

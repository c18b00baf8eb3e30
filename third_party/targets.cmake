# vyx::options: how every target of ours is compiled. Nothing global, so that a parent project keeps
# its own flags.
set(VYX_SANITIZE "" CACHE STRING "Sanitizers of our own targets, e.g. address,undefined")

add_library(vyx_options INTERFACE)
add_library(vyx::options ALIAS vyx_options)
target_compile_features(vyx_options INTERFACE cxx_std_20)
# Warnings are for targets of this build: neither a parent project nor one that finds vyx installed
# gets them.
# Designated initialisers leave members at their defaults on purpose.
set(vyx_warnings -Wall -Wextra -Wno-missing-field-initializers -Wpedantic -Wshadow
  -Wnon-virtual-dtor -Werror)
# GCC 12 sees overflows in its own std::string at some levels of optimisation.
list(APPEND vyx_warnings $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>)
set(vyx_is_ours $<PATH:IS_PREFIX,${PROJECT_BINARY_DIR},$<TARGET_PROPERTY:BINARY_DIR>>)
target_compile_options(vyx_options INTERFACE
  "$<BUILD_INTERFACE:$<${vyx_is_ours}:${vyx_warnings}>>")
target_include_directories(vyx_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/vyx>)
target_compile_definitions(vyx_options INTERFACE VYX_VERSION="${PROJECT_VERSION}")
if(VYX_SANITIZE)
  # The vptr check needs the type information of classes that LibTorch keeps to itself.
  target_compile_options(vyx_options INTERFACE -fsanitize=${VYX_SANITIZE}
    -fno-sanitize-recover=undefined -fno-sanitize=vptr)
  target_link_options(vyx_options INTERFACE -fsanitize=${VYX_SANITIZE})
endif()

# vyx::torch: LibTorch as system headers, so that its warnings are not ours.
add_library(vyx_torch INTERFACE)
add_library(vyx::torch ALIAS vyx_torch)
target_link_libraries(vyx_torch INTERFACE torch)
target_include_directories(vyx_torch SYSTEM INTERFACE "$<BUILD_INTERFACE:${TORCH_INCLUDE_DIRS}>")
separate_arguments(vyx_torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
target_compile_options(vyx_torch INTERFACE ${vyx_torch_flags})
# at::parallel_for is inline: in units that are compiled without OpenMP it is a plain loop.
target_link_libraries(vyx_torch INTERFACE OpenMP::OpenMP_CXX)
# The wheel brings fmt's headers, of another version than the system's library, and they come first:
# used without a library.
target_compile_definitions(vyx_torch INTERFACE FMT_HEADER_ONLY)

# vyx_add_torch_pch(name): the torch headers cost 10 s per unit; they are compiled once, in this
# target, and shared.
function(vyx_add_torch_pch name)
  if(VYX_PCH)
    add_library(${name} STATIC ${PROJECT_SOURCE_DIR}/third_party/torch_pch.cpp)
    target_link_libraries(${name} PUBLIC vyx::options vyx::torch fmt::fmt
      nlohmann_json::nlohmann_json ${ARGN})
    target_precompile_headers(${name} PRIVATE ${PROJECT_SOURCE_DIR}/third_party/torch_pch.h)
    # What ccache reads instead of the 600 MB of the compiled header, in each unit; flags and
    # headers it checks itself.
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
      ${PROJECT_SOURCE_DIR}/third_party/torch_pch.h)
    file(SHA256 ${PROJECT_SOURCE_DIR}/third_party/torch_pch.h digest)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${name}.dir/cmake_pch.hxx.gch.sum
      "${digest} LibTorch ${Torch_VERSION} nlohmann-json ${nlohmann_json_VERSION} "
      "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}\n")
  endif()
endfunction()
# vyx_use_torch_pch(target [name]): shares that of `name`, which must have the target's flags;
# vyx_pch if not given.
function(vyx_use_torch_pch target)
  if(VYX_PCH)
    list(APPEND ARGN vyx_pch)
    list(GET ARGN 0 name)
    target_precompile_headers(${target} REUSE_FROM ${name})
  endif()
endfunction()
vyx_add_torch_pch(vyx_pch)

# vyx_join_units(target): with VYX_UNITY, the target's sources are compiled eight at a time, those
# of a folder together: half of a unit's time goes into templates that the torch headers leave to be
# instantiated anew. The sources stand alone all the same, which builds without it prove.
function(vyx_join_units target)
  if(NOT VYX_UNITY)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    cmake_path(GET source PARENT_PATH folder)
    string(MAKE_C_IDENTIFIER "${target}_${folder}" group)
    list(APPEND ${group} ${source})
    list(LENGTH ${group} count)
    math(EXPR index "(${count} - 1) / 8")
    set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${group}_${index})
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
endfunction()

# vyx_add_library(name [NO_TORCH] sources…): the static library vyx::name. A folder is a room, a
# room is a library (core/io is vyx::core_io), and what it links is what it may include: tests/house
# checks that.
function(vyx_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_TORCH" "" "")
  add_library(vyx_${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  add_library(vyx::${name} ALIAS vyx_${name})
  target_link_libraries(vyx_${name} PUBLIC vyx::options)
  set_property(GLOBAL APPEND PROPERTY VYX_ROOMS ${name})
  if(NOT arg_NO_TORCH)
    target_link_libraries(vyx_${name} PUBLIC vyx::torch)
    vyx_use_torch_pch(vyx_${name})
    vyx_join_units(vyx_${name})
  endif()
endfunction()

# vyx_add_layer(name rooms…): vyx::name, all rooms of a top-level folder for those who link it. Give
# the rooms that stand on the others.
function(vyx_add_layer name)
  add_library(vyx_${name} INTERFACE)
  add_library(vyx::${name} ALIAS vyx_${name})
  list(TRANSFORM ARGN PREPEND vyx::)
  target_link_libraries(vyx_${name} INTERFACE ${ARGN})
  set_property(GLOBAL APPEND PROPERTY VYX_LAYERS ${name})
endfunction()

# vyx_write_rooms(file): one line per library: its name, folder, sources and links, for tests/house.
function(vyx_write_rooms file)
  get_property(rooms GLOBAL PROPERTY VYX_ROOMS)
  get_property(layers GLOBAL PROPERTY VYX_LAYERS)
  set(text "")
  foreach(name IN LISTS rooms layers)
    get_target_property(folder vyx_${name} SOURCE_DIR)
    cmake_path(RELATIVE_PATH folder BASE_DIRECTORY ${PROJECT_SOURCE_DIR})
    foreach(property IN ITEMS SOURCES LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
      get_target_property(value vyx_${name} ${property})
      string(REPLACE ";" " " ${property} "${value}")
    endforeach()
    string(APPEND text
      "${name}|${folder}|${SOURCES}|${LINK_LIBRARIES}|${INTERFACE_LINK_LIBRARIES}\n")
  endforeach()
  file(WRITE ${file} "${text}")
endfunction()

# vyx_install(): the libraries that there are so far, their headers under their own paths, and what
# find_package(vyx) reads.
function(vyx_install)
  include(CMakePackageConfigHelpers)
  get_property(rooms GLOBAL PROPERTY VYX_ROOMS)
  get_property(layers GLOBAL PROPERTY VYX_LAYERS)
  set(targets "")
  foreach(name IN LISTS rooms layers ITEMS options torch)
    set_target_properties(vyx_${name} PROPERTIES EXPORT_NAME ${name})
    list(APPEND targets vyx_${name})
  endforeach()
  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/vyx)
  install(TARGETS ${targets} EXPORT vyx)
  install(EXPORT vyx NAMESPACE vyx:: FILE vyxTargets.cmake DESTINATION ${package})
  configure_package_config_file(third_party/vyxConfig.cmake.in vyxConfig.cmake
    INSTALL_DESTINATION ${package})
  write_basic_package_version_file(vyxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/vyxConfig.cmake ${PROJECT_BINARY_DIR}/vyxConfigVersion.cmake
    DESTINATION ${package})
  install(DIRECTORY core models steering sae DESTINATION include/vyx FILES_MATCHING PATTERN *.h)
  install(DIRECTORY apps/data DESTINATION share/vyx PATTERN *.py EXCLUDE)
  install(FILES README.md LICENSE DESTINATION share/doc/vyx)
endfunction()

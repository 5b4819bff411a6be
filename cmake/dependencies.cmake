# Eigen, which is all that the library needs: found if it is installed, and otherwise fetched by pinned hash where
# BATCHNORM_FETCH_DEPENDENCIES allows it. To fetch it though it is installed: -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON.
# (What tests and benchmarks need stands in developer_dependencies.cmake.)

include(FetchContent)

# Stops with what to do about a missing package, where fetching is off.
function(batchnorm_require_fetching package)
  if(NOT BATCHNORM_FETCH_DEPENDENCIES)
    message(
      FATAL_ERROR
        "batchnorm: ${package} was not found. Install it, or point ${package}_DIR or CMAKE_PREFIX_PATH at it, "
        "or set BATCHNORM_FETCH_DEPENDENCIES=ON to have it downloaded."
    )
  endif()
  message(STATUS "batchnorm: ${package} was not found and is fetched")
endfunction()

# Eigen, 3.4 or any later version. No version goes into find_package: Eigen 5 counts as incompatible with a request
# for 3.4, and the range 3.4...5 excludes Debian's 3.4.0.
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 CONFIG QUIET)
  if(Eigen3_FOUND AND Eigen3_VERSION VERSION_LESS 3.4)
    message(FATAL_ERROR "batchnorm: Eigen 3.4 or later is needed, found ${Eigen3_VERSION} in ${Eigen3_DIR}")
  elseif(NOT Eigen3_FOUND)
    batchnorm_require_fetching(Eigen3)
    # Headers are all that is taken: a SOURCE_SUBDIR without a CMakeLists.txt keeps Eigen's own project out of this one.
    FetchContent_Declare(
      eigen3
      URL https://gitlab.com/libeigen/eigen/-/archive/5.0.1/eigen-5.0.1.tar.gz
      URL_HASH SHA256=e9c326dc8c05cd1e044c71f30f1b2e34a6161a3b6ecf445d56b53ff1669e3dec
      SOURCE_SUBDIR headers-only
    )
    if(CMAKE_VERSION VERSION_LESS 3.18) # then FetchContent_MakeAvailable does not look at SOURCE_SUBDIR
      FetchContent_GetProperties(eigen3)
      if(NOT eigen3_POPULATED)
        FetchContent_Populate(eigen3)
      endif()
    else()
      FetchContent_MakeAvailable(eigen3)
    endif()
    add_library(Eigen3::Eigen INTERFACE IMPORTED GLOBAL)
    set_target_properties(Eigen3::Eigen PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${eigen3_SOURCE_DIR}")
    set(Eigen3_VERSION 5.0.1)
  else()
    # A package's targets are seen in this directory and below, and those who link to batchnorm are elsewhere.
    get_target_property(eigen_is_imported Eigen3::Eigen IMPORTED)
    get_target_property(eigen_is_alias_of Eigen3::Eigen ALIASED_TARGET)
    if(eigen_is_imported AND NOT eigen_is_alias_of)
      set_target_properties(Eigen3::Eigen PROPERTIES IMPORTED_GLOBAL TRUE)
    endif()
  endif()
endif()

# nlohmann's JSON, for batchnorm::safetensors alone: looked for and not missed. (What tests need of it may be fetched.)
if(NOT TARGET nlohmann_json::nlohmann_json)
  find_package(nlohmann_json CONFIG QUIET)
  if(nlohmann_json_FOUND)
    get_target_property(json_is_imported nlohmann_json::nlohmann_json IMPORTED)
    if(json_is_imported)
      set_target_properties(nlohmann_json::nlohmann_json PROPERTIES IMPORTED_GLOBAL TRUE)
    endif()
  endif()
endif()

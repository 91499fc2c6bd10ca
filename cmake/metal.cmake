# The Metal backend: rwkvnative_metal(target) adds csrc/metal and the embedded kernels to the target. Where Xcode's `metal` is,
# the kernels are compiled ahead too, into libraries beside the extension; elsewhere the device compiles the embedded texts when it
# first needs them. On a Mac only; tests/metal builds the same sources against a software device on Linux.

function(rwkvnative_metal target)
  if(NOT Python_EXECUTABLE)
    find_package(Python COMPONENTS Interpreter REQUIRED)
  endif()
  set(csrc ${CMAKE_CURRENT_SOURCE_DIR}/csrc)
  set(script ${CMAKE_CURRENT_SOURCE_DIR}/cmake/embed_metal.py)
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/metal_kernels.cpp)
  file(GLOB kernels CONFIGURE_DEPENDS ${csrc}/metal/kernels/*.metal ${csrc}/metal/kernels/*.h)
  add_custom_command(OUTPUT ${generated}
                     COMMAND ${Python_EXECUTABLE} ${script} ${csrc} ${generated}
                     DEPENDS ${kernels} ${csrc}/core/quant_blocks.h ${script})

  file(GLOB sources CONFIGURE_DEPENDS ${csrc}/metal/*.mm)
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "-fno-objc-arc")
  target_sources(${target} PRIVATE ${sources} ${generated})
  find_library(METAL_FRAMEWORK Metal REQUIRED)
  find_library(FOUNDATION_FRAMEWORK Foundation REQUIRED)
  # A command-line process gets its default Metal device only with CoreGraphics loaded.
  find_library(COREGRAPHICS_FRAMEWORK CoreGraphics REQUIRED)
  target_link_libraries(${target} PRIVATE ${METAL_FRAMEWORK} ${FOUNDATION_FRAMEWORK} ${COREGRAPHICS_FRAMEWORK})
  target_compile_definitions(${target} PRIVATE RWKVNATIVE_METAL)
  rwkvnative_metal_libraries(${target} ${csrc} "${kernels}")
endfunction()

function(rwkvnative_metal_libraries target csrc kernels)
  execute_process(COMMAND xcrun -sdk macosx metal --version RESULT_VARIABLE missing OUTPUT_QUIET ERROR_QUIET)
  if(missing)
    message(STATUS "Metal kernels: no compiler here, the texts are compiled when they are used")
    return()
  endif()
  set(cmake_folder ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/metal_libraries)
  add_custom_command(OUTPUT ${folder}/id
                     COMMAND ${Python_EXECUTABLE} ${cmake_folder}/metal_libraries.py ${csrc} ${folder} --optional
                     DEPENDS ${kernels} ${csrc}/core/quant_blocks.h ${cmake_folder}/metal_libraries.py ${cmake_folder}/embed_metal.py)
  add_custom_target(${target}_metal_libraries ALL DEPENDS ${folder}/id)
  install(DIRECTORY ${folder}/ DESTINATION rwkvnative/metal_libraries)
endfunction()

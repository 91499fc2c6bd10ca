# The Metal backend: rwkvnative_metal(target) adds csrc/metal and the embedded kernels to the target. On a Mac only; tests/metal
# builds the same sources against a software device on Linux.

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
endfunction()

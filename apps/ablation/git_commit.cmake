# Writes OUT, a header with the commit that SOURCE is at, if that has changed. Runs with every
# build: cmake -DSOURCE=… -DOUT=… -P …
set(commit unknown)
find_program(git git)
if(git)
  execute_process(COMMAND ${git} describe --always --dirty --abbrev=40 --exclude=*
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(commit ${described})
  endif()
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define VYX_GIT_COMMIT \"${commit}\"\n" @ONLY)

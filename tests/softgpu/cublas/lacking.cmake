# Writes OUTPUT: a weak definition for every name in SYMBOLS, which says what is lacking. A real one overrides it.
file(STRINGS ${SYMBOLS} names)
set(code "/* Generated: every name of the real library, for programs that link or look it up. */\n#include <stddef.h>\n")
string(APPEND code "int softgpu_unsupported(const char *);\n")
string(APPEND code "static int lacking(const char *name)\n{\n    softgpu_unsupported(name);\n    return 15; /* NOT_SUPPORTED, in cuBLAS and cuBLASLt */\n}\n")
foreach(name IN LISTS names)
  string(APPEND code "int ${name}(void) __attribute__((weak, visibility(\"default\")));\nint ${name}(void) { return lacking(\"${name}\"); }\n")
endforeach()
file(WRITE ${OUTPUT} "${code}")

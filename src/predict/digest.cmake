# Writes a header with a digest of FILES to OUT.
set(all "")
foreach(file IN LISTS FILES)
  file(SHA256 ${file} digest)
  string(APPEND all ${digest})
endforeach()
string(SHA256 digest "${all}")
file(WRITE ${OUT} "#pragma once\n\n#define GRAFT_LAYOUTS_DIGEST \"${digest}\"\n")

# Writes a source with a digest of FILES to OUT.
set(all "")
foreach(file IN LISTS FILES)
  file(SHA256 ${file} digest)
  string(APPEND all ${digest})
endforeach()
string(SHA256 digest "${all}")
file(WRITE ${OUT} "#include \"layouts_digest.h\"\n\nnamespace graft::predict {\nconst char* layouts_digest() { return \"${digest}\"; }\n}  // namespace graft::predict\n")

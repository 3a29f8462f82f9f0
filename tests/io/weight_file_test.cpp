#include "graft/io/weight_file.h"
#include "graft/io/safetensors.h"
#include "support/expect.h"
namespace graft { namespace {
TEST(WeightFile, Dump) {
  const char* path = std::getenv("W");
  if (!path) GTEST_SKIP();
  const auto f = io::read_weights(path);
  printf("%s %s %zu %zu\n", f.format.c_str(), f.keras_version.c_str(), f.model_config.size(), f.layers.size());
  for (auto& l : f.layers) { printf("%s | %s | %s | %d :", l.name.c_str(), l.type.c_str(), l.path.c_str(), l.rank); for (auto& t : l.tensors) printf(" %s%s", t.name.c_str(), t.value.shape().to_string().c_str()); printf("\n"); }
}
}}

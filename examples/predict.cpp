// Names the photos given on the command line: predict WEIGHTS.safetensors PHOTO...
#include <cstdio>

#include "graft/predict/predictor.h"

int main(int argc, char** argv) try {
  const auto predictor = graft::predict::Predictor::load(argc > 1 ? argv[1] : "weights.safetensors");
  for (int i = 2; i < argc; ++i) {
    std::printf("%s\n", argv[i]);
    for (const auto& p : predictor.predict(argv[i], 3))
      std::printf("  %5.1f %%  %s\n", 100 * p.probability, p.label.c_str());
  }
} catch (const graft::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

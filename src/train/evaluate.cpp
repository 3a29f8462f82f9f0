#include "graft/train/evaluate.h"

#include "graft/ops/loss.h"
#include "graft/plan/plan.h"

#include "core/format.h"
#include "train/uploaded.h"

namespace graft::train {

Metrics evaluate(nn::Network& network, Source& source, DType dtype) {
  network.materialize();
  const plan::Inference inference(network, {.dtype = dtype, .outputs = {}, .logits = true, .given = {}});
  const autograd::NoGrad off;
  Uploader uploader(network.device());
  Metrics metrics;
  source.start_epoch(0);
  while (const auto examples = source.next()) {
    const Tensor logits = inference.run(values_of(*examples, network, dtype, uploader)).back();
    const Tensor labels = uploader.upload(examples->labels);
    metrics.add(logits, labels, ops::softmax_cross_entropy(logits, labels));
  }
  return metrics;
}

Metrics evaluate(nn::Network& network, const data::ImageFolder& photos, Index batch, int workers, DType dtype) {
  check(network.classes.empty() || photos.classes.empty() || network.classes == photos.classes,
        "[evaluate] the network's classes ({}) are not the data's ({})", fmt::join(network.classes, ", "),
        fmt::join(photos.classes, ", "));
  const data::LoaderOptions options{.preprocessing = network.preprocessing,
                                    .batch = batch,
                                    .shuffle = false,
                                    .augmentation = {},
                                    .workers = workers,
                                    .keep_bytes = network.device() != Device{},
                                    .cache_bytes = 0};
  const auto source = photo_source(photos, options, network.nodes().front().name);
  return evaluate(network, *source, dtype);
}

}  // namespace graft::train

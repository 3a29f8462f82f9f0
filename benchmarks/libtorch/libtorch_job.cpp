// LibTorch's side of a whole job, from C++: a linear classifier on a backbone, and as much of the backbone as is asked
// for, trained on folders of photos; photos on disk to weights on disk.
//
//   libtorch_job --network=mobilenet.safetensors --train=photos/train --validation=photos/validation --out=trained.pt
//
// --cut names the layer that the classifier is put on (images are averaged over their pixels first), --frozen-to the
// layer that the backbone is frozen up to; all of it if not given. As users write it, the whole network runs over all
// photos in every epoch, and LibTorch's DataLoader reads them meanwhile. With --cached it is as an expert writes it by
// hand: what is frozen is computed once, and the epochs start from that. The classifier begins with the weights and
// bias that --head names a file of, f32 one after the other, else with Glorot's. Prints a line of JSON; with
// --features=PHOTO it is what the backbone makes of a photo, and nothing is trained.
#include <chrono>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>

#include <torch/data/dataloader.h>
#include <torch/data/samplers.h>
#include <torch/data/transforms.h>
#include <torch/torch.h>

#include "command_line.h"
#include "network.h"
#include "photos.h"

namespace peer {
namespace {

using Clock = std::chrono::steady_clock;
// What the backbone makes of a batch, and the labels.
using Use = std::function<void(const at::Tensor& features, const at::Tensor& labels)>;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Photos that are read anew in every pass, by workers, and run through the whole backbone.
template <class Sampler>
class PhotoSource {
 public:
  PhotoSource(Network& network, const Photos& photos, const Preprocessing& preprocessing, const Options& options)
      : network_(network),
        preprocessing_(preprocessing),
        loader_(torch::data::make_data_loader<Sampler>(
            Photos(photos).map(torch::data::transforms::Stack<>()),
            torch::data::DataLoaderOptions(static_cast<std::size_t>(options.number("batch")))
                .workers(static_cast<std::size_t>(at::get_num_threads())))) {}

  void pass(bool training, const Use& use) {
    for (const auto& batch : *loader_)
      use(network_.forward(preprocessing_.prepare(batch.data), training), batch.target);
  }

 private:
  using Stacked = torch::data::datasets::MapDataset<Photos, torch::data::transforms::Stack<>>;

  Network& network_;
  Preprocessing preprocessing_;
  std::unique_ptr<torch::data::StatelessDataLoader<Stacked, Sampler>> loader_;
};

// The mean over an image's pixels.
at::Tensor pooled(const at::Tensor& features) { return features.dim() == 4 ? features.mean({2, 3}) : features; }

// Images stay channels last when rows of them are chosen, if they are chosen as [N, H, W, C].
at::Tensor rows_last(const at::Tensor& value) { return value.dim() == 4 ? value.permute({0, 2, 3, 1}) : value; }
at::Tensor rows_first(const at::Tensor& value) { return value.dim() == 4 ? value.permute({0, 3, 1, 2}) : value; }

// Frozen values that were computed once and stay in memory.
template <class Sampler>
class FeatureSource {
 public:
  FeatureSource(Network& network, Photos photos, const Preprocessing& preprocessing, const Options& options)
      : network_(network), batch_(static_cast<std::size_t>(options.number("batch"))), labels_(photos.labels()) {
    const at::Tensor images = photos.read_all();
    std::vector<std::vector<at::Tensor>> parts;
    for (const at::Tensor& batch : images.split(options.number("batch"))) {
      const Values values = network.frozen_values(preprocessing.prepare(batch));
      parts.resize(values.size());
      for (std::size_t i = 0; i < values.size(); ++i)
        if (values[i].defined()) parts[i].push_back(rows_last(i + 1 == values.size() ? pooled(values[i]) : values[i]));
    }
    for (const auto& part : parts) kept_.push_back(part.empty() ? at::Tensor() : at::cat(part));
  }

  void pass(bool training, const Use& use) {
    Sampler sampler(labels_.size(0));
    while (const auto chosen = sampler.next(batch_)) {
      const at::Tensor rows = at::tensor(std::vector<std::int64_t>(chosen->begin(), chosen->end()));
      Values values(kept_.size());
      for (std::size_t i = 0; i < kept_.size(); ++i)
        if (kept_[i].defined()) values[i] = rows_first(kept_[i].index_select(0, rows));
      use(network_.forward_rest(values, training), labels_.index_select(0, rows));
    }
  }

 private:
  Network& network_;
  std::size_t batch_;
  at::Tensor labels_;
  Values kept_;  // by node
};

Json evaluate(torch::nn::Linear head, auto& source) {
  const torch::NoGradGuard off;
  double loss = 0, right = 0, count = 0;
  source.pass(false, [&](const at::Tensor& features, const at::Tensor& labels) {
    const at::Tensor logits = head->forward(pooled(features));
    loss += at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum).item<double>();
    right += logits.argmax(1).eq(labels).sum().item<double>();
    count += static_cast<double>(labels.size(0));
  });
  return {{"loss", loss / count}, {"top1", right / count}};
}

template <template <class> class Source>
Json train(Network& network, const Preprocessing& preprocessing, const Options& options) {
  const auto start = Clock::now();
  const Photos photos(options.at("train"), preprocessing);
  Source<torch::data::samplers::RandomSampler> training(network, photos, preprocessing, options);
  Source<torch::data::samplers::SequentialSampler> validation(network, Photos(options.at("validation"), preprocessing),
                                                              preprocessing, options);
  const double frozen_seconds = seconds_since(start);

  const at::Tensor features = pooled(network.forward(at::zeros({1, 3, network.image(), network.image()}), false));
  torch::nn::Linear head(features.size(1), photos.classes());
  torch::nn::init::xavier_uniform_(head->weight);  // as a head of graft or Keras begins
  torch::nn::init::zeros_(head->bias);
  if (options.contains("head")) {  // where graft's begins
    const torch::NoGradGuard off;
    std::ifstream file(options.at("head"), std::ios::binary);
    for (const at::Tensor& values : {head->weight, head->bias})
      file.read(static_cast<char*>(values.data_ptr()), static_cast<std::streamsize>(values.nbytes()));
    if (!file || file.peek() != std::ifstream::traits_type::eof())
      throw std::runtime_error(options.at("head") + ": expected a head of " + std::to_string(head->weight.numel()) +
                               " weights");
  }
  std::vector<at::Tensor> trained = network.trainable();
  for (const at::Tensor& parameter : head->parameters()) trained.push_back(parameter);
  torch::optim::Adam optimizer(trained, torch::optim::AdamOptions(std::stod(options.at("lr"))));

  Json epochs = Json::array();
  for (int epoch = 0; epoch < options.number("epochs"); ++epoch) {
    const auto began = Clock::now();
    training.pass(true, [&](const at::Tensor& batch, const at::Tensor& labels) {
      optimizer.zero_grad();
      at::cross_entropy_loss(head->forward(pooled(batch)), labels).backward();
      optimizer.step();
    });
    Json record = evaluate(head, validation);
    record["seconds"] = seconds_since(began);
    epochs.push_back(record);
  }
  torch::save(trained, options.at("out"));
  return {{"version", TORCH_VERSION}, {"frozen_seconds", frozen_seconds}, {"epochs", epochs}};
}

// What the backbone makes of photos from all over the folder, image by image.
Json features(Network& network, const Preprocessing& preprocessing, const Options& options) {
  const torch::NoGradGuard off;
  Photos photos(options.at("validation"), preprocessing);
  const std::size_t count = static_cast<std::size_t>(options.number("features"));
  std::vector<at::Tensor> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(photos.get(i * photos.size().value() / count).data);
  const at::Tensor values = rows_last(network.forward(preprocessing.prepare(at::stack(chosen)), false)).contiguous();
  return {{"output", std::vector<float>(values.data_ptr<float>(), values.data_ptr<float>() + values.numel())}};
}

void work(const Options& options) {
  Network network(options.at("network"), at::kFloat, Backbone{options.at("cut"), options.at("frozen-to")});
  const Preprocessing preprocessing(network.preprocessing());
  if (options.contains("features"))
    say(features(network, preprocessing, options));
  else if (options.contains("cached"))
    say(train<FeatureSource>(network, preprocessing, options));
  else
    say(train<PhotoSource>(network, preprocessing, options));
}

}  // namespace
}  // namespace peer

int main(int argc, char** argv) {
  return peer::run_program(argc, argv,
                           {{"cut", ""},
                            {"frozen-to", ""},
                            {"epochs", "10"},
                            {"batch", "32"},
                            {"lr", "1e-3"},
                            {"threads", "0"},
                            {"seed", "1"}},
                           peer::work);
}

#include "graft/data/image.h"
#include "graft/data/preprocess.h"
#include "graft/io/network_file.h"
#include "graft/io/npy.h"
#include "graft/io/safetensors.h"
#include "graft/plan/plan.h"

#include "common.h"
#include "core/parallel.h"

namespace graft::tools {
namespace {

struct Options {
  WeightsOption weights;
  std::vector<std::string> layers;
  std::filesystem::path input, out;
  std::vector<std::filesystem::path> images;
  Index batch = 16;
  bool json = false, quiet = false;
};

Tensor decode(const Options& options, const Preprocessing& preprocessing, Index first, Index count) {
  Tensor batch = Tensor::empty({count, preprocessing.height, preprocessing.width, 3});
  parallel_for(count, [&](Index i) {
    const Tensor image =
        data::decode_image(options.images[static_cast<std::size_t>(first + i)], preprocessing.background);
    data::normalize_into(data::fit(image, preprocessing), preprocessing, batch.rows(i, 1));
  });
  return batch;
}

Tensor read_input(const std::filesystem::path& path, const nn::Network& network) {
  Tensor input = io::read_npy(path);
  std::vector<Index> extents{input.shape().rank() > 0 ? input.shape()[0] : 0};
  extents.insert(extents.end(), network.input_shape().begin(), network.input_shape().end());
  check(input.dtype() == DType::f32 && input.shape() == Shape{std::span<const Index>(extents)} && extents[0] > 0,
        "{}: expected float32 [N, {}] for '{}', got {} {}", path.string(), fmt::join(network.input_shape(), ", "),
        network.name, input.dtype(), input.shape());
  return input;
}

void append(Tensor& all, Index first, Index total, const Tensor& part) {
  if (!all.defined()) all = Tensor::empty(part.shape().with(0, total));
  all.rows(first, part.shape()[0]).copy_from(part);
}

void features(const Options& options) {
  check_usage(options.input.empty() != options.images.empty(), "expected either --input or photos, got {}",
              options.input.empty() ? "neither" : "both");
  nn::Network network = io::load_network(options.weights.file());
  const std::vector<std::string> layers = split_commas(options.layers);
  check_usage(!layers.empty(), "--layer names no layer");
  const plan::Inference inference(network, {.dtype = DType::f32, .outputs = layers, .given = {}});

  const Tensor input = options.input.empty() ? Tensor() : read_input(options.input, network);
  const Index total = input.defined() ? input.shape()[0] : static_cast<Index>(options.images.size());
  std::map<std::string, Tensor> values;
  {
    Counter counter("computing features of image", total, options.quiet);
    for (Index first = 0; first < total; first += options.batch) {
      const Index count = std::min(options.batch, total - first);
      const Tensor batch =
          input.defined() ? input.rows(first, count) : decode(options, network.preprocessing, first, count);
      const std::vector<Tensor> results = inference.run(batch);
      for (std::size_t i = 0; i < layers.size(); ++i) append(values[layers[i]], first, total, results[i]);
      counter.show(first + count);
    }
  }

  io::Safetensors file;
  file.metadata["network"] = network.name;
  Json files = Json::array();
  for (const auto& image : options.images) files.push_back(image.string());
  if (!files.empty()) file.metadata["files"] = files.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (const auto& [layer, value] : values) file.tensors.emplace_back(layer, value);
  io::write_safetensors(options.out, file);

  Json shapes = Json::object();
  for (const auto& [layer, value] : values)
    shapes[layer] = std::vector<Index>(value.shape().begin(), value.shape().end());
  if (options.json) return print_json(Json{{"out", options.out.string()}, {"layers", shapes}});
  for (const auto& [layer, value] : values) say("{}  {}\n", layer, value.shape());
}

}  // namespace

void add_features(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(
      app, "features", "Write the values of layers for photos or for a prepared array",
      "graft features --weights vgg16.safetensors --layer block4_pool,block5_pool cat.jpg -o features.safetensors");
  add_weights_option(*c, o->weights);
  c->add_option("--layer", o->layers,
                "Layers, with commas between them; each becomes a float32 tensor [N, ...] of that name")
      ->required()
      ->type_name("A[,B...]")
      ->allow_extra_args(false)
      ->default_str("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  c->add_option("--input", o->input, "Already prepared images: float32 [N, height, width, channels]")
      ->type_name("X.npy");
  c->add_option("images", o->images,
                "Photos, prepared as the network expects them; their names are kept in the metadata")
      ->type_name("IMAGE");
  c->add_option("-o,--out", o->out, "The safetensors file to write")->required()->type_name("OUT");
  c->add_option("--batch", o->batch, "Images at once")->check(positive());
  c->add_flag("--json", o->json, "Print layers and shapes as JSON");
  c->add_flag("--quiet", o->quiet, "No progress on standard error");
  add_machine_options(*c);
  c->callback([o] { features(*o); });
}

}  // namespace graft::tools

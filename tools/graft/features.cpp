#include <set>

#include "graft/data/image.h"
#include "graft/data/preprocess.h"
#include "graft/io/network_file.h"
#include "graft/io/npy.h"
#include "graft/io/safetensors.h"
#include "graft/plan/plan.h"
#include "graft/predict/packed_file.h"

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

std::vector<std::filesystem::path> photos_of(const Options& options) {
  std::vector<std::filesystem::path> photos;
  for (const std::filesystem::path& image : options.images) {
    std::error_code none;
    if (!std::filesystem::is_directory(image, none)) {
      photos.push_back(image);
      continue;
    }
    const auto below = data::photos_below(image);
    check(!below.empty(), "[images] {}: expected photos in this folder, got none", image.string());
    photos.insert(photos.end(), below.begin(), below.end());
  }
  return photos;
}

Tensor decode(std::span<const std::filesystem::path> photos, const Preprocessing& preprocessing) {
  const auto count = static_cast<Index>(photos.size());
  Tensor batch = Tensor::empty({count, preprocessing.height, preprocessing.width, 3});
  parallel_for(count, [&](Index i) {
    const Tensor image = data::decode_image(photos[static_cast<std::size_t>(i)], preprocessing.background);
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

// Values are written batch by batch: of all photos together they may be more than the memory holds.
void features(const Options& options) {
  check_usage(options.input.empty() != options.images.empty(), "expected either --input or photos, got {}",
              options.input.empty() ? "neither" : "both");
  const std::vector<std::filesystem::path> photos = photos_of(options);
  check_not_read(options.out, {options.weights.file(), options.input});
  check_not_read(options.out, photos);
  const predict::FileIdentity file(options.weights.file());
  nn::Network network = io::load_network(file.path);
  const std::vector<std::string> given = split_commas(options.layers);
  const std::set<std::string> names(given.begin(), given.end());
  const std::vector<std::string> layers(names.begin(), names.end());
  check_usage(!layers.empty(), "--layer names no layer");
  const plan::Inference inference(
      network, {.dtype = DType::f32, .outputs = layers, .given = {}, .cache = predict::packed_beside(file, network)});

  const Tensor input = options.input.empty() ? Tensor() : read_input(options.input, network);
  const Index total = input.defined() ? input.shape()[0] : static_cast<Index>(photos.size());
  const auto compute = [&](Index first) {
    const Index count = std::min(options.batch, total - first);
    return inference.run(input.defined() ? input.rows(first, count)
                                         : decode(std::span(photos).subspan(static_cast<std::size_t>(first),
                                                                            static_cast<std::size_t>(count)),
                                                  network.preprocessing));
  };

  std::vector<Tensor> values = compute(0);
  io::SafetensorsHeader header;
  header.metadata["network"] = network.name;
  Json files = Json::array(), shapes = Json::object();
  for (const auto& photo : photos) files.push_back(photo.string());
  if (!files.empty()) header.metadata["files"] = files.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Shape shape = values[i].shape().with(0, total);
    header.tensors.push_back({layers[i], {shape, DType::f32}});
    shapes[layers[i]] = std::vector<Index>(shape.begin(), shape.end());
  }
  io::write_safetensors(options.out, header, [&](const io::PutRows& put) {
    Counter counter("computing features of image", total, options.quiet);
    for (Index first = 0; first < total; first += options.batch) {
      if (first > 0) values = compute(first);
      for (std::size_t i = 0; i < layers.size(); ++i) put(i, first, values[i]);
      counter.show(first + values.front().shape()[0]);
    }
  });

  if (options.json) return print_json(Json{{"out", options.out.string()}, {"layers", shapes}});
  for (const auto& [layer, spec, unused] : header.tensors) say("{}  {}\n", layer, spec.shape);
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
  c->add_option(
       "images", o->images,
       "Photos, or folders of them, prepared as the network expects them; their names are kept in the metadata")
      ->type_name("IMAGE");
  c->add_option("-o,--out", o->out, "The safetensors file to write")->required()->type_name("OUT");
  c->add_option("--batch", o->batch, "Images at once")->check(positive());
  c->add_flag("--json", o->json, "Print layers and shapes as JSON");
  c->add_flag("--quiet", o->quiet, "No progress on standard error");
  add_machine_options(*c);
  c->callback([o] { features(*o); });
}

}  // namespace graft::tools

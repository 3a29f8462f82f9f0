#include <sstream>

#include "graft/core/context.h"
#include "graft/io/network_file.h"
#include "graft/models/models.h"

#include "common.h"
#include "nn/batched.h"
#include "plan_table.h"

namespace graft::tools {
namespace {

struct Options {
  WeightsOption weights;
  std::string model;
  models::Options of_model;
  Index input_size = 0, batch = 1;
  bool no_top = false, json = false, plan = false, train = false;
  std::string precision = "f32";
  double memory_limit = 0;  // MiB
};

nn::Network network_of(const Options& options) {
  const bool names_file = !options.weights.weights.empty() || !options.weights.run.empty();
  check_usage(names_file || !options.model.empty(), "expected one of --weights, --run and --model, got none");
  if (options.model.empty()) return io::load_network(options.weights.file());
  check_usage(!names_file, "expected one of --weights, --run and --model, got two");
  models::Options o = options.of_model;
  o.include_top = !options.no_top;
  o.height = o.width = options.input_size;
  return models::make(options.model, o);
}

Json describe(const nn::Network& network, Index batch) {
  const nn::Program program = network.lower(nn::batched(network.input_shape(), batch));
  std::map<std::string, double> operations;
  for (const nn::Program::Call& call : program.calls) {
    std::vector<Spec> inputs, outputs;
    for (const nn::Value value : call.inputs) inputs.push_back(program[value].spec);
    for (const nn::Value value : call.outputs) outputs.push_back(program[value].spec);
    operations[call.node] += call.op->operations(inputs, outputs);
  }
  double all = 0;
  Json layers = Json::array();
  for (const nn::NodeEntry& node : network.nodes()) {
    const Shape& shape = program[program.node(node.name)].spec.shape;
    Json from = Json::array();
    for (const int input : node.inputs) from.push_back(network.nodes()[static_cast<std::size_t>(input)].name);
    Json layer{{"name", node.name}, {"type", "input"}, {"output", std::vector<Index>(shape.begin(), shape.end())}};
    Index parameters = 0;
    if (node.layer >= 0) {
      const nn::LayerEntry& entry = network.layers()[static_cast<std::size_t>(node.layer)];
      for (const std::string& name : entry.parameters)
        parameters += network.parameter_table().at(name)->shape.elements();
      layer["type"] = entry.layer->type();
      layer["trainable"] = entry.trainable;
    }
    layer["parameters"] = parameters;
    layer["flops"] = operations[node.name];
    layer["from"] = from;
    all += operations[node.name];
    layers.push_back(std::move(layer));
  }
  return {{"network", network.name},
          {"batch", batch},
          {"parameters", network.parameter_count()},
          {"flops", all},
          {"layers", layers}};
}

}  // namespace

void add_summary(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(app, "summary", "Show a network's layers, shapes, parameters and operations",
                            "graft summary --model resnet50 --no-top --batch 8");
  add_weights_option(*c, o->weights);
  c->add_option("--model", o->model, fmt::format("A network by name: {}", fmt::join(models::names(), ", ")))
      ->type_name("NAME");
  const auto of_model = [c](CLI::Option* option) {
    return option->needs(c->get_option("--model"))->group("With --model");
  };
  of_model(c->add_option("--input-size", o->input_size, "Height and width; the network's usual ones if not given")
               ->check(positive()));
  of_model(c->add_option("--alpha", o->of_model.alpha, "MobileNet's width")->check(positive()));
  of_model(c->add_option("--classes", o->of_model.classes, "Classes of the top")->check(positive()));
  of_model(c->add_flag("--no-top", o->no_top, "Without the classifier"));
  c->add_option("--batch", o->batch, "Images at once")->check(positive());
  CLI::Option* plan = c->add_flag("--plan", o->plan,
                                  "Compile it and run it: what becomes of each layer, its time and "
                                  "share of the ceiling");
  CLI::Option* train =
      c->add_flag("--train", o->train, "A training step instead of inference")->needs(plan)->group("With --plan");
  c->add_option("--memory-limit", o->memory_limit,
                "With --train: MiB that values may take; above it some are computed again instead of kept")
      ->check(positive())
      ->type_name("MIB")
      ->needs(train)
      ->group("With --plan");
  c->add_option("--precision", o->precision, "Of activations")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->needs(plan)
      ->group("With --plan");
  c->add_flag("--json", o->json, "As JSON");
  add_machine_options(*c);
  c->callback([o] {
    const nn::Network network = network_of(*o);
    if (o->plan) {
      check_usage(Context::current().device.kind != Device::Kind::emulated,
                  "--plan measures, and the emulated device has no speed to measure: expected --device cpu or cuda");
      const Json table = measure_plan(network, {o->batch, dtype_from_name(o->precision), o->train,
                                                static_cast<std::size_t>(o->memory_limit * (1 << 20))});
      o->json ? print_json(table) : print_plan(table);
    } else if (o->json) {
      print_json(describe(network, o->batch));
    } else {
      std::ostringstream text;
      network.summary(text, o->batch);
      say("{}", text.str());
    }
  });
}

}  // namespace graft::tools

#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "graft/io/safetensors.h"
#include "graft/nn/network.h"

namespace graft::oracle {

/// Whether GRAFT_ORACLE_PYTHON names a Python with keras, torch, timm and h5py.
bool available();

/// The folder that `tests/oracle/SCRIPT MODEL FOLDER` filled. The script runs once for each model, and the folder is
/// removed when the program ends. Throws std::runtime_error if the script fails.
const std::filesystem::path& results(const std::string& script, const std::string& model);

/// |actual - expected| / |expected|, Euclidean norms in f64; infinite if the shapes differ or a value is not finite.
double relative_error(const Tensor& actual, const Tensor& expected);
double norm(const Tensor& tensor);

/// How far something is from what the oracle has, where it is farthest.
struct Difference {
  std::string where;
  double error = 0;
  int compared = 0;

  void add(const std::string& name, double value);
};

/// Runs the network in inference on the tensor `input` of `expected` and compares the value of every node that the
/// others are named after; `logits` are the network's logits.
Difference compare_forward(nn::Network& network, const io::Safetensors& expected, Engine engine);

/// Swaps the weights of two layers of the same kind and shape, such as a careless import would. Returns their names;
/// throws if no two are alike.
std::pair<std::string, std::string> swap_alike(nn::Network& network);

}  // namespace graft::oracle

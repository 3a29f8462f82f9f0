#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graft/core/error.h"
#include "graft/plan/plan.h"
#include "graft/predict/packed_file.h"

namespace graft {
class Uploader;
}

namespace graft::predict {

/// A class and how sure the network is of it.
struct Prediction {
  Index index = 0;    ///< of the network's output
  std::string label;  ///< the class's name, or its number where the network has no names
  double probability = 0;
};

/// A trained classifier, ready for photos: it decodes and prepares them as the network was trained, runs it and names
/// the classes.
///
/// ```
/// const auto predictor = predict::Predictor::load("flowers.safetensors");
/// for (const auto& p : predictor.predict("rose.jpg", 3)) std::cout << p.label << ' ' << p.probability << '\n';
/// ```
///
/// One instance may be used by many threads at once: nothing in it changes after its construction. Copies share the
/// weights.
class Predictor {
 public:
  /// Throws Error unless the network's output is [N, classes] and its names, if it has any, are as many as its outputs.
  /// The network must not be trained while the predictor is in use.
  explicit Predictor(nn::Network network);
  /// Reads a file that `graft convert`, `graft finetune` or io::save_network wrote. Throws Error as io::load_network
  /// does. Keeps what plans make of the weights beside it, see packed_beside.
  static Predictor load(const std::filesystem::path& path);

  const nn::Network& network() const { return inference_->network(); }
  /// Number of classes.
  Index classes() const { return classes_; }
  /// The name of a class, or its number as text. Throws Error if there is no such class.
  std::string label(Index index) const;

  /// The `top` most probable classes of a photo (JPEG, PNG or BMP), best first; fewer if there are not as many classes.
  /// Throws Error naming the file if it cannot be read.
  std::vector<Prediction> predict(const std::filesystem::path& photo, Index top = 5) const;
  /// The same for a decoded photo [H, W, 3], RGB from 0 to 255, u8 or f32, of any size.
  std::vector<Prediction> predict(const Tensor& image, Index top = 5) const;
  /// The same for many, in batches: one list a photo, in their order. A device computes one batch while the next one is
  /// decoded. `after_batch` is told how many photos each batch had.
  std::vector<std::vector<Prediction>> predict(std::span<const std::filesystem::path> photos, Index top = 5,
                                               const std::function<void(Index photos)>& after_batch = {}) const;
  std::vector<std::vector<Prediction>> predict(std::span<const Tensor> images, Index top = 5) const;

  /// f32 [N, classes], each row summing to 1: the network's output where it ends in a softmax, else the softmax of it.
  ///
  /// batch  f32 [N, height, width, channels], preprocessed
  Tensor probabilities(const Tensor& batch) const;
  /// The classes of highest probability in each row of f32 [N, classes]; of equal ones the lower number first.
  std::vector<std::vector<Prediction>> rank(const Tensor& probabilities, Index top = 5) const;

 private:
  Predictor(nn::Network network, const FileIdentity* file);
  std::vector<std::vector<Prediction>> predict_batches(Index count, Index top,
                                                       const std::function<Tensor(Index)>& image,
                                                       const std::function<void(Index photos)>& after_batch) const;
  /// f32 [N, height, width, 3], preprocessed, of images that have that size; where the network is.
  Tensor normalized_batch(std::span<const Tensor> fitted, Uploader& uploader) const;
  /// As probabilities, where the network is.
  Tensor scores(const Tensor& batch) const;

  std::shared_ptr<const plan::Inference> inference_;
  Index classes_ = 0;
  bool ends_in_softmax_ = false;
};

}  // namespace graft::predict

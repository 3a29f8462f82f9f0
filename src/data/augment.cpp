#include "graft/data/augment.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <set>
#include <vector>

#include "core/format.h"

namespace graft::data {
namespace {

struct Option {
  std::string_view name;
  double Augmentation::*value;
  double most;
};

constexpr Option kOptions[] = {
    {"rotate", &Augmentation::rotate, 180},
    {"zoom", &Augmentation::zoom, 0.95},
    {"brightness", &Augmentation::brightness, 1},
    {"contrast", &Augmentation::contrast, 1},
};

void parse_word(std::string_view word, Augmentation& augmentation) {
  const std::size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  const bool has_number = equals != std::string_view::npos;
  if (key == "flip") {
    check(!has_number, "[augment] 'flip' takes no number, got '{}'", word);
    augmentation.flip = true;
    return;
  }
  const auto option =
      std::find_if(std::begin(kOptions), std::end(kOptions), [&](const Option& o) { return o.name == key; });
  check(option != std::end(kOptions), "[augment] expected flip, rotate, zoom, brightness or contrast, got '{}'", key);
  const std::string_view number = has_number ? word.substr(equals + 1) : std::string_view{};
  double& value = augmentation.*(option->value);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  check(error == std::errc{} && end == number.data() + number.size() && value >= 0 && value <= option->most,
        "[augment] expected '{}=' and a number from 0 to {}, got '{}'", key, option->most, word);
}

// Where output pixels come from: source = center + matrix * (output - center), x first.
struct Affine {
  float xx, xy, yx, yy;
};

struct Draws {
  Affine affine;
  float brightness;  // added
  float contrast;    // multiplied
};

// Every number is drawn whatever is switched on, so that switching one off leaves the others as they are.
Draws draw(const Augmentation& a, Generator generator) {
  const auto symmetric = [&] { return 2 * generator.uniform() - 1; };
  const double mirror = generator.uniform() < 0.5 && a.flip ? -1 : 1;
  const double angle = symmetric() * a.rotate * std::numbers::pi / 180;
  const double shrink = 1 / (1 + symmetric() * a.zoom);
  const double brightness = symmetric() * a.brightness, contrast = symmetric() * a.contrast;
  const double cosine = std::cos(angle) * shrink, sine = std::sin(angle) * shrink;
  return {.affine = {.xx = static_cast<float>(mirror * cosine),
                     .xy = static_cast<float>(mirror * sine),
                     .yx = static_cast<float>(-sine),
                     .yy = static_cast<float>(cosine)},
          .brightness = static_cast<float>(255 * brightness),
          .contrast = static_cast<float>(1 + contrast)};
}

template <class T>
void sample(const T* image, Index height, Index width, Index channels, const Affine& m, float* out) {
  const float center_x = static_cast<float>(width - 1) / 2, center_y = static_cast<float>(height - 1) / 2;
  const float last_x = static_cast<float>(width - 1), last_y = static_cast<float>(height - 1);
  for (Index i = 0; i < height; ++i) {
    const float dy = static_cast<float>(i) - center_y;
    for (Index j = 0; j < width; ++j) {
      const float dx = static_cast<float>(j) - center_x;
      const float x = std::clamp(center_x + m.xx * dx + m.xy * dy, 0.0f, last_x);
      const float y = std::clamp(center_y + m.yx * dx + m.yy * dy, 0.0f, last_y);
      const Index left = static_cast<Index>(x), top = static_cast<Index>(y);
      const Index right = std::min(left + 1, width - 1), bottom = std::min(top + 1, height - 1);
      const float u = x - static_cast<float>(left), v = y - static_cast<float>(top);
      const T* upper = image + top * width * channels;
      const T* lower = image + bottom * width * channels;
      for (Index c = 0; c < channels; ++c) {
        const auto at = [&](const T* row, Index column) { return static_cast<float>(row[column * channels + c]); };
        *out++ = (1 - v) * ((1 - u) * at(upper, left) + u * at(upper, right)) +
                 v * ((1 - u) * at(lower, left) + u * at(lower, right));
      }
    }
  }
}

void brighten(float* values, Index count, float by) {
  for (Index i = 0; i < count; ++i) values[i] = std::clamp(values[i] + by, 0.0f, 255.0f);
}

void change_contrast(float* values, Index pixels, Index channels, float factor) {
  std::vector<double> means(static_cast<std::size_t>(channels));
  for (Index i = 0; i < pixels * channels; ++i)
    means[static_cast<std::size_t>(i % channels)] += values[i] / static_cast<double>(pixels);
  for (Index i = 0; i < pixels * channels; ++i) {
    const float mean = static_cast<float>(means[static_cast<std::size_t>(i % channels)]);
    values[i] = std::clamp(mean + (values[i] - mean) * factor, 0.0f, 255.0f);
  }
}

}  // namespace

Augmentation Augmentation::parse(std::string_view text) {
  Augmentation augmentation;
  std::set<std::string_view> seen;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view word = text.substr(0, comma);
    check(seen.insert(word.substr(0, word.find('='))).second, "[augment] '{}' comes twice",
          word.substr(0, word.find('=')));
    parse_word(word, augmentation);
    check(comma + 1 != text.size(), "[augment] expected a word after the last comma, got none");
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return augmentation;
}

std::string Augmentation::to_string() const {
  std::string text = flip ? "flip" : "";
  for (const Option& option : kOptions) {
    if (this->*option.value != 0)
      text += fmt::format("{}{}={}", text.empty() ? "" : ",", option.name, this->*option.value);
  }
  return text;
}

Generator augmentation_generator(std::uint64_t seed, std::uint64_t epoch, Index photo) {
  constexpr std::uint64_t kPurpose = 2;
  return Generator{.seed = seed}.split(kPurpose).split(epoch).split(static_cast<std::uint64_t>(photo));
}

Tensor augment(const Tensor& image, const Augmentation& augmentation, Generator generator) {
  check(
      (image.dtype() == DType::u8 || image.dtype() == DType::f32) && image.shape().rank() == 3 && image.elements() > 0,
      "[augment] expected an image [H, W, C] of u8 or f32, got {} {}", image.dtype(), image.shape());
  const Index height = image.shape()[0], width = image.shape()[1], channels = image.shape()[2];
  const Draws draws = draw(augmentation, generator);
  Tensor result = Tensor::empty(image.shape());
  float* values = result.mutable_data<float>();
  if (!augmentation.flip && augmentation.rotate == 0 && augmentation.zoom == 0)
    result.copy_from(image);
  else if (image.dtype() == DType::u8)
    sample(image.data<std::uint8_t>(), height, width, channels, draws.affine, values);
  else
    sample(image.data<float>(), height, width, channels, draws.affine, values);
  if (augmentation.brightness > 0) brighten(values, image.elements(), draws.brightness);
  if (augmentation.contrast > 0) change_contrast(values, height * width, channels, draws.contrast);
  return result;
}

}  // namespace graft::data

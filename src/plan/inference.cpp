#include <algorithm>
#include <mutex>

#include "graft/plan/plan.h"

#include "core/format.h"
#include "nn/batched.h"

namespace graft::plan {

// Each plan has memory of its own, for its values and, without a cache, for what it folds.
constexpr std::size_t kMostPlans = 4;

class Inference::Impl {
 public:
  Impl(const nn::Network& network, const CompileOptions& options) : network_(network), options_(options) {}

  const nn::Network& network() const { return network_; }

  std::vector<Tensor> run(const std::map<std::string, Tensor>& given) { return plan_for(given)->run(given); }

 private:
  std::shared_ptr<const Plan> plan_for(const std::map<std::string, Tensor>& given) {
    check(!given.empty(), "[plan] '{}' is given nothing to compute from", network_.name);
    std::map<std::string, Spec> specs;
    for (const auto& [name, value] : given) {
      check(value.defined() && value.shape().rank() > 0, "[plan] '{}' needs a value [N, ...] for '{}'", network_.name,
            name);
      specs.emplace(name, value.spec());
    }
    const std::lock_guard lock(mutex_);
    const auto known =
        std::find_if(plans_.begin(), plans_.end(), [&](const auto& kept) { return kept.first == specs; });
    if (known != plans_.end()) {
      std::rotate(plans_.begin(), known, known + 1);
      return plans_.front().second;
    }
    CompileOptions options = options_;
    const std::string& input = network_.nodes().front().name;
    for (const auto& [name, spec] : specs) {
      if (name != input) options.given.emplace(name, spec);
    }
    const auto found = specs.find(input);
    const Shape shape = found != specs.end() ? found->second.shape
                                             : nn::batched(network_.input_shape(), specs.begin()->second.shape[0]);
    if (plans_.size() == kMostPlans) plans_.pop_back();
    plans_.emplace(plans_.begin(), specs, std::make_shared<const Plan>(compile(network_, shape, options)));
    return plans_.front().second;
  }

  nn::Network network_;
  CompileOptions options_;
  std::mutex mutex_;  // of the plans
  // The one that ran last comes first.
  std::vector<std::pair<std::map<std::string, Spec>, std::shared_ptr<const Plan>>> plans_;
};

Inference::Inference(const nn::Network& network, const CompileOptions& options)
    : impl_(std::make_unique<Impl>(network, options)) {}
Inference::~Inference() = default;
Inference::Inference(Inference&&) noexcept = default;
Inference& Inference::operator=(Inference&&) noexcept = default;

const nn::Network& Inference::network() const { return impl_->network(); }
std::vector<Tensor> Inference::run(const Tensor& input) const { return run({{network().nodes().front().name, input}}); }
std::vector<Tensor> Inference::run(const std::map<std::string, Tensor>& given) const { return impl_->run(given); }

}  // namespace graft::plan

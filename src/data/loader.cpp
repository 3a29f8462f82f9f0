#include "graft/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

#include "graft/core/context.h"
#include "graft/data/image.h"
#include "graft/data/preprocess.h"

#include "core/format.h"
#include "data/shuffle.h"

namespace graft::data {
namespace {

// A batch in the making. Workers write different rows of it; the rest is guarded by the loader's mutex. It is shared
// with them, so that an epoch can be dropped while some are still at work for it.
struct Slot {
  Batch batch;
  std::uint64_t epoch = 0;
  Index claimed = 0;
  Index done = 0;
  std::exception_ptr error;  // of the first row that failed, whichever worker was first
  Index error_row = 0;

  Index size() const { return static_cast<Index>(batch.indices.size()); }
  bool ready() const { return done == size(); }
};

}  // namespace

class Loader::Impl {
 public:
  Impl(std::shared_ptr<const ImageFolder> photos, LoaderOptions options)
      : shared_photos_(std::move(photos)), options_(options), cache_(photos_.files.size()) {
    check(photos_.size() > 0, "[loader] expected photos, got none");
    check(photos_.labels.size() == photos_.files.size(), "[loader] expected a label for each of {} photos, got {}",
          photos_.files.size(), photos_.labels.size());
    check(options_.batch >= 1 && options_.workers >= 0 && options_.prefetch >= 1,
          "[loader] expected batch and prefetch of at least 1 and workers of at least 0, got {}, {} and {}",
          options_.batch, options_.prefetch, options_.workers);
    constexpr int kMostWorkers = 4;  // decoding keeps up with any CPU's kernels by then
    const int workers = options_.workers > 0 ? options_.workers : std::min(threads(), kMostWorkers);
    for (int i = 0; i < workers; ++i) {
      workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
    }
  }

  // All are told before the first is waited for.
  ~Impl() {
    for (auto& worker : workers_) worker.request_stop();
  }

  void start_epoch(std::uint64_t epoch) {
    std::vector<Index> order(photos_.files.size());
    std::iota(order.begin(), order.end(), Index{0});
    if (options_.shuffle) order = epoch_order(photos_.size(), options_.seed, epoch);
    {
      const std::lock_guard lock(mutex_);
      epoch_ = epoch;
      order_ = std::move(order);
      planned_ = 0;
      slots_.clear();
      plan_ahead();
    }
    work_waits_.notify_all();
  }

  std::optional<Batch> next() {
    std::unique_lock lock(mutex_);
    if (slots_.empty()) return std::nullopt;
    const auto slot = slots_.front();
    batch_ready_.wait(lock, [&] { return slot->ready(); });
    slots_.pop_front();
    if (slot->error) {
      slots_.clear();
      planned_ = order_.size();
      std::rethrow_exception(slot->error);
    }
    plan_ahead();
    lock.unlock();
    work_waits_.notify_all();
    return std::move(slot->batch);
  }

  const ImageFolder& photos() const { return photos_; }
  Index batches() const { return (photos_.size() + options_.batch - 1) / options_.batch; }

  std::size_t cached_bytes() const {
    const std::lock_guard lock(mutex_);
    return cached_bytes_;
  }

 private:
  // Appends empty batches until `prefetch` are ready or in work. Needs the lock.
  void plan_ahead() {
    while (planned_ < order_.size() && static_cast<Index>(slots_.size()) < options_.prefetch) {
      const std::size_t count = std::min(static_cast<std::size_t>(options_.batch), order_.size() - planned_);
      const auto slot = std::make_shared<Slot>();
      slot->epoch = epoch_;
      slot->batch.indices.assign(order_.begin() + static_cast<Index>(planned_),
                                 order_.begin() + static_cast<Index>(planned_ + count));
      const Index rows = static_cast<Index>(count);
      slot->batch.images = Tensor::empty({rows, options_.preprocessing.height, options_.preprocessing.width, 3},
                                         keeps_bytes() ? DType::u8 : DType::f32);
      slot->batch.labels = Tensor::empty({rows}, DType::i64);
      auto* labels = slot->batch.labels.mutable_data<std::int64_t>();
      for (const Index photo : slot->batch.indices) *labels++ = photos_.labels[static_cast<std::size_t>(photo)];
      slots_.push_back(slot);
      planned_ += count;
    }
  }

  // The oldest batch that still has a row nobody works at. Needs the lock.
  std::shared_ptr<Slot> unclaimed() const {
    const auto found =
        std::find_if(slots_.begin(), slots_.end(), [](const auto& slot) { return slot->claimed < slot->size(); });
    return found == slots_.end() ? nullptr : *found;
  }

  void work(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    for (;;) {
      std::shared_ptr<Slot> slot;
      if (!work_waits_.wait(lock, stop, [&] { return (slot = unclaimed()) != nullptr; }) || stop.stop_requested())
        return;
      const Index row = slot->claimed++;
      const Index photo = slot->batch.indices[static_cast<std::size_t>(row)];
      lock.unlock();
      std::exception_ptr error;
      try {
        load(photo, slot->epoch, slot->batch.images.rows(row, 1));
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error && (!slot->error || row < slot->error_row)) {
        slot->error = error;
        slot->error_row = row;
      }
      ++slot->done;
      if (slot->ready()) batch_ready_.notify_all();
    }
  }

  void load(Index photo, std::uint64_t epoch, Tensor out) {
    Tensor image = fitted(static_cast<std::size_t>(photo));
    if (options_.augmentation.any()) {
      const std::uint64_t drawn = options_.views > 0 ? epoch % static_cast<std::uint64_t>(options_.views) : epoch;
      image = augment(image, options_.augmentation, augmentation_generator(options_.seed, drawn, photo));
    }
    if (keeps_bytes())
      out.copy_from(image.reshaped(out.shape()));
    else
      normalize_into(image, options_.preprocessing, out);
  }

  // Resampling::bilinear and augmentation make floats.
  bool keeps_bytes() const {
    return options_.keep_bytes && !options_.augmentation.any() &&
           options_.preprocessing.resampling != Resampling::bilinear;
  }

  // Every photo is wanted once an epoch in random order, so what was cached first is as good as anything: nothing is
  // ever thrown out.
  Tensor fitted(std::size_t photo) {
    {
      const std::lock_guard lock(mutex_);
      if (cache_[photo].defined()) return cache_[photo];
    }
    Tensor image = fit(decode_image(photos_.files[photo], options_.preprocessing.background), options_.preprocessing);
    const std::lock_guard lock(mutex_);
    if (!cache_[photo].defined() && image.bytes() <= options_.cache_bytes - cached_bytes_) {
      cache_[photo] = image;
      cached_bytes_ += image.bytes();
    }
    return image;
  }

  const std::shared_ptr<const ImageFolder> shared_photos_;
  const ImageFolder& photos_ = *shared_photos_;
  const LoaderOptions options_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable_any work_waits_;
  std::condition_variable batch_ready_;
  std::uint64_t epoch_ = 0;
  std::vector<Index> order_;
  std::size_t planned_ = 0;                  // how much of the order is in batches
  std::deque<std::shared_ptr<Slot>> slots_;  // ready or in work, in the order of the epoch
  std::vector<Tensor> cache_;                // undefined: not cached
  std::size_t cached_bytes_ = 0;

  std::vector<std::jthread> workers_;  // last: they end before what they use
};

Loader::Loader(ImageFolder photos, LoaderOptions options)
    : Loader(std::make_shared<const ImageFolder>(std::move(photos)), options) {}
Loader::Loader(std::shared_ptr<const ImageFolder> photos, LoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(photos), options)) {}
Loader::~Loader() = default;
void Loader::start_epoch(std::uint64_t epoch) { impl_->start_epoch(epoch); }
std::optional<Batch> Loader::next() { return impl_->next(); }
const ImageFolder& Loader::photos() const { return impl_->photos(); }
Index Loader::batches() const { return impl_->batches(); }
std::size_t Loader::cached_bytes() const { return impl_->cached_bytes(); }

}  // namespace graft::data

#include "graft/core/graph.h"

#include "graft/core/context.h"

#include "core/backend.h"
#include "core/format.h"

namespace graft {

struct Graph::Recorded {
  explicit Recorded(Device where) : device(where), pool(Stream::create(where)) {}
  ~Recorded() {
    // A replay in another stream reads the memory of the pool, which ends with it.
    try {
      synchronize(device);
    } catch (const Error&) {  // a fault of a kernel: whoever reads what it should have made is told
    }
    if (what.handle != nullptr) backend(device).destroy_recording(what.handle);
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  Device device;
  Stream pool;  // the recorded stream: memory that was allocated in its order is nobody else's
  Backend::Recording what{};
};

Graph Graph::record(Device device, const std::function<void()>& work) {
  check(device.kind != Device::Kind::cpu, "[graph] the CPU has no queue to record");
  Backend& owner = backend(device);
  Graph graph;
  graph.recorded_ = std::make_shared<Recorded>(device);
  ContextScope scope;
  scope->device = device;
  scope->stream = graph.recorded_->pool;
  void* const stream = graph.recorded_->pool.handle();
  owner.begin_recording(stream);
  try {
    work();
  } catch (...) {
    graph.recorded_->what = owner.end_recording(stream);
    throw;
  }
  graph.recorded_->what = owner.end_recording(stream);
  return graph;
}

void Graph::replay(const Stream& stream) const {
  check(recorded_ != nullptr, "[graph] nothing was recorded");
  backend(recorded_->device).replay(recorded_->what.handle, stream.handle());
}

std::size_t Graph::size() const { return recorded_ == nullptr ? 0 : recorded_->what.size; }

}  // namespace graft

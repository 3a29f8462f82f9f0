#include "graft/core/graph.h"

#include <cstdlib>

#include "graft/core/context.h"

#include "core/backend.h"
#include "core/format.h"
#include "core/write_log.h"

namespace graft {

struct Graph::Recorded {
  explicit Recorded(Device where) : device(where), pool(Stream::create(where)) {
    backend(device).memory().hold(pool.handle());
  }
  ~Recorded() {
    if (what.handle == nullptr) return;
    backend(device).drain();  // a replay in another stream reads the memory of the pool, which ends with it
    backend(device).destroy_recording(what);
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  Device device;
  Stream pool;  // the recorded stream: memory that was allocated in its order is nobody else's
  Backend::Recording what{};
  WriteLog::Written written;
};

bool waits_for_each_kernel() {
  const char* text = std::getenv("GRAFT_CUDA_WAIT");
  return text != nullptr && std::string_view(text) != "0";
}

bool Graph::wanted(Device device) { return device.kind != Device::Kind::cpu && !waits_for_each_kernel(); }

Graph Graph::record(Device device, const std::function<void()>& work) {
  check(device.kind != Device::Kind::cpu, "[graph] the CPU has no queue to record");
  Backend& owner = backend(device);
  Graph graph;
  graph.recorded_ = std::make_shared<Recorded>(device);
  ContextScope scope;
  scope->device = device;
  scope->stream = graph.recorded_->pool;
  void* const stream = graph.recorded_->pool.handle();
  WriteLog log;
  owner.begin_recording(stream);
  try {
    work();
  } catch (...) {
    owner.abandon_recording(stream);
    throw;
  }
  graph.recorded_->what = owner.end_recording(stream);
  graph.recorded_->written = log.take(device);
  return graph;
}

void Graph::replay(const Stream& stream) const {
  check(recorded_ != nullptr, "[graph] nothing was recorded");
  backend(recorded_->device).replay(recorded_->what, stream.handle());
  for (const std::weak_ptr<Storage>& written : recorded_->written) {
    if (const std::shared_ptr<Storage> storage = written.lock()) storage->bump_version();
  }
}

std::size_t Graph::size() const { return recorded_ == nullptr ? 0 : recorded_->what.size; }

}  // namespace graft

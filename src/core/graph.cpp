#include "graft/core/graph.h"

#include "graft/core/context.h"

#include "core/backend.h"
#include "core/format.h"

namespace graft {

Graph Graph::record(Device device, const std::function<void()>& work) {
  check(device.kind != Device::Kind::cpu, "[graph] the CPU has no queue to record");
  Backend& owner = backend(device);
  Graph graph;
  graph.device_ = device;
  graph.pool_ = Stream::create(device);
  ContextScope scope;
  scope->device = device;
  scope->stream = graph.pool_;
  owner.begin_recording(graph.pool_.handle());
  const auto end = [&] {
    auto [handle, size] = owner.end_recording(graph.pool_.handle());
    graph.size_ = size;
    graph.handle_ = std::shared_ptr<void>(handle, [&owner](void* recording) { owner.destroy_recording(recording); });
  };
  try {
    work();
  } catch (...) {
    end();
    throw;
  }
  end();
  return graph;
}

void Graph::replay(const Stream& stream) const { backend(device_).replay(handle_.get(), stream.handle()); }

}  // namespace graft

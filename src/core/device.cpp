#include "graft/core/device.h"

#include <charconv>

#include "core/format.h"

namespace graft {

Device Device::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  Device device;
  if (colon != std::string_view::npos) {
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data() + colon + 1, last, device.index);
    check(error == std::errc{} && end == last && device.index >= 0 && kind == "cuda",
          "[device] expected cpu, cuda, cuda:N or emulated, got '{}'", text);
  }
  if (kind == "cpu")
    device.kind = Kind::cpu;
  else if (kind == "cuda")
    device.kind = Kind::cuda;
  else if (kind == "emulated")
    device.kind = Kind::emulated;
  else
    fail("[device] expected cpu, cuda, cuda:N or emulated, got '{}'", text);
  return device;
}

std::string Device::to_string() const {
  switch (kind) {
    case Kind::cpu:
      return "cpu";
    case Kind::cuda:
      return fmt::format("cuda:{}", index);
    case Kind::emulated:
      return "emulated";
  }
  return {};
}

}  // namespace graft

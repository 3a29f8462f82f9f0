#include "kernels/kernel.h"

#include "core/format.h"
#include "kernels/registry.h"

namespace graft::kernels {

void fail_no_device(std::string_view kernel, Device device) {
  fail("[{}] this build has no kernels for device '{}'", kernel, device);
}

void fail_no_kernel(std::string_view kernel, std::string_view engine, Device device) {
  check(engine != "library" || device.kind != Device::Kind::cpu || built().onednn,
        "[{}] engine 'library' is oneDNN, which this build of graft is without: install libdnnl-dev and configure with "
        "-DGRAFT_WITH_ONEDNN=ON",
        kernel);
  check(engine != "library" || device.kind != Device::Kind::cuda || built().cudnn,
        "[{}] engine 'library' is cuDNN and cuBLAS on {}, which this build of graft is without: run "
        "tools/fetch-cudnn-frontend and configure with -DGRAFT_WITH_CUDNN=ON",
        kernel, device);
  fail("[{}] engine '{}' has no such kernel on {}{}", kernel, engine, device,
       engine == "library" ? "; use auto or native" : "");
}

void fail_unsupported(std::string_view kernel, std::string_view engine, Device device) {
  fail("[{}] engine '{}' does not support these operands on {}{}", kernel, engine, device,
       engine == "library" ? "; use auto or native" : "");
}

}  // namespace graft::kernels

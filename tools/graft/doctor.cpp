#include <cstdlib>

#include "common.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "graft/core/context.h"
#include "graft/core/version.h"

#include "core/backend.h"
#include "core/proc.h"
#include "kernels/registry.h"
#include "probe.h"

namespace graft::tools {
namespace {

struct Feature {
  const char* name;
  bool there;
};

std::vector<Feature> cpu_features() {
#if defined(__x86_64__)
  // AMX: CPUID leaf 7, EDX bits 22 (bf16) and 24 (tile); g++ 12's __builtin_cpu_supports does not know them.
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid_count(7, 0, &a, &b, &c, &d);
  constexpr unsigned kAmx = (1u << 22) | (1u << 24);
  return {{"sse4.2", __builtin_cpu_supports("sse4.2") > 0},
          {"avx2", __builtin_cpu_supports("avx2") > 0},
          {"fma", __builtin_cpu_supports("fma") > 0},
          {"avx512f", __builtin_cpu_supports("avx512f") > 0},
          {"avx512bw", __builtin_cpu_supports("avx512bw") > 0},
          {"avx512_bf16", __builtin_cpu_supports("avx512bf16") > 0},
          {"amx_bf16", (d & kAmx) == kAmx}};
#else
  return {};
#endif
}

// Of /proc/meminfo, which counts in kB; 0 where it does not say.
long mebibytes(const std::string& field) {
  return std::strtol(proc_field("/proc/meminfo", field).c_str(), nullptr, 10) / 1024;
}

// Of the GPU's libraries, where this build has them.
Json cudnn_version() {
#if GRAFT_HAS_CUDNN
  return kernels::cudnn_version();
#else
  return false;
#endif
}
Json cublas_version() {
#if GRAFT_HAS_CUDNN
  return kernels::cublas_version();
#else
  return false;
#endif
}

// What cuda/hopper is in this build: its kernels are used once a GPU has proved them.
Json hopper_kernels() {
#if GRAFT_HAS_CUDA
  if (const std::string_view kernels = cuda::hopper_kernels(); kernels != "none") return std::string(kernels);
#endif
  return false;
}

int gpu_count() {
#if GRAFT_HAS_CUDA
  return cuda::gpu_count();
#else
  return 0;
#endif
}

std::string description(Device device) {
  try {
    const DeviceDescription is = backend(device).describe();
    return fmt::format("{}, {}, {} multiprocessors, {} MiB", is.name, is.architecture, is.multiprocessors,
                       is.memory >> 20);
  } catch (const Error& error) {
    return error.what();
  }
}

// Each device that this build knows, with what it is, or the reason why it cannot be used.
Json devices() {
  Json found = {{"cpu", "graft's own kernels and oneDNN"}};
  if (!GRAFT_HAS_ONEDNN) found["cpu"] = "graft's own kernels";
  const kernels::Built built = kernels::built();
  if (built.cuda) {
    Device gpu{Device::Kind::cuda, 0};
    try {
      for (const int count = gpu_count(); gpu.index < count; ++gpu.index) found[gpu.to_string()] = description(gpu);
    } catch (const Error& error) {
      found[gpu.to_string()] = error.what();
    }
  }
  if (built.emulated) found["emulated"] = "the CUDA kernels on the CPU, for tests and study";
  return found;
}

// The device that the Context names, and what it reaches.
Json reached(Device device) {
  if (device.kind == Device::Kind::emulated) return {};
  const Reached speed = probe(device);
  return {{"device", device.to_string()}, {"copy_gb_per_s", speed.copy}, {"product_gflop_per_s", speed.product}};
}

Json examine() {
  std::vector<std::string> vectorized, by_library, by_native, on_gpu, warnings;
  Json features = Json::object();
  for (const Feature& feature : cpu_features()) features[feature.name] = feature.there;
  const bool is_vectorized = kernels::vectorized_isa() != "none";
  for (const kernels::Entry& kernel : kernels::all()) {
    if (kernel.cpu.vectorized && is_vectorized) vectorized.emplace_back(kernel.name);
    (kernel.cpu.library ? by_library : by_native).emplace_back(kernel.name);
    if (kernel.cuda.library) on_gpu.emplace_back(kernel.name);
  }

  if (!GRAFT_HAS_ONEDNN)
    warnings.emplace_back(
        "built without oneDNN: 'auto' runs graft's own kernels, which are slower (install libdnnl-dev, "
        "GRAFT_WITH_ONEDNN=ON)");
  if (GRAFT_HAS_CUDA && !GRAFT_HAS_CUDNN)
    warnings.emplace_back(
        "built without cuDNN: 'auto' on a GPU runs graft's own kernels (tools/fetch-cudnn-frontend, "
        "GRAFT_WITH_CUDNN=ON)");
  if (!GRAFT_HAS_OPENMP)
    warnings.emplace_back("built without OpenMP: kernels run on one thread (GRAFT_WITH_OPENMP=ON)");
  if (!GRAFT_HAS_HDF5)
    warnings.emplace_back("built without HDF5: Keras files cannot be read (install zlib1g-dev, GRAFT_WITH_HDF5=ON)");
  if (!GRAFT_HAS_TURBOJPEG)
    warnings.emplace_back(
        "built without libjpeg-turbo: photos are decoded more slowly (install libturbojpeg0-dev, "
        "GRAFT_WITH_TURBOJPEG=ON)");
#ifndef NDEBUG
  warnings.emplace_back("built without optimisation: configure with --preset release");
#endif
  if (features.contains("avx2") && !features["avx2"])
    warnings.emplace_back("this CPU has no AVX2: everything is several times slower");
  if (features.contains("avx512_bf16") && !features["avx512_bf16"] && !features["amx_bf16"])
    warnings.emplace_back("this CPU has no bf16 arithmetic: --precision bf16 saves memory, not time");

  return {
      {"graft", kVersion},
      {"build",
       {{"compiler", __VERSION__},
        {"onednn", GRAFT_HAS_ONEDNN ? Json(kernels::onednn_version()) : Json(false)},
        {"hdf5", GRAFT_HAS_HDF5 != 0},
        {"turbojpeg", GRAFT_HAS_TURBOJPEG != 0},
        {"openmp", GRAFT_HAS_OPENMP != 0},
        {"vectorized", GRAFT_HAS_VECTORIZED != 0},
        {"cuda", GRAFT_HAS_CUDA != 0},
        {"cudnn", cudnn_version()},
        {"cublas", cublas_version()},
        {"hopper", hopper_kernels()},
        {"emulated", GRAFT_HAS_EMULATED != 0}}},
      {"cpu", {{"model", proc_field("/proc/cpuinfo", "model name")}, {"features", features}}},
      {"threads", threads()},
      {"memory", {{"total_mib", mebibytes("MemTotal")}, {"available_mib", mebibytes("MemAvailable")}}},
      {"devices", devices()},
      {"tf32", Context::current().allow_tf32},
      {"reaches", reached(Context::current().device)},
      {"auto", {{"vectorized", vectorized}, {"library", by_library}, {"native", by_native}, {"cuda_library", on_gpu}}},
      {"warnings", warnings}};
}

void show(const Json& found) {
  const auto yes_no = [](const Json& there) {
    return there.is_string() ? there.get<std::string>() : there.get<bool>() ? "yes" : "no";
  };
  say("graft {}\n", found["graft"].get<std::string>());
  for (const auto& [part, there] : found["build"].items()) say("  {:<12} {}\n", part, yes_no(there));
  say("cpu            {}\n", found["cpu"]["model"].get<std::string>());
  for (const auto& [feature, there] : found["cpu"]["features"].items()) say("  {:<12} {}\n", feature, yes_no(there));
  say("threads        {}\n", found["threads"].get<int>());
  say("memory         {} MiB, {} MiB available\n", found["memory"]["total_mib"].get<long>(),
      found["memory"]["available_mib"].get<long>());
  for (const auto& [device, state] : found["devices"].items())
    say("{:<14} {:<12} {}\n", device == "cpu" ? "devices" : "", device, state.get<std::string>());
  say("products       {}\n", found["tf32"].get<bool>() ? "of f32 as TF32 on a GPU (--tf32)"
                                                       : "of f32 in f32 (--tf32 would let a GPU round their factors)");
  if (const Json& reaches = found["reaches"]; !reaches.is_null()) {
    std::string products;
    for (const auto& [type, speed] : reaches["product_gflop_per_s"].items())
      products += fmt::format(", {:.0f} GFLOP/s in {} products", speed.get<double>(), type);
    say("reaches        {}: {:.1f} GB/s in copies{}\n", reaches["device"].get<std::string>(),
        reaches["copy_gb_per_s"].get<double>(), products);
  }
  say("engine auto    graft's vectorized kernels where they are faster: {}\n",
      found["auto"]["vectorized"].empty()
          ? "none"
          : fmt::format("{}", fmt::join(found["auto"]["vectorized"].get<std::vector<std::string>>(), ", ")));
  say("               oneDNN first for: {}\n",
      found["auto"]["library"].empty()
          ? "nothing"
          : fmt::format("{}", fmt::join(found["auto"]["library"].get<std::vector<std::string>>(), ", ")));
  say("               graft's own for: {}\n", fmt::join(found["auto"]["native"].get<std::vector<std::string>>(), ", "));
  if (const auto on_gpu = found["auto"]["cuda_library"].get<std::vector<std::string>>(); !on_gpu.empty())
    say("               on a GPU cuDNN and cuBLAS first for: {}\n", fmt::join(on_gpu, ", "));
  for (const Json& warning : found["warnings"]) say("warning: {}\n", warning.get<std::string>());
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* c = add_command(app, "doctor", "Say what this build has, what this machine can do, and what will be slow",
                            "graft doctor --json");
  c->add_flag("--json", *json, "As JSON");
  add_machine_options(*c);
  c->callback([json] {
    const Json found = examine();
    if (*json)
      print_json(found);
    else
      show(found);
  });
}

}  // namespace graft::tools

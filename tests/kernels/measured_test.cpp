#include <chrono>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "graft/core/tensor.h"

#include "core/choices.h"
#include "kernels/kernel.h"

// ctest runs this program with GRAFT_AUTOTUNE=1 and a cache folder of its own.
namespace graft {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> runs;  // who ran, in order
void* result = nullptr;         // where the call was asked to write
bool wrote_elsewhere = false;

void add(std::string who, const Operand& y, float value) {
  runs.push_back(std::move(who));
  wrote_elsewhere = wrote_elsewhere || y.data != result;
  y.as<float>()[0] += value;
}

// Fast for one row, slow for more; the library is the other way round.
void vectorized(Context&, const Operand& x, Gradient y) {
  if (x.shape[0] > 1) std::this_thread::sleep_for(2ms);
  add("vectorized", y.to, 1);
}
void library(Context&, const Operand& x, Gradient y) {
  if (x.shape[0] == 1) std::this_thread::sleep_for(2ms);
  add("library", y.to, 100);
}
bool always(const Context&, const Operand&, Gradient) { return true; }
bool never(const Context&, const Operand&, Gradient) { return false; }

constexpr kernels::Kernel<const Operand&, Gradient> kKernel{
    "measured_test", {.native = {vectorized}, .library = {library, always}, .vectorized = {vectorized, always}}};

// Runs it for so many rows, and returns who ran.
template <class K>
std::vector<std::string> run(const K& kernel, Index rows, float& sum) {
  Tensor x = Tensor::zeros({rows, 4}), y = Tensor::full({1}, 5);
  result = y.raw();
  runs.clear();
  kernel(Context::current(), x, Gradient{y, true});
  sum = y.data<float>()[0];
  return runs;
}

class Measured : public testing::Test {
 protected:
  void SetUp() override {
    if (!autotunes()) GTEST_SKIP() << "without GRAFT_AUTOTUNE=1; ctest sets it";
  }
};

TEST_F(Measured, TheFasterOneComputesTheCallAndIsKept) {
  std::filesystem::remove(user_cache_folder() / "graft" / "kernel-choices.json");
  float sum = 0;
  wrote_elsewhere = false;
  EXPECT_GT(run(kKernel, 1, sum).size(), 2u) << "both are run in turns";
  EXPECT_EQ(runs.back(), "vectorized");
  EXPECT_EQ(sum, 6) << "a gradient that is added to is added to once";
  EXPECT_TRUE(wrote_elsewhere) << "measuring has memory of its own";
  EXPECT_EQ(run(kKernel, 1, sum), std::vector<std::string>{"vectorized"}) << "measured once";

  EXPECT_GT(run(kKernel, 3, sum).size(), 2u) << "another shape is another call";
  EXPECT_EQ(runs.back(), "library");
  EXPECT_EQ(sum, 105);
  EXPECT_EQ(run(kKernel, 3, sum), std::vector<std::string>{"library"});
  EXPECT_TRUE(std::filesystem::exists(user_cache_folder() / "graft" / "kernel-choices.json"));
}

TEST_F(Measured, WhoAsksForAnEngineGetsIt) {
  float sum = 0;
  ContextScope scope;
  scope->engine = Engine::library;
  EXPECT_EQ(run(kKernel, 1, sum), std::vector<std::string>{"library"});
  scope->engine = Engine::native;
  EXPECT_EQ(run(kKernel, 3, sum), std::vector<std::string>{"vectorized"});
}

TEST_F(Measured, NothingIsMeasuredWhereOneCannotComputeTheCall) {
  static constexpr kernels::Kernel<const Operand&, Gradient> kAlone{
      "measured_test_alone", {.native = {vectorized}, .library = {library, never}, .vectorized = {vectorized, always}}};
  float sum = 0;
  EXPECT_EQ(run(kAlone, 5, sum), std::vector<std::string>{"vectorized"});
}

}  // namespace
}  // namespace graft

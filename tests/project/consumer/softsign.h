#pragma once

#include <cmath>
#include <string>

#include "graft/autograd/tape.h"
#include "graft/core/error.h"
#include "graft/nn/layer.h"

/// Softsign, y = x / (1 + |x|) (Turian, Bergstra and Bengio 2009). Input: x, f32 or f64.
///
/// dy/dx = 1 / (1 + |x|)^2 = (1 - |y|)^2, so backward reads the result and x need not be kept.
struct SoftsignOp final : graft::Op {
  std::string_view name() const override { return "softsign"; }

  std::vector<graft::Spec> infer(std::span<const graft::Spec> inputs) const override {
    if (inputs[0].dtype != graft::DType::f32 && inputs[0].dtype != graft::DType::f64) {
      throw graft::Error("[softsign] expected f32 or f64, got " + std::string(graft::name(inputs[0].dtype)));
    }
    return {inputs[0]};
  }

  void forward(graft::Context&, std::span<const graft::Operand> in,
               std::span<const graft::Operand> out) const override {
    if (in[0].dtype == graft::DType::f32)
      forward_as<float>(in[0], out[0]);
    else
      forward_as<double>(in[0], out[0]);
  }

  graft::Saves saves(graft::Slots) const override { return {.inputs = {}, .outputs = {0}}; }

  void backward(graft::Context&, const graft::Saved& saved, std::span<const graft::Operand> dy,
                std::span<const graft::Gradient> dx) const override {
    if (!dx[0]) return;
    if (dy[0].dtype == graft::DType::f32)
      backward_as<float>(saved.outputs[0], dy[0], dx[0]);
    else
      backward_as<double>(saved.outputs[0], dy[0], dx[0]);
  }

 private:
  template <class T>
  static void forward_as(const graft::Operand& x, const graft::Operand& y) {
    for (graft::Index i = 0; i < x.elements(); ++i) y.as<T>()[i] = x.as<T>()[i] / (1 + std::abs(x.as<T>()[i]));
  }
  template <class T>
  static void backward_as(const graft::Operand& y, const graft::Operand& dy, const graft::Gradient& dx) {
    for (graft::Index i = 0; i < y.elements(); ++i) {
      const T slope = 1 - std::abs(y.as<T>()[i]);
      const T gradient = dy.as<T>()[i] * slope * slope;
      T& to = dx.to.as<T>()[i];
      to = dx.accumulate ? to + gradient : gradient;
    }
  }
};

inline graft::Tensor softsign(const graft::Tensor& x) { return graft::autograd::apply(SoftsignOp(), {x}); }

/// The op as a layer, so that a network can hold it.
struct Softsign final : graft::nn::Layer {
  std::string_view type() const override { return "softsign"; }
  graft::nn::Value lower(graft::nn::Lowering& lowering, const std::vector<graft::nn::Value>& inputs) const override {
    return lowering.call(SoftsignOp(), inputs);
  }
};

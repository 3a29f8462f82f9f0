#pragma once

#include <memory>

#include "graft/core/activation.h"
#include "graft/core/context.h"
#include "graft/core/operand.h"

// Products of matrices by cuBLASLt.
namespace graft::cublas {

/// y = activation(a b + bias), or y += a b, for each of a batch. Matrices are named by the first element of the first
/// of them, with their pitch and type; a and b have one, y has it too or is f32 beside halves.
struct Product {
  Operand a, b;
  bool transpose_a = false, transpose_b = false;  ///< whether they are stored so
  Index rows = 0, columns = 0, depth = 0;
  Index batch = 1, step_a = 0, step_b = 0, step_y = 0;  ///< elements from one matrix of the batch to the next
  Operand bias = {};                                    ///< [columns] or absent
  Activation activation = Activation::linear;
  Gradient y;
};

struct Plan;

/// How cuBLASLt computes a product, by its heuristics: made at a call's first time and kept for the process. Null if it
/// has no such product.
std::shared_ptr<const Plan> plan_for(const Context& context, const Product& product);

/// Whether cuBLASLt computes it behind a product by itself.
bool fuses(Activation activation);

/// Queues it in the Context's stream. `name` is what launch_counts() calls it.
void run(Context& context, const char* name, const Plan& plan, const Product& product);

}  // namespace graft::cublas

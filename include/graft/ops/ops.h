#pragma once

/// Every op.

#include "graft/ops/activation.h"
#include "graft/ops/arithmetic.h"
#include "graft/ops/attention.h"
#include "graft/ops/batch_norm.h"
#include "graft/ops/conv2d.h"
#include "graft/ops/conv2d_batch_norm.h"
#include "graft/ops/depthwise_conv2d.h"
#include "graft/ops/dropout.h"
#include "graft/ops/global_pool.h"
#include "graft/ops/layer_norm.h"
#include "graft/ops/linear.h"
#include "graft/ops/loss.h"
#include "graft/ops/matmul.h"
#include "graft/ops/pool.h"
#include "graft/ops/preprocess.h"
#include "graft/ops/reduce.h"
#include "graft/ops/shape.h"
#include "graft/ops/softmax.h"

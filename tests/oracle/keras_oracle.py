"""What real Keras makes of one of its applications with random weights: files in every layout, and the numbers to expect.

Usage: keras_oracle.py MODEL FOLDER   with MODEL one of vgg16, resnet50, mobilenet, mobilenet_half, inception_v3

FOLDER gets
  legacy_model.h5, legacy_weights.h5, v3.weights.h5, nameless.weights.h5, model.keras   the same weights in each layout
  layers.json           Keras's layers in its own order: name, output shape, parameters; and the counts of the model
  forward.safetensors   f32: `input`, and the output of every layer by name, in inference
  training.safetensors  f64: `input`, `labels`, `gradient/LAYER/PARAMETER` of the mean cross-entropy in training mode, in graft's layouts and names;
                        `losses` of 20 SGD steps, the first before any
  full.safetensors      f32: `input` and `output` at the model's usual size, with full.weights.h5 where the weights depend on the size
"""
import json
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import absl.logging
import h5py
import keras
import numpy as np
import torch
from keras.src.backend.common import dtypes
from keras.src.legacy.saving import legacy_h5_format
from safetensors.numpy import save_file

absl.logging.set_verbosity("error")  # Keras advises against .h5 each time

CLASSES = 10
STEPS = 20
# Steps of 1e-3 on random networks overshoot, and what follows is noise that no two programs share. Three scales keep them calm: residual branches start small
# (Goyal et al. 2017 start them at 0); so do the features before the head, of which there are a thousand or two; and MobileNet's kernels are larger, which the
# batch-norm behind them undoes, but which makes a step relative to them smaller.
SMALL = 0.2
LARGE = 5


def resnet_gain(name):
    return SMALL if name.endswith("_3_bn") or name == "conv5_block1_0_bn" else 1


def mobilenet_gain(name):
    if name == "conv_pw_13_bn":
        return SMALL
    return 1 if name.endswith("_bn") or name == "conv_preds" else LARGE


# size: of the images of all comparisons but the one at full size; odd where the model allows, so that both rules of `same` are met
MODELS = {
    "vgg16": dict(make=keras.applications.VGG16, size=(32, 32), full=224, rate=1e-3),
    "resnet50": dict(make=keras.applications.ResNet50, size=(64, 45), full=224, rate=1e-3, gain=resnet_gain),
    "mobilenet": dict(make=keras.applications.MobileNet, size=(64, 45), full=224, rate=1e-3, gain=mobilenet_gain, options=dict(dropout=0.0)),
    "mobilenet_half": dict(make=keras.applications.MobileNet, size=(45, 64), full=160, rate=1e-3, gain=mobilenet_gain, options=dict(dropout=0.0, alpha=0.5)),
    # Chaotic: at 1e-3 a change of 1e-14 in the weights grows to 2e-1 in the loss, at 1e-5 to 2e-7.
    "inception_v3": dict(make=keras.applications.InceptionV3, size=(75, 99), full=299, rate=1e-5),
}
FORWARD_BATCH = 2
TRAINING_BATCH = 8


def build(entry, size):
    # Auto-generated names count from here again; the text of the options makes no names.
    keras.backend.clear_session()
    return entry["make"](weights=None, classes=CLASSES, input_shape=(*size, 3), **entry.get("options", {}))


def inputs_of(layer):
    tensors = layer._inbound_nodes[0].input_tensors
    return [t._keras_history.operation for t in tensors]


def calibrate(model, images, rng, gain=lambda name: 1):
    """Random weights with which every convolution and every dense layer gives numbers of order one on the images, logits included, times the gain of its
    name."""
    values = {}
    with torch.no_grad():
        for layer in model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                values[layer.name] = torch.from_numpy(images)
                continue
            x = [values[source.name] for source in inputs_of(layer)]
            x = x[0] if len(x) == 1 else x
            kind = type(layer).__name__
            if kind in ("Conv2D", "DepthwiseConv2D", "Dense"):
                activation, layer.activation = layer.activation, keras.activations.linear
                kernel = rng.standard_normal(layer.kernel.shape).astype("float32")
                layer.kernel.assign(kernel)
                rms = float(torch.sqrt(torch.mean(layer(x) ** 2)))
                layer.kernel.assign(kernel * gain(layer.name) / rms)
                if layer.use_bias:
                    layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))
                layer.activation = activation
            elif kind == "BatchNormalization":
                n = x.shape[-1]
                mean, std = x.mean((0, 1, 2)).numpy(), x.std((0, 1, 2)).numpy()
                layer.moving_mean.assign(mean + 0.2 * std * rng.standard_normal(n))
                # No channel's variance is far below the others', or the rounding of that channel would be blown up.
                layer.moving_variance.assign((std * std + 0.2 * (std * std).mean()) * rng.uniform(1, 4, n))
                layer.beta.assign(0.5 * gain(layer.name) * rng.standard_normal(n))
                if layer.scale:
                    layer.gamma.assign(gain(layer.name) * rng.uniform(0.8, 1.2, n))
            values[layer.name] = layer(x, training=False) if kind in ("BatchNormalization", "Dropout") else layer(x)


def write_layouts(model, folder):
    model.save(f"{folder}/legacy_model.h5")
    with h5py.File(f"{folder}/legacy_weights.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    model.save(f"{folder}/model.keras")
    model.save_weights(f"{folder}/v3.weights.h5")
    # Keras before 3.6 wrote no names of layers: they are known by class and order alone.
    model.save_weights(f"{folder}/nameless.weights.h5")
    with h5py.File(f"{folder}/nameless.weights.h5", "r+") as file:
        groups = []
        file.visit(groups.append)
        for group in groups:
            file[group].attrs.pop("name", None)


def write_layers(model, folder):
    layers = [dict(name=layer.name, shape=list(layer.output.shape[1:]), parameters=layer.count_params(), tensors=len(layer.weights))
              for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    count = lambda weights: int(sum(np.prod(w.shape) for w in weights))
    with open(f"{folder}/layers.json", "w") as file:
        json.dump(dict(layers=layers, parameters=count(model.weights), trainable=count(model.trainable_weights)), file)


def write_forward(model, images, folder):
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    with torch.no_grad():
        outputs = keras.Model(model.input, [layer.output for layer in layers])(images, training=False)
    tensors = {layer.name: np.ascontiguousarray(out.detach().cpu().numpy()) for layer, out in zip(layers, outputs)}
    save_file({"input": images, **tensors}, f"{folder}/forward.safetensors")


def graft_layout(layer, variable, value):
    """Name and layout that graft gives a variable of a Keras layer."""
    if variable.name != "kernel":
        return variable.name, value
    kind = type(layer).__name__
    if kind == "Conv2D":
        value = value.transpose(3, 0, 1, 2)
    elif kind == "DepthwiseConv2D":
        value = value.reshape(*value.shape[:2], -1)
    else:
        value = value.T
    return "weight", value


def use_float64():
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


def write_training(entry, weights, names, rng, folder):
    use_float64()
    model = build(entry, entry["size"])
    model.set_weights(weights)
    images = rng.standard_normal((TRAINING_BATCH, *entry["size"], 3))
    labels = rng.integers(0, CLASSES, TRAINING_BATCH)
    x, rows, columns = torch.from_numpy(images), torch.arange(TRAINING_BATCH), torch.from_numpy(labels)

    def loss():
        return -torch.log(model(x, training=True)[rows, columns]).mean()

    first = next((layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)), model.layers[-1])
    probe = keras.Model(model.input, first.output)(x, training=False).detach()
    assert probe.dtype == torch.float64 and (probe != probe.float().double()).any(), "Keras computed in float32"

    tensors, losses = {"input": images, "labels": labels}, []
    for step in range(STEPS + 1):
        for v in model.trainable_variables:
            v.value.grad = None
        value = loss()
        losses.append(value.item())
        value.backward()
        for layer, name in zip(model.layers, names):
            for v in layer.trainable_variables:
                if step == 0:
                    parameter, gradient = graft_layout(layer, v, v.value.grad.numpy())
                    tensors[f"gradient/{name}/{parameter}"] = np.array(gradient, order="C")
                v.value.data.sub_(entry["rate"] * v.value.grad)
    tensors["losses"] = np.array(losses)
    tensors["rate"] = np.array([entry["rate"]])
    save_file(tensors, f"{folder}/training.safetensors")


def write_full(entry, weights, rng, folder):
    model = build(entry, (entry["full"], entry["full"]))
    images = rng.standard_normal((1, entry["full"], entry["full"], 3)).astype("float32")
    if any(w.shape != v.shape for w, v in zip(weights, model.weights)):
        calibrate(model, images, rng)
        model.save_weights(f"{folder}/full.weights.h5")
    else:
        model.set_weights(weights)
    with torch.no_grad():
        save_file({"input": images, "output": model(images, training=False).numpy()}, f"{folder}/full.safetensors")


def main(name, folder):
    os.makedirs(folder, exist_ok=True)
    entry = MODELS[name]
    rng = np.random.default_rng(7)
    model = build(entry, entry["size"])
    calibrate(model, rng.standard_normal((TRAINING_BATCH, *entry["size"], 3)).astype("float32"), rng, **{k: entry[k] for k in entry if k == "gain"})
    write_layouts(model, folder)
    write_layers(model, folder)
    write_forward(model, rng.standard_normal((FORWARD_BATCH, *entry["size"], 3)).astype("float32"), folder)
    weights, names = model.get_weights(), [layer.name for layer in model.layers]
    del model
    write_full(entry, weights, rng, folder)
    write_training(entry, weights, names, rng, folder)


main(*sys.argv[1:])

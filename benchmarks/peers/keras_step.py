"""Keras's side of a comparison, on TensorFlow: the commands of benchmarks/model_step.cpp, which says what they are.

    python3 benchmarks/peers/keras_step.py --model resnet50 --work training --batch 16 --weights resnet50.safetensors

The networks are Keras's applications, whose names graft's layers have. A step is a tf.function: of inference with its variables
made constants, which lets TensorFlow fold batch-norms into convolutions; of training with a gradient tape and SGD with momentum.
bf16 is Keras's policy mixed_bfloat16. In fine-tuning batch-norms use moving statistics, as Keras's guide has it.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: E402

import protocol  # noqa: E402

MODELS = {"vgg16": "VGG16", "resnet50": "ResNet50", "mobilenet": "MobileNet", "inception_v3": "InceptionV3"}


def load_weights(model, network):
    """graft's tensors by name: convolutions [Co, Kh, Kw, Ci], depthwise ones [Kh, Kw, C], linear ones [out, in]."""
    seen = 0
    for name, shape, data in network.tensors:
        layer_name, kind = name.rsplit("/", 1)
        layer = model.get_layer(layer_name)
        value = numpy.frombuffer(data, numpy.float32).reshape(shape)
        if kind == "weight":
            value = {2: lambda: value.T, 3: lambda: value[..., None], 4: lambda: value.transpose(1, 2, 3, 0)}[value.ndim]()
        names = ["kernel", "depthwise_kernel"] if kind == "weight" else [kind]
        variable = next(v for v in layer.variables if v.name in names)
        variable.assign(value)
        seen += 1
    expected = sum(len([v for v in layer.variables if "seed" not in v.path]) for layer in model.layers)
    assert seen == expected, f"{seen} tensors for {expected} variables"


def product_operations(model, batch):
    total = 0
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
            outputs = batch * int(numpy.prod(layer.output.shape[1:]))
            products = int(numpy.prod(layer.kernel.shape[:-1])) if not isinstance(layer, keras.layers.DepthwiseConv2D) else int(numpy.prod(layer.kernel.shape[:2]))
            total += 2 * outputs * products
    return total


class Stepper:
    def __init__(self, options):
        self.options = options
        if options.model not in MODELS:
            raise ValueError(f"Keras's applications have no {options.model}")
        threads = options.threads or os.cpu_count()
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if options.precision == "bf16":
            keras.mixed_precision.set_global_policy("mixed_bfloat16")
        keras.utils.set_random_seed(1)
        network = protocol.NetworkFile(options.weights)
        self.image = network.graph["input"]["shape"][0]
        make = getattr(keras.applications, MODELS[options.model])
        self.model = make(weights=None, classifier_activation=None, input_shape=(self.image, self.image, 3))
        load_weights(self.model, network)
        for layer in self.model.layers:
            layer.trainable = layer.name not in network.frozen
        self.input = tf.constant(protocol.numpy_input((options.batch, self.image, self.image, 3)))
        self.labels = tf.range(options.batch, dtype=tf.int64) % 1000
        self.infer, self.step = self.inference(freeze=options.work == "inference"), None

    def describe(self):
        o = self.options
        parameters = sum(int(numpy.prod(v.shape)) for layer in self.model.layers for v in layer.weights if not v.name.startswith("moving_"))
        return {"peer": "Keras", "version": f"{keras.__version__}, TensorFlow {tf.__version__}", "model": o.model, "work": o.work, "device": "cpu",
                "precision": o.precision, "batch": o.batch, "image": self.image, "parameters": parameters, "product_flops": product_operations(self.model, o.batch)}

    def inference(self, freeze):
        forward = tf.function(lambda images: tf.cast(self.model(images, training=False), tf.float32))
        if not freeze:
            return lambda: forward(self.input)
        frozen = convert_variables_to_constants_v2(forward.get_concrete_function(tf.TensorSpec(self.input.shape, tf.float32)))
        return lambda: frozen(self.input)[0]

    def training(self):
        optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
        optimizer.build(self.model.trainable_variables)
        batch_statistics = self.options.work == "training"

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                logits = tf.cast(self.model(self.input, training=batch_statistics), tf.float32)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(self.labels, logits))
            variables = [v.value for v in self.model.trainable_variables]
            optimizer.apply(tape.gradient(loss, variables), self.model.trainable_variables)
            return loss

        return lambda: step().numpy()

    def output(self):
        return {"output": self.infer().numpy().ravel().tolist()}

    def prepare(self):
        if not self.step:
            self.step = (lambda: self.infer().numpy()) if self.options.work == "inference" else self.training()

    def update(self):
        self.prepare()
        values = lambda: [v.numpy().astype(numpy.float64) for v in self.model.trainable_variables]
        before, loss = values(), float(self.step())
        return {"loss": loss, "change": sum(((after - was) ** 2).sum() for after, was in zip(values(), before)) ** 0.5}

    def steps(self, count):
        self.prepare()
        for _ in range(self.options.warmup):
            self.step()
        self.options.warmup = 0
        return protocol.timed_steps(self.step, count)


if __name__ == "__main__":
    protocol.serve(Stepper, protocol.options())
